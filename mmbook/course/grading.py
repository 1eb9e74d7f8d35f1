"""How submissions are run in this course: with care. `nbgrader_config.py` puts these steps in the
place of nbgrader's own.

- No code is refused for its words. What it can do is the operating system's affair: `isolation.py`.
- Before each of the course's own cells, names that students have covered or changed are put back:
  built-in functions, and what the course's cells have imported or defined (`keeper.py`).
- A cell that runs too long is interrupted. If it does not stop, the kernel is ended: later checks
  count as not passed.
- An error counts whatever a cell has shown before it; a warning costs nothing.

Within its own kernel a submission can still deceive: Python cannot lock code in from inside. So
look at those that got all points.
"""

import ast
import re
import sys
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.nbgraderformat.common import SchemaMismatchError, ValidationError
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3
from nbgrader.preprocessors import DeduplicateIds, Execute, OverwriteCells
from nbgrader.utils import is_grade, is_locked
from traitlets import Integer

sys.path.insert(0, str(Path(__file__).resolve().parent))  # isolation.py lies here

import isolation

KEEPER = Path(__file__).with_name("keeper.py").read_text(encoding="utf-8")
# The module is made from its text: the kernel cannot read this folder
BEGIN = f"""import sys, types
sys.modules["_course"] = types.ModuleType("_course")
exec({KEEPER!r}, vars(sys.modules["_course"]))
del sys, types
import _course
_course.space = get_ipython().user_ns
_course.remember()
del _course"""
STEP = "import _course; _course.%s; del _course"
HIDDEN = re.compile(
    r"^\s*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.MULTILINE | re.DOTALL
)
# What browsers, JupyterLab and Colab make of the name of a second download or a copy
SECOND = r"(?:Copy of |Kopie von )?%s(?: ?\(\d+\)|-Copy\d*|-\d+| \(copy\)| copy)?\.ipynb"


def names_in(source: str) -> set[str]:
    """Return the names that a cell reads, binds, imports or defines; none of a cell that is no
    Python."""
    try:
        nodes = list(ast.walk(ast.parse(TransformerManager().transform_cell(source))))
    except SyntaxError:
        return set()
    aliases = (node.asname or node.name for node in nodes if isinstance(node, ast.alias))
    return {
        *(node.id for node in nodes if isinstance(node, ast.Name)),
        *(name.partition(".")[0] for name in aliases),
        *(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)),
    }


def accept_second_downloads(submitted: Path) -> None:
    """Give `02_features (1).ipynb` its name back, the newest of several, where no notebook has
    it."""
    for folder in submitted.glob("*/*/"):
        wanted = folder / f"{folder.name}.ipynb"
        pattern = re.compile(SECOND % re.escape(folder.name), re.IGNORECASE)
        like = [path for path in folder.glob("*.ipynb") if pattern.fullmatch(path.name)]
        if like and not wanted.exists():
            max(like, key=lambda path: path.stat().st_mtime).rename(wanted)


class PutBack(OverwriteCells):
    """Put checks and given cells back, and say so only of those that the student has changed.

    nbgrader's own step warns of every check with a hidden test, for students are given it without.
    """

    def report_change(self, name: str, attr: str, old: Any, new: Any) -> None:
        """Say what has changed, but for checksums."""
        if attr != "checksum":
            super().report_change(name, attr, old, new)

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Put one cell back; name it if the student has changed it."""
        given = cell.source
        cell, resources = super().preprocess_cell(cell, resources, index)
        if cell.source != given and HIDDEN.sub("", cell.source).strip() != given.strip():
            self.log.warning("cell %d was changed by the student: it is put back", index)
        return cell, resources


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

    def __init__(self, *args: Any, **options: Any) -> None:
        """Run kernels in isolation."""
        super().__init__(*args, kernel_manager_class=isolation.IsolatedKernel, **options)

    def preprocess(self, nb: NotebookNode, *args: Any, **kwargs: Any) -> tuple[NotebookNode, dict]:
        """Run nb in its own kernel, which is prepared before the first cell. Raises NotIsolated
        before any code is run."""
        self.ended, self.kept, self.way, self.begun = "", set(), isolation.chosen(), False
        return super().preprocess(nb, *args, **kwargs)

    def create_kernel_manager(self) -> isolation.IsolatedKernel:
        """Return the manager of a kernel that will start in isolation."""
        self.km = super().create_kernel_manager()
        self.km.way, self.km.memory_mb = self.way, self.memory_mb
        return self.km

    def aside(self, code: str) -> None:
        """Run code that is no cell, without a trace in the notebook. Raises DeadKernelError where a
        submission has broken what the course needs in its kernel."""
        for _ in range(2):  # an interrupt that was meant for the cell before may come late
            reply = self.wait_for_reply(self.kc.execute(code, silent=True, store_history=False))
            if reply and reply["content"]["status"] == "ok":
                return
        raise DeadKernelError("a cell has broken what the checks need")

    def fail(self, cell: NotebookNode, name: str, text: str) -> None:
        """Let a cell end in an error that the course gives."""
        cell.outputs = [new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"])]

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Run one cell, or say why not."""
        if cell.cell_type != "code" or not cell.source.strip():
            return cell, resources
        if self.ended:
            self.fail(cell, "NotRun", self.ended)
        else:
            try:
                self.run_cell(cell, resources, index, is_locked(cell))
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
        if not self.begun:
            self.begun = True
            self.aside(BEGIN)
        if own:
            self.kept |= names_in(cell.source)
            self.aside(STEP % f"put_back({sorted(self.kept)!r})")
        super().preprocess_cell(cell, resources, index)
        if own:
            self.aside(STEP % "remember()")

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
