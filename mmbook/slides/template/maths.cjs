// Reads [[tex, display], ...] as JSON from stdin, writes as many strings of MathML; says which formula KaTeX refuses.
const katex = require(require("path").join(process.argv[2], "node_modules", "katex"));
const formulas = JSON.parse(require("fs").readFileSync(0, "utf8"));
const drawn = formulas.map(([tex, displayMode]) => {
  try {
    return katex.renderToString(tex, { displayMode, output: "mathml", throwOnError: true, strict: false });
  } catch (error) {
    process.stderr.write(`${tex}\n${error.message}`);
    process.exit(1);
  }
});
process.stdout.write(JSON.stringify(drawn));
