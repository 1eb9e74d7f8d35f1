"""Measure the built site with Lighthouse: `python -m benchmarks.lighthouse [--runs 3] [--pages 5]
[PAGE ...]`.

Every page named, or the heaviest ones, is loaded from the server of `make serve` (which compresses,
as web hosts do) on a simulated phone and as a desktop, several times each; shown are the medians of
the scores. Performance depends on what else the machine does; accessibility and best practices do
not. Lighthouse comes from npm at the versions and sha512 sums of
`mmbook/site/npm/lighthouse/package-lock.json`, once, into `_build/lighthouse`. Exit status 1: a
score is below its goal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
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
    weights = {
        path.relative_to(folder).as_posix(): sum(parts.values()) - parts["font"]
        for path, parts in site.weight.article_parts(folder).items()
    }
    return sorted(weights, key=weights.get, reverse=True)[:count]


def run(url: str, form: str) -> dict[str, Any]:
    """Return Lighthouse's result for one load of `url`; raises SiteError with what it said when it
    fails."""
    words = [
        site.node(),
        str(home() / "node_modules" / "lighthouse" / "cli" / "index.js"),
        url,
        f"--chrome-flags={' '.join(['--headless=new', *browser.QUIET])}",
        "--output=json",
        "--quiet",
        *PRESETS[form],
        f"--only-categories={','.join(CATEGORIES)}",
        "--no-enable-error-reporting",
    ]
    variables = environment() | {"CHROME_PATH": browser.chromium()}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    result = {} if done.returncode else json.loads(done.stdout)
    if not result or result.get("runtimeError"):
        reason = result["runtimeError"].get("message") if result else done.stderr.strip()
        raise site.SiteError(f"Lighthouse failed on {url} (exit code {done.returncode}):\n{reason}")
    return result


def scores(results: list[dict[str, Any]]) -> dict[str, int]:
    """Return the median score, 0 to 100, of each category."""
    return {
        name: round(100 * median(r["categories"][name]["score"] for r in results))
        for name in CATEGORIES
    }


def below(medians: dict[str, int], form: str) -> list[str]:
    """Return the categories whose score is below the goal."""
    goals = GOALS[form].items()
    return [f"{name} {medians[name]} < {goal}" for name, goal in goals if medians[name] < goal]


def losses(results: list[dict[str, Any]]) -> list[str]:
    """Return the audits that cost points in the last run, the costliest first."""
    last, costs = results[-1], []
    for audit in (a for name in CATEGORIES for a in last["categories"][name]["auditRefs"]):
        entry = last["audits"][audit["id"]]
        if audit["weight"] and entry["score"] is not None and entry["score"] < 0.9:
            lost = audit["weight"] * (1 - entry["score"])
            costs.append((lost, f"{audit['id']} {entry.get('displayValue', '')}".strip()))
    return [text for _, text in sorted(costs, reverse=True)]


def measure(page: str, form: str, address: str, runs: int) -> list[str]:
    """Load a page several times and print its scores; return what is below its goal."""
    results = [run(f"{address}/{page}", form) for _ in range(runs)]
    medians, single = scores(results), [scores([r])["performance"] for r in results]
    shown = "".join(f" {name} {value:3}" for name, value in medians.items())
    print(f"{page:45} {form:8}{shown}  (performance of each run: {single})", flush=True)
    missed = below(medians, form)
    if missed:
        print("    " + "; ".join(losses(results)), flush=True)
    return [f"{page}, {form}: {text}" for text in missed]


def measure_all(names: list[str], count: int, runs: int) -> list[str]:
    """Measure the named pages, or the heaviest ones; return what is below its goal."""
    folder = site.built()
    pages = names or heaviest(folder, count)
    if unknown := [page for page in pages if not (folder / page).is_file()]:
        raise site.SiteError(
            f"the built site has no {', '.join(unknown)}: name pages such as book/intro.html"
        )
    site.install("lighthouse", home(), "Lighthouse (about 150 MB)")
    if hasattr(os, "getloadavg"):
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with site.hosting.server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            return [
                text
                for page in pages
                for form in GOALS
                for text in measure(page, form, address, runs)
            ]
        finally:
            server.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 0, or 1 when a score is below its goal or nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lighthouse", description="Measure the built site."
    )
    parser.add_argument("page", nargs="*", help="such as book/intro.html; default: the heaviest")
    parser.add_argument("--pages", type=int, default=5, help="how many of the heaviest (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="loads of each page (default 3)")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.pages < 1:
        parser.error(f"--runs {options.runs} --pages {options.pages}: both must be at least 1")
    try:
        short = measure_all(options.page, options.pages, options.runs)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(["below the goal:", *short]) if short else "every score reaches its goal")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
