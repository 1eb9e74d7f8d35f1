"""Make a freshly built site light: icon fonts cut to the icons in use, style sheets cut to the
rules in use.

The theme ships 1.5 MB of icon script, 400 KB of icon fonts and 580 KB of CSS, of which a page needs
a tenth. All functions change the folder they are given, so hand them a clean build, never the
sources.
"""

import json
import re
import subprocess
from pathlib import Path

from fontTools import subset

RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
# An icon in CSS, as an escape or as the character itself
ICON = re.compile(r"""["']\\([ef][0-9a-f]{3})\b|([\ue000-\uf8ff])""", re.IGNORECASE)
ICON_CLASS = re.compile(r"\.(fa-[a-z0-9-]+)")
USED_CLASS = re.compile(r"\bfa-[a-z0-9-]+")
LEFTOVERS = (
    "scripts/fontawesome.js*",
    "scripts/*.js.map",
    "styles/*.css.map",
    "*webpack-macros.html",
)


def drop_leftovers(site: Path) -> None:
    """Delete the theme's files that no page loads; its icon script would also make every icon look
    used."""
    for pattern in LEFTOVERS:
        for path in site.glob(f"_static/{pattern}"):
            path.unlink()


def icons_in_use(site: Path) -> set[int]:
    """Return the code points of the icons that a page, a script, or a style rule of an extension
    shows.

    A rule for `.fa-NAME` counts when NAME occurs in a page or script; any other rule with an icon
    (`content`, or a variable) always counts, for its selector may match text that is made later.
    """
    texts = [
        p.read_text(encoding="utf-8")
        for pattern in ("**/*.html", "_static/**/*.js")
        for p in site.glob(pattern)
    ]
    used = {name for text in texts for name in USED_CLASS.findall(text)}
    rules = (
        rule
        for sheet in site.glob("_static/**/*.css")
        for rule in RULE.findall(sheet.read_text(encoding="utf-8"))
    )
    return {
        int(code, 16) if code else ord(character)
        for selector, body in rules
        if not (names := set(ICON_CLASS.findall(selector))) or names & used
        for code, character in ICON.findall(body)
    }


def cut_icon_fonts(site: Path) -> tuple[int, int]:
    """Cut the theme's icon fonts to the icons in use; return their bytes before and after."""
    folder = site / "_static" / "vendor" / "fontawesome" / "webfonts"
    fonts = [*folder.glob("*.woff2"), *folder.glob("*.ttf")]
    points = sorted(icons_in_use(site))
    if not fonts or not points:
        raise RuntimeError(
            f"{len(fonts)} icon fonts and {len(points)} icons under {site}: has the theme changed?"
        )
    before = sum(path.stat().st_size for path in fonts)
    icons = f"--unicodes={','.join(f'{point:x}' for point in points)}"
    for path in fonts:
        flavour = [f"--flavor={path.suffix[1:]}"] if path.suffix == ".woff2" else []
        subset.main([str(path), icons, "--notdef-outline", f"--output-file={path}", *flavour])
    return before, sum(path.stat().st_size for path in fonts)


def purge_css(site: Path, web: Path, node: str) -> tuple[int, int]:
    """Drop unmatched rules from every style sheet with PurgeCSS; return the bytes before and after.

    `web` is the folder with `node_modules` and `purge.mjs`, `node` the executable.
    """
    done = subprocess.run(
        [node, str(web / "purge.mjs"), str(site)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"PurgeCSS failed with exit code {done.returncode}:\n{done.stderr.strip()}"
        )
    report = json.loads(done.stdout)
    return report["before"], report["after"]
