// Drop the CSS rules that no page and no script of the site can match. Usage: node purge.mjs SITE_FOLDER
// Copied beside package.json before it runs, so that `purgecss` resolves there.
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PurgeCSS } from "purgecss";

const site = process.argv[2];
const files = (pattern) => globSync(pattern, { cwd: site }).map((name) => join(site, name));
// The book's own sheet is small, and PurgeCSS drops rules with :is(p, ul) though they match.
const sheets = files("_static/**/*.css").filter((name) => !name.endsWith("site.css"));
const content = [...files("**/*.html"), ...files("_static/**/*.js")];
if (!sheets.length || !content.length) throw new Error(`no style sheets or no pages under ${site}`);

// data-theme and data-mode are written at run time; :not()/:is() around them must survive too, hence greedy.
const results = await new PurgeCSS().purge({ css: sheets, content, safelist: { greedy: [/data-theme/, /data-mode/] } });
let before = 0;
let after = 0;
for (const { file, css } of results) {
  before += readFileSync(file).length;
  after += Buffer.byteLength(css);
  writeFileSync(file, css);
}
console.log(JSON.stringify({ sheets: results.length, before, after }));
