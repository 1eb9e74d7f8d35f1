"""Measure the built site with Lighthouse: `python -m mmbook.site.lighthouse [--runs 3] [--pages 5]
[PAGE ...]`.

Every page named, or the heaviest ones, is loaded from the server of `make serve` (which compresses,
as web hosts do) on a simulated phone and as a desktop, several times each; shown are the medians of
the scores. Performance depends on what else the machine does; accessibility and best practices do
not. Lighthouse comes from npm at the versions and sha512 sums of
`npm/lighthouse/package-lock.json`, once, into `_build/lighthouse`. Exit status 1: a score is below
its goal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from typing import Any

from mmbook import browser, root, site
from mmbook.site.packages import environment

CATEGORIES = ("performance", "accessibility", "best-practices")
GOALS = {
    "desktop": dict.fromkeys(CATEGORIES, 95),
    "mobile": {"performance": 90, "accessibility": 95, "best-practices": 95},
}
PRESETS = {"desktop": ["--preset=desktop"], "mobile": []}  # without a preset it simulates a phone


def home() -> Path:
    """Return where Lighthouse is installed."""
    return root() / "_build" / "lighthouse"


def heaviest(folder: Path, count: int) -> list[str]:
    """Return the names of the `count` heaviest pages of the book, with their pictures, heaviest
    first."""
    pages = [
        path
        for path in folder.rglob("*.html")
        if site.resources.is_article(site.resources.read_page(path))
    ]

    def bytes_of(path: Path) -> int:
        return sum(size for kind, size in site.weight.page_parts(path).items() if kind != "font")

    return [
        path.relative_to(folder).as_posix()
        for path in sorted(pages, key=bytes_of, reverse=True)[:count]
    ]


def command(url: str, form: str, report: Path, chromium: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and environment of one run of Lighthouse over `url`."""
    lighthouse = home()
    flags = " ".join(["--headless=new", *browser.QUIET])
    words = [site.node(), str(lighthouse / "node_modules" / "lighthouse" / "cli" / "index.js"), url]
    words += [
        f"--chrome-flags={flags}",
        "--output=json",
        f"--output-path={report}",
        "--quiet",
        *PRESETS[form],
    ]
    words += [f"--only-categories={','.join(CATEGORIES)}", "--no-enable-error-reporting"]
    return words, environment() | {"CHROME_PATH": chromium}


def run(url: str, form: str, chromium: str) -> dict[str, Any]:
    """Return Lighthouse's result for one load of `url`; raises SiteError with what it said when it
    fails."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words, variables = command(url, form, report, chromium)
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        if done.returncode or not report.is_file():
            raise site.SiteError(
                f"Lighthouse failed on {url} (exit code {done.returncode}):\n{done.stderr.strip()}"
            )
        result = json.loads(report.read_text(encoding="utf-8"))
    if result.get("runtimeError"):
        raise site.SiteError(
            f"Lighthouse could not load {url}: {result['runtimeError'].get('message')}"
        )
    return result


def scores(results: list[dict[str, Any]]) -> dict[str, int]:
    """Return the median score, 0 to 100, of each category."""
    return {
        name: round(100 * median(r["categories"][name]["score"] for r in results))
        for name in CATEGORIES
    }


def below(found: dict[str, int], form: str) -> list[str]:
    """Return the categories whose score is below the goal."""
    return [
        f"{name} {found[name]} < {goal}" for name, goal in GOALS[form].items() if found[name] < goal
    ]


def losses(results: list[dict[str, Any]]) -> list[str]:
    """Return the audits that cost points in the last run, the costliest first."""
    last, found = results[-1], []
    for name in CATEGORIES:
        for audit in last["categories"][name]["auditRefs"]:
            entry = last["audits"][audit["id"]]
            if audit["weight"] and entry["score"] is not None and entry["score"] < 0.9:
                lost = audit["weight"] * (1 - entry["score"])
                found.append((lost, f"{audit['id']} {entry.get('displayValue', '')}".strip()))
    return [text for _, text in sorted(found, reverse=True)]


def measure(pages: list[str], runs: int) -> list[str]:
    """Print a line for each page and form as it comes; return what is below its goal."""
    chromium = browser.chromium()
    site.install("lighthouse", home(), "Lighthouse (about 150 MB)")
    short = []
    with site.hosting.server(site.built(), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for page in pages:
                for form in GOALS:
                    url = f"http://127.0.0.1:{server.server_port}/{page}"
                    results = [run(url, form, chromium) for _ in range(runs)]
                    found, all_runs = scores(results), [scores([r])["performance"] for r in results]
                    line = f"{page:45} {form:8}" + "".join(
                        f" {name} {value:3}" for name, value in found.items()
                    )
                    print(
                        f"{line}  (performance of each run: {', '.join(map(str, all_runs))})",
                        flush=True,
                    )
                    missed = below(found, form)
                    short += [f"{page}, {form}: {text}" for text in missed]
                    if missed:
                        print("    " + "; ".join(losses(results)), flush=True)
        finally:
            server.shutdown()
    return short


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 0, or 1 when a score is below its goal or nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbook.site.lighthouse", description="Measure the built site."
    )
    parser.add_argument("page", nargs="*", help="such as book/intro.html; default: the heaviest")
    parser.add_argument(
        "--pages", type=int, default=5, help="how many of the heaviest pages (default: 5)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        help="loads of each page, of which the median counts (default: 3)",
    )
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.pages < 1:
        parser.error(f"--runs {options.runs} --pages {options.pages}: both must be at least 1")
    try:
        pages = options.page or heaviest(site.built(), options.pages)
        if unknown := [page for page in pages if not (site.built() / page).is_file()]:
            raise site.SiteError(
                f"the built site has no {', '.join(unknown)}: name pages such as book/intro.html"
            )
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
            if hasattr(os, "getloadavg")
            else "",
            flush=True,
        )
        short = measure(pages, options.runs)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(["below the goal:", *short]) if short else "every score reaches its goal")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
