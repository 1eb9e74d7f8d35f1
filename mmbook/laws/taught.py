"""Laws about the package and its chapters: each module's docstring ends with the chapter that
teaches it, and it is true; README's table names every chapter, module and test.

A module that is ahead of its chapter says 'Waits for chapter N.'

A module is taught in a chapter if a notebook of that chapter imports it, itself or through a module
that it imports. Imports are read from the syntax trees, those inside functions included;
`data.load("name")` imports the loader of that name.
"""

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
    return reached | {
        folder for name in reached for folder in accumulate(name.split("."), "{}.{}".format)
    }


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
    return [
        f"{module.file}:1: {fault}"
        for name, module in package.items()
        if not module.file.startswith(EXEMPT)
        for fault in untaught(name, module, folders, taught)
    ]


def untaught(
    name: str, module: Module, folders: dict[int, Path], taught: dict[int, set[str]]
) -> Iterator[str]:
    """Say what is wrong with the sentence of one module."""
    docstring = " ".join((ast.get_docstring(module.body) or "").split())
    sentence = SENTENCE.search(docstring)
    if not sentence and (module.defined or not module.is_folder):
        yield "the docstring does not end with 'Taught in chapter N.'"
    for number in map(int, re.findall(r"\d+", sentence.group() if sentence else "")):
        stands, waits = number in folders, sentence[1] == "Waits for"
        if waits and stands:
            yield f"chapter {number} is there: does it teach this?"
        elif not waits and not stands:
            yield f"there is no chapter {number}"
        elif stands and name not in taught[number]:
            yield f"no notebook of book/{folders[number].name} imports this module"


# README's table: paths in code spans or as targets of links
# -------------------------------------------------------------------------------------------------

START, END = "<!-- chapter table -->", "<!-- end -->"
NAMED = re.compile(r"`([^`\s]+/[^`\s]*|[\w.-]+\.(?:py|ipynb|md))`|\]\(([^)#\s]+)[^)]*\)")
ROOMS = ("book", "mmtutor", "tests")


def _covered(path: Path, root: Path, named: list[str]) -> bool:
    """Return whether a path is named itself, or through a folder of its own below the rooms
    (mmtutor/data/)."""
    relative = path.relative_to(root).as_posix()
    folders = [name.rstrip("/") for name in named if name.rstrip("/") not in ROOMS]
    return any(relative == name or relative.startswith(name + "/") for name in folders)


def chapter_table_problems(root: Path) -> list[str]:
    """The table in root/README.md is true and whole.

    Each path it names exists; each chapter folder of book/ (two digits and a name, holding a
    notebook) and each module of mmtutor/ (not __init__.py) is in it; and each of the three columns
    is there.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    table = re.search(f"{START}(.*?){END}", text, re.DOTALL)
    if text.count(START) != 1 or not table:
        return [f"README.md has no table between {START} and {END}"]
    paths = ((a or b).removeprefix("./") for a, b in NAMED.findall(table[1]))
    named = list(dict.fromkeys(paths))
    chapters = [folder.relative_to(root).as_posix() for folder in chapter_folders(root)]
    modules = [p for p in sorted((root / "mmtutor").rglob("*.py")) if p.name != "__init__.py"]
    uncovered = [p.relative_to(root).as_posix() for p in modules if not _covered(p, root, named)]
    faults = [
        *(f"names {n}, which does not exist" for n in named if not (root / n).exists()),
        *(
            f"the table names nothing in {room}/"
            for room in ROOMS
            if not any(n.startswith(room) for n in named)
        ),
        *(
            f"the table lacks the chapter {chapter}"
            for chapter in chapters
            if not any(f"{n.rstrip('/')}/".startswith(f"{chapter}/") for n in named)
        ),
        *(f"the table lacks the module {name}" for name in uncovered),
    ]
    return [f"README.md: {fault}" for fault in faults]
