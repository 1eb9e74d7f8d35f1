"""Keep pyproject.toml, constraints.txt and environment.yml in step.

python -m mmbook.environment extra book     print the requirements of an extra, for pip
python -m mmbook.environment conda          write environment.yml from pyproject.toml
python -m mmbook.environment freeze         write constraints.txt from what is installed here
"""

import importlib.metadata as metadata
import re
import sys
import tomllib
from contextlib import suppress

from mmbook import root

# conda-forge's names; everything else comes through pip
CONDA = {"torch": "pytorch", "torchvision": "torchvision", "transformers": "transformers"}
TOP = "mmtutor"


def project() -> dict:
    """Return the [project] table of pyproject.toml."""
    return tomllib.loads((root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def extra(name: str) -> list[str]:
    """Return the requirements of one optional extra; KeyError names the known ones."""
    extras = project()["optional-dependencies"]
    if name not in extras:
        raise KeyError(f"unknown extra {name!r}, expected one of {sorted(extras)}")
    return extras[name]


def requirements() -> list[str]:
    """Return every direct requirement: the package's own and those of all extras."""
    table = project()
    return [
        *table["dependencies"],
        *(r for rs in table["optional-dependencies"].values() for r in rs),
    ]


def distribution(requirement: str) -> str:
    """Return the normalised distribution name of a requirement such as "Foo_Bar>=1,<2"."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def conda() -> str:
    """Return environment.yml: Python and the torch family from conda-forge, the rest by pip, ranges
    as in pyproject."""
    by_name = {distribution(r): r for r in requirements()}
    lines = [
        (
            "# Written by `python -m mmbook.environment conda` from pyproject.toml; a test keeps"
            " the two in step."
        ),
        "name: mmtutor",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f'  - "python{project()["requires-python"]}"',
        *(f'  - "{CONDA[n]}{by_name[n][len(n) :]}"' for n in CONDA),
        "  - pip",
        "  - pip:",
        *(f'    - "{r}"' for n, r in by_name.items() if n not in CONDA),
        "    - --editable .",
    ]
    return "\n".join(lines) + "\n"


def freeze() -> str:
    """Return constraints.txt: the exact versions of everything the project needs, as installed in
    this environment."""
    wanted, seen = [distribution(r) for r in requirements()], {TOP: ""}
    while wanted:
        if (name := wanted.pop()) not in seen:
            with suppress(metadata.PackageNotFoundError):  # needed on another platform only
                found = metadata.distribution(name)
                # a local version such as +cpu names a build: any build of the release will do
                seen[name] = found.version.split("+")[0]
                needed = (r for r in found.requires or [] if "extra ==" not in r)
                wanted += map(distribution, needed)
    return (
        "# Written by `python -m mmbook.environment freeze`: the exact versions that make installs"
        " and CI tests.\n"
    ) + "".join(f"{n}=={v}\n" for n, v in sorted(seen.items()) if v)


def main(arguments: list[str]) -> None:
    """Carry out one command of the module's docstring."""
    match arguments:
        case ["extra", name]:
            print(" ".join(extra(name)))
        case ["conda"]:
            (root() / "environment.yml").write_text(conda(), encoding="utf-8")
        case ["freeze"]:
            (root() / "constraints.txt").write_text(freeze(), encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
