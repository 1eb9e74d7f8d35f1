"""How submissions are run in this course: with care. `nbgrader_config.py` puts this in the place of
nbgrader's Execute.

- A student's cell that imports, names or does what REFUSED says is not run; the student reads why,
line by line.
- Before each of the course's own cells, names that students have covered or changed are put back:
built-in functions,
  and what the course's cells have imported or defined.
- A cell that runs too long is interrupted. If it does not stop, the kernel is ended: later checks
count as not passed.
- An error counts whatever a cell has shown before it; a warning costs nothing.

This stops known tricks, by accident or by design. It is no prison: Python cannot lock code in from
inside.
"""

import ast
import builtins
from typing import Any

from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.nbgraderformat.common import SchemaMismatchError, ValidationError
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3
from nbgrader.preprocessors import DeduplicateIds, Execute
from nbgrader.utils import is_grade, is_locked
from traitlets import Integer, List, Unicode


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


ALLOWED_MODULES = words(
    "__future__ abc collections copy dataclasses enum fractions functools heapq itertools math"
    " numbers operator random re statistics string time typing unicodedata warnings matplotlib"
    " mmtutor numpy pandas scipy skimage sklearn torch"
)
REFUSED_NAMES = words(
    "__builtins__ __import__ In Out breakpoint compile delattr eval exec exit get_ipython globals"
    " input locals open quit setattr vars"
)
REFUSED_ATTRIBUTES = words(
    "builtins displayhook f_back f_globals f_locals fromfile genfromtxt gi_frame io load"
    " load_state_dict_from_url loadtxt memmap modules nbgrader open os patch pathlib popen read_csv"
    " read_excel read_json read_parquet read_pickle read_sql read_table shutil subprocess sys"
    " system tb_frame"
)
DUNDERS = words(
    "__call__ __class__ __dict__ __doc__ __enter__ __exit__ __getitem__ __init__ __iter__ __len__"
    " __name__ __next__ __post_init__ __repr__"
)

KEEPER = """
def _course_keeper(step, names):
    import builtins, sys
    space = get_ipython().user_ns
    box = sys.modules.setdefault("_course_box", {"names": {}, "parts": {}, "before": {}})
    is_kept = lambda value: callable(value) or type(value).__name__ == "module"
    if step == "back":
        for name in names:
            if name in box["names"]:
                space[name] = box["names"][name]
            elif hasattr(builtins, name):
                space.pop(name, None)
        for (part, name), real in box["parts"].items():
            if vars(part).get(name) is not real:
                setattr(part, name, real)
        box["before"] = dict(space)
    else:
        public = {name: value for name, value in space.items() if not name.startswith("_")}
        new = {k: v for k, v in public.items() if box["before"].get(k) is not v}
        box["names"].update({name: value for name, value in new.items() if is_kept(value)})
        known = [m for m in box["names"].values() if type(m).__name__ == "module"]
        others = ("builtins", "torch.testing", "numpy.testing")
        known += [sys.modules[name] for name in others if name in sys.modules]
        for part in known:
            for k, v in list(vars(part).items()):
                if is_kept(v) and not k.startswith("__"):
                    box["parts"].setdefault((part, k), v)
_course_keeper(%r, %r)
del _course_keeper
"""
LIMIT = (
    "import resource; resource.setrlimit(resource.RLIMIT_DATA, (%d << 20, %d << 20)); del resource"
)


def names_in(source: str) -> set[str]:
    """Return the names that a cell reads, binds, imports or defines. Commands of IPython (% and !)
    count as `pass`."""
    lines = [
        line if not line.lstrip().startswith(("%", "!")) else line[: -len(line.lstrip())] + "pass"
        for line in source.splitlines()
    ]
    nodes = list(ast.walk(ast.parse("\n".join(lines))))
    aliases = (node.asname or node.name for node in nodes if isinstance(node, ast.alias))
    return {
        *(node.id for node in nodes if isinstance(node, ast.Name)),
        *(name.partition(".")[0] for name in aliases),
        *(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)),
    }


def root(node: ast.AST) -> str:
    """Return the name at the front of a.b[c].d, or ''."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def refusals(source: str, kept: set[str], modules: list[str] = ALLOWED_MODULES) -> list[str]:
    """Return why a student's cell may not run, one sentence for each reason; empty if it may.

    kept: the names that the course's own cells use; their attributes and global values may not be
    changed. A cell that is no Python is let through: running it shows its syntax error.
    """
    magic = [
        f"line {number}: commands of the shell or of IPython (% and !) are not run here"
        for number, line in enumerate(source.splitlines(), 1)
        if line.lstrip().startswith(("%", "!", "?"))
    ]
    if magic:
        return magic
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    reasons = {
        (getattr(node, "lineno", 0), text)
        for node in ast.walk(tree)
        for text in _refused(node, kept, modules)
    }
    return [f"line {line}: {text}" for line, text in sorted(reasons)]


def is_hidden(name: str) -> bool:
    """Return whether a name is one of Python's own that is not allowed here."""
    return name.startswith("__") and name not in DUNDERS


