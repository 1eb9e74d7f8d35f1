"""Run every benchmark and print one table; exit 1 if a limit is broken.

A benchmark is a module here with `rows() -> list[Row]`. `python -m benchmarks training` runs one
module only.
"""

from __future__ import annotations

import importlib
import sys

from benchmarks.measure import Row, as_table

MODULES = ("training", "processes", "encoders", "fusion", "information", "alignment", "sentiment")


def main(names: list[str]) -> int:
    """Print the table of the named modules (default: all)."""
    if unknown := [n for n in names if n not in MODULES]:
        sys.exit(f"unknown benchmark {unknown}, expected some of {list(MODULES)}")
    rows: list[Row] = []
    for name in names or MODULES:
        print(f"running {name} ...", file=sys.stderr)
        rows += importlib.import_module(f"benchmarks.{name}").rows()
    print(as_table(rows))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
