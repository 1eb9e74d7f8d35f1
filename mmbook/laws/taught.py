"""The law about the package: each module's docstring ends with the chapter that teaches it, and it
is true. One that is ahead of its chapter says 'Waits for chapter N.'

A module is taught in a chapter if a notebook of that chapter imports it, itself or through a module
that it imports. Imports are read from the syntax trees, those inside functions included;
`data.load("name")` imports the loader of that name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from mmbook.reading import ROOT, Notebook, called_name, chapter_folders, tree

PACKAGE, LOADERS = "mmtutor", "mmtutor.data."
EXEMPT = ("mmtutor/apps/", "mmtutor/cli.py")  # products built on the core: no chapter teaches them
SENTENCE = re.compile(r"\b(Taught in|Waits for) (?:chapter \d+|chapters \d[\d, ]* and \d+)\.$")


@dataclass
class Module:
    """A module of the package: its file from the root, its syntax tree, and whether it is the
    `__init__` of a folder."""

    file: str
    body: ast.Module
    is_folder: bool

    @property
    def defined(self) -> set[str]:
        """The names of the functions and classes that it defines itself."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return {node.name for node in self.body.body if isinstance(node, kinds)}


def read_package(root: Path) -> dict[str, Module]:
    """Return dotted name → module; the name of a folder stands for its `__init__`."""
    package = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        inner, is_folder = path.relative_to(root), path.name == "__init__.py"
        name = ".".join(inner.parent.parts if is_folder else inner.with_suffix("").parts)
        body = ast.parse(path.read_text(encoding="utf-8"))
        package[name] = Module(inner.as_posix(), body, is_folder)
    return package


def imports(code: ast.AST, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each import in a syntax tree; name is '' for `import module`.

    above: the folder that the code's relative imports start from.
    """
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = above.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield from ((module, alias.name) for alias in node.names)


def loaders(code: ast.AST, package: dict[str, Module]) -> list[tuple[str, str]]:
    """Return as imports the loaders of the sets that code names in strings, where it calls `load`:
    modules of that name in mmtutor/data, or that define a function of that name there."""
    nodes = list(ast.walk(code))
    names = {node.value for node in nodes if isinstance(node, ast.Constant)}
    calls = any(called_name(node) == "load" for node in nodes)
    return [
        (name, "")
        for name, module in package.items()
        if calls and name.startswith(LOADERS)
        if names & {*module.defined, name.removeprefix(LOADERS)}
    ]


def resolve(module: str, name: str, package: dict[str, Module]) -> str:
    """Return the module that `from module import name` leads to, through what folders pass on."""
    if f"{module}.{name}" in package:
        return f"{module}.{name}"
    folder = package.get(module)
    for source, passed_on in imports(folder.body, module) if folder and folder.is_folder else ():
        if passed_on == name and source != module:
            return resolve(source, name, package)
    return module


def closure(named: Iterable[tuple[str, str]], package: dict[str, Module]) -> set[str]:
    """Return all modules of the package that a list of imports (module, name) leads to."""
    waiting, reached = [resolve(*pair, package) for pair in named], set()
    while waiting:
        name = waiting.pop()
        if name in package and name not in reached:
            reached.add(name)
            above = name if package[name].is_folder else name.rpartition(".")[0]
            inside = imports(package[name].body, above)
            waiting += [resolve(*pair, package) for pair in inside]
    # importing a module runs the `__init__` of every folder above it
    return reached | {folder for name in reached for folder in accumulate(name.split("."), _dotted)}


def _dotted(above: str, name: str) -> str:
    return f"{above}.{name}"


def chapter_imports(folder: Path, package: dict[str, Module]) -> set[str]:
    """Return all modules of the package that the notebooks of a chapter import."""
    named: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.ipynb")):
        cells = Notebook.read(path).cells("code")
        code = ast.Module([part for _, cell in cells for part in tree(cell.source).body], [])
        named += [*imports(code), *loaders(code, package)]
    return closure(named, package)


def taught_problems(root: Path = ROOT) -> list[str]:
    """Return what is wrong: no sentence, no such chapter, or a chapter that does not import the
    module. An `__init__` that defines nothing, but passes on names, needs no sentence."""
    package = read_package(root)
    folders = {int(folder.name[:2]): folder for folder in chapter_folders(root)}
    taught = {number: chapter_imports(folder, package) for number, folder in folders.items()}
    problems = []
    for name, module in package.items():
        docstring = " ".join((ast.get_docstring(module.body) or "").split())
        sentence = SENTENCE.search(docstring)
        waits = sentence and sentence[1] == "Waits for"
        if module.file.startswith(EXEMPT):
            continue
        if not sentence and (module.defined or not module.is_folder):
            end = "the docstring does not end with 'Taught in chapter N.'"
            problems.append(f"{module.file}:1: {end}")
        for number in map(int, re.findall(r"\d+", sentence.group() if sentence else "")):
            if waits and number in folders:
                problems.append(f"{module.file}:1: chapter {number} is there: does it teach this?")
            elif waits:
                continue
            elif number not in folders:
                problems.append(f"{module.file}:1: there is no chapter {number}")
            elif name not in taught[number]:
                where = folders[number].relative_to(root).as_posix()
                problems.append(f"{module.file}:1: no notebook of {where} imports this module")
    return problems