def _refused(node: ast.AST, kept: set[str], modules: list[str]) -> list[str]:
    """Return what is refused about one node of the syntax tree."""
    match node:
        case ast.Import(names=aliases):
            bad = [a.name for a in aliases if a.name.partition(".")[0] not in modules]
            return [f"`import {name}` is not allowed in this course" for name in bad]
        case ast.ImportFrom(module=module, names=aliases):
            members = [a.name for a in aliases if a.name in REFUSED_ATTRIBUTES]
            source = module or "."
            bad = members if source.partition(".")[0] in modules else [source, *members]
            return [f"`import {name}` is not allowed in this course" for name in bad]
        case ast.Name(id=name) if name in REFUSED_NAMES:
            return [f"`{name}` is not allowed in this course"]
        case ast.Attribute(attr=name) if name in REFUSED_ATTRIBUTES or is_hidden(name):
            return [f"`.{name}` is not allowed in this course"]
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()) if root(
            node
        ) in kept or name.startswith("__"):
            return [
                f"`{ast.unparse(node)} = ...` changes what the checks use: give your own thing its"
                " own name"
            ]
        case ast.FunctionDef(name=name) if is_hidden(name):
            return [
                f"`def {name}` is not allowed: the checks compare what you return with Python's own"
                " rules"
            ]
        case ast.Global(names=names):
            bad = [name for name in names if name in kept or hasattr(builtins, name)]
            return [f"`global {name}` changes what the checks use" for name in bad]
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]) if (
            not name.startswith("__") and name not in REFUSED_ATTRIBUTES
        ):
            return []
        case ast.Call(func=ast.Name(id="getattr")):
            return ["`getattr` is allowed with a plain name in quotes only"]
    return []


class CleanIds(DeduplicateIds):
    """Of copies of a cell keep the last one's metadata, and let no damaged metadata stop the run of
    the whole class.

    nbgrader's own step leaves empty metadata behind; a later step takes them for an old format, and
    all grading ends.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Drop metadata that nbgrader cannot read, before and after copies are dealt with."""
        self.drop(nb)
        nb, resources = super().preprocess(nb, resources)
        self.drop(nb)
        return nb, resources

    @staticmethod
    def drop(nb: NotebookNode) -> None:
        """Remove nbgrader's metadata from each cell where they are not whole."""
        validator = MetadataValidatorV3()
        for cell in nb.cells:
            try:
                validator.validate_cell(cell)
            except (ValidationError, SchemaMismatchError, AttributeError, TypeError):
                del cell.metadata["nbgrader"]


class CarefulExecute(Execute):
    """Run a submission's cells one by one; never let one student's code end the run of the
    others."""

    memory_mb = Integer(
        4096, help="Memory of a submission's kernel in MB, 0 for no limit. Works on Linux."
    ).tag(config=True)
    allowed_modules = List(
        Unicode(), ALLOWED_MODULES, help="Modules that students may import."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, *args: Any, **kwargs: Any) -> tuple[NotebookNode, dict]:
        """Run nb; its own kernel is prepared before the first cell."""
        self.ended, self.kept = "", set()
        self.limit = LIMIT % (self.memory_mb, self.memory_mb) if self.memory_mb else ""
        return super().preprocess(nb, *args, **kwargs)

    def aside(self, code: str) -> None:
        """Run code that is no cell, without a trace in the notebook."""
        self.wait_for_reply(self.kc.execute(code, silent=True, store_history=False))

    def fail(self, cell: NotebookNode, name: str, text: str) -> None:
        """Let a cell end in an error that the course gives."""
        cell.outputs = [new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])]

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Run one cell, or say why not."""
        if cell.cell_type != "code" or not cell.source.strip():
            return cell, resources
        own = is_locked(cell)
        reasons = [] if own else refusals(cell.source, self.kept, self.allowed_modules)
        if self.ended:
            self.fail(cell, "NotRun", self.ended)
        elif reasons:
            self.fail(cell, "Refused", "this cell was not run. " + "; ".join(reasons) + ".")
        else:
            try:
                self.run_cell(cell, resources, index, own)
            except (CellTimeoutError, DeadKernelError) as error:
                end, how = f"the kernel was ended in cell {index}", type(error).__name__
                self.ended = f"{end} ({how}), so nothing after it could run"
                self.fail(cell, how, self.ended)
                self.end_kernel()
            if is_grade(cell):
                self.settle(cell)
        return cell, resources

    def run_cell(self, cell: NotebookNode, resources: dict, index: int, own: bool) -> None:
        """Run a cell; around one of the course's own, put back its names and remember the new
        ones."""
        if self.limit:
            self.aside(self.limit)
            self.limit = ""
        if own:
            self.kept |= names_in(cell.source)
            self.aside(KEEPER % ("back", sorted(self.kept)))
        super().preprocess_cell(cell, resources, index)
        if own:
            self.aside(KEEPER % ("keep", []))

    def end_kernel(self) -> None:
        """Kill the kernel if it still lives."""
        try:
            run_sync(self.km.shutdown_kernel)(now=True)
        except Exception as error:  # whatever it was, the next submission must be graded
            self.log.warning("ending the kernel: %s", error)

    @staticmethod
    def settle(cell: NotebookNode) -> None:
        """nbgrader reads outputs in order, and a warning as failure: put errors first, and keep
        warnings as text."""
        for output in cell.outputs:
            if output.output_type == "stream":
                output.name = "stdout"
        shown = [output for output in cell.outputs if output.output_type != "execute_result"]
        cell.outputs = sorted(shown, key=lambda output: output.output_type != "error")
