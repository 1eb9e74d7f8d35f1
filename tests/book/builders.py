"""Notebooks made in code, good by default, so that each test breaks one thing; none of them is
committed."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import numpy as np
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from mmbook.course import grading
from mmbook.execution import KERNELSPEC, cost_text
from mmbook.words import WORDS

matplotlib.use("agg")
ALT = "One blue line that rises from left to right"


def markdown(source: str, *tags: str) -> NotebookNode:
    return new_markdown_cell(source, metadata={"tags": list(tags)} if tags else {})


def stdout(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def glued(name: str, shown: str, tolerance: float = 0.0) -> NotebookNode:
    return new_output(
        "display_data",
        data={"application/papermill.record/text/plain": repr(shown)},
        metadata={
            "scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"},
            "mmtutor": {"tolerance": tolerance},
        },
    )


def png(pixels: np.ndarray) -> str:
    """Return a base64 PNG of (height, width, 3) bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def picture(content: str | None = None) -> NotebookNode:
    flat = png(np.full((20, 20, 3), 255)) if content is None else content
    return new_output(
        "display_data", data={"image/png": flat, "text/plain": "<Figure size 640x480 with 1 Axes>"}
    )


def code(
    source: str, *outputs: NotebookNode, tags: tuple[str, ...] = (), alt: str | None = None
) -> NotebookNode:
    metadata: dict[str, Any] = {"tags": list(tags)} if tags else {}
    if alt is not None:
        metadata["mystnb"] = {"image": {"alt": alt}}
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def number(nb: NotebookNode) -> NotebookNode:
    """Count nb's code cells as a run from a fresh kernel would."""
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    return nb


def fold(choice: str, feedback: str) -> str:
    return f"<details><summary>{choice}</summary>\n\n{feedback}\n\n</details>\n\n"


def quiz() -> str:
    """Return three questions of two choices each as they should be."""
    folds = fold("Yes.", "Only now and then.") + fold("No.", "Right. It would be too easy.")
    return "## Quiz\n\n" + "".join(
        f"**{number}. Is this the question?**\n\n{folds}" for number in (1, 2, 3)
    )


def notebook(*extra: NotebookNode, **own: Any) -> NotebookNode:
    """Return a lesson that keeps every law, with `extra` cells before its quiz and `own` in
    metadata mmtutor."""
    mmtutor: dict[str, Any] = {"seconds": 2.5, "memory_mb": 300, "cores": 2} | own
    cells = [
        markdown("# Two signals\n\nA sentence."),
        markdown(cost_text(mmtutor), "cost"),
        markdown("## You will be able to\n\n- add"),
        code("print('one and one is', 1 + 1)", stdout("one and one is 2\n")),
        code("glue('sum', 0.5)", glued("sum", "0.5")),
        markdown("Together they make {glue:text}`sum`, as `0.5` in code and $0.5$ in maths."),
        code("x = [1, 2]\nplt.plot(x)\nassert x[0] < x[1]", picture(), alt=ALT),
        *extra,
        markdown(quiz()),
        markdown("## Take-aways\n\n- One."),
    ]
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}, "mmtutor": mmtutor}
    return number(new_notebook(cells=cells, metadata=metadata))


def graded_cell(source: str, grade_id: str, points: float = 1) -> NotebookNode:
    cell = code(source)
    cell.metadata["nbgrader"] = {
        "grade": True,
        "solution": False,
        "locked": True,
        "task": False,
        "grade_id": grade_id,
        "points": points,
        "schema_version": 3,
    }
    return cell


def solution_cell(source: str, grade_id: str) -> NotebookNode:
    cell = code(source, tags=("hide-cell",))
    cell.metadata["mystnb"] = WORDS["en"].prompts
    cell.metadata["nbgrader"] = {
        "grade": False,
        "solution": True,
        "locked": False,
        "task": False,
        "grade_id": grade_id,
        "schema_version": 3,
    }
    return cell


def exercises(*extra: NotebookNode) -> NotebookNode:
    """Return an exercise sheet with one task that is solved and checked as it should be, then
    `extra` cells."""
    solution = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    hidden = "### BEGIN HIDDEN TESTS\nassert double(-1.5) == -3\n### END HIDDEN TESTS"
    check = f"assert double(2) == 4, 'twice two is four'\n{hidden}"
    points = 2 + sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in extra)
    task = (
        f"# Exercises\n\n## 1. Double\n\n*Guided, easy, 10 minutes, {points:g} points.* Complete"
        " `double`."
    )
    cells = [
        markdown(task),
        solution_cell(solution, "double"),
        graded_cell(check, "double-check", 2),
        *extra,
    ]
    return new_notebook(
        cells=cells, metadata={"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    )


def write(nb: NotebookNode, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, str(path))
    return path


def way_here() -> str:
    """Return how this machine can isolate a submission's code: by bubblewrap, or not at all."""
    try:
        return grading.isolation.chosen()
    except grading.isolation.NotIsolated:
        return "none"
