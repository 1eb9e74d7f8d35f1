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

DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
PACKAGE, LOADERS = "mmtutor", "mmtutor.data."
EXEMPT = ("mmtutor/apps/", "mmtutor/cli.py")  # products built on the core: no chapter teaches them
SENTENCE = re.compile(r"\b(Taught in|Waits for) (?:chapter \d+|chapters \d[\d, ]* and \d+)\.$")


Imported = tuple[str, str]
"""(module, name) of one import; name is '' for `import module`."""


@dataclass
class Module:
    """A module of the package: its file from the root, whether it is the `__init__` of a folder,
    its docstring in one line, the functions and classes that it defines itself, what it imports."""

    file: str
    is_folder: bool
    docstring: str
    defined: set[str]
    imported: list[Imported]


def read_package(root: Path) -> dict[str, Module]:
    """Return dotted name → module; the name of a folder stands for its `__init__`."""
    package = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        inner, is_folder = path.relative_to(root), path.name == "__init__.py"
        folder = ".".join(inner.parent.parts)
        body = ast.parse(path.read_text(encoding="utf-8"))
        package[folder if is_folder else f"{folder}.{path.stem}"] = Module(
            inner.as_posix(),
            is_folder,
            docstring=" ".join((ast.get_docstring(body) or "").split()),
            defined={node.name for node in body.body if isinstance(node, DEFINITIONS)},
            imported=list(imports(body, folder)),
        )
    return package


def imports(code: ast.AST, above: str = "") -> Iterator[Imported]:
    """Yield each import in a syntax tree, whose relative ones start from the folder `above`."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = above.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield from ((module, alias.name) for alias in node.names)


def loaders(code: ast.AST, package: dict[str, Module]) -> list[Imported]:
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
    for source, passed_on in folder.imported if folder and folder.is_folder else ():
        if passed_on == name and source != module:
            return resolve(source, name, package)
    return module


def closure(named: Iterable[Imported], package: dict[str, Module]) -> set[str]:
    """Return all modules of the package that a list of imports leads to."""
    reached: set[str] = set()
    while new := {resolve(*one, package) for one in named} & package.keys() - reached:
        reached |= new
        named = [one for name in new for one in package[name].imported]
    # importing a module runs the `__init__` of every folder above it
    return reached | {
        folder for name in reached for folder in accumulate(name.split("."), "{}.{}".format)
    }


def chapter_imports(folder: Path, package: dict[str, Module]) -> set[str]:
    """Return all modules of the package that the notebooks of a chapter import."""
    named: list[Imported] = []
    for page in map(Notebook.read, sorted(folder.glob("*.ipynb"))):
        trees = (tree(cell.source) for _, cell in page.cells("code"))
        # one tree for the page: the cell that calls `load` need not be the one that names the set
        code = ast.Module([statement for part in trees for statement in part.body], [])
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
    sentence = SENTENCE.search(module.docstring)
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
    named = list(dict.fromkeys((a or b).removeprefix("./") for a, b in NAMED.findall(table[1])))
    chapters = [folder.relative_to(root).as_posix() for folder in chapter_folders(root)]
    covering = [root / name for name in named if name.rstrip("/") not in ROOMS]
    faults = [
        *(f"names {name}, which does not exist" for name in named if not (root / name).exists()),
        *(
            f"the table names nothing in {room}/"
            for room in ROOMS
            if not any(name.startswith(room) for name in named)
        ),
        *(
            f"the table lacks the chapter {chapter}"
            for chapter in chapters
            if not any(Path(name).is_relative_to(chapter) for name in named)
        ),
        *(
            f"the table lacks the module {module.relative_to(root).as_posix()}"
            for module in sorted((root / PACKAGE).rglob("*.py"))
            if module.name != "__init__.py" and not any(map(module.is_relative_to, covering))
        ),
    ]
    return [f"README.md: {fault}" for fault in faults]
