"""Build what a class needs into _build/classroom: `python -m mmbook.classroom [CHAPTER ...]`.

student/CHAPTER/        the notebook without solutions and hidden tests, and small files it reads;
                        what the branch `student` holds, with what Binder installs
instructor/CHAPTER/     the same with everything, outputs as stored
release/CHAPTER.zip     the student's folder and how to start; the same bytes on every run
course/                 a course folder in which `nbgrader autograde CHAPTER` grades as it is
"""

import ast
import copy
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mmbook import environment, exercises, launch, sheets
from mmbook.execution import save
from mmbook.reading import ROOT, book_sheets, tree

OUT = ROOT / "_build" / "classroom"
COURSE = Path(__file__).resolve().parent / "course"
LARGEST = 1_000_000  # bytes of a file that travels with a notebook
MOMENT = (1980, 1, 1, 0, 0, 0)  # the first one that a zip can hold: no build differs from another
START = """How to start
============

This folder holds the exercises of one chapter of mmtutor, a book on multimodal AI: {site}

1. Python 3.11 or newer; then:  pip install jupyterlab "{package}"
2. In this folder:  jupyter lab {name}.ipynb

The first cell of the notebook says how it works, and how to hand it in.
"""
BINDER = "jupyterlab>=4.2\n{package}\n"  # requirements.txt of the branch `student`


class ClassroomError(RuntimeError):
    """The classroom cannot be built; the message says what is wrong and what to do."""


def files_of(nb: NotebookNode, folder: Path) -> list[Path]:
    """Return the files, relative to `folder`, that a notebook's code names in a string.

    Raises ClassroomError for a large one.
    """
    texts = {
        node.value
        for cell in nb.cells
        if cell.cell_type == "code"
        for node in ast.walk(tree(cell.source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = sorted(Path(t) for t in texts if may_name_a_file(t) and (folder / t).is_file())
    if large := [folder / name for name in named if (folder / name).stat().st_size > LARGEST]:
        raise ClassroomError(
            f"{large[0]} is larger than {LARGEST} bytes: too much to hand out with a notebook"
        )
    return named


def may_name_a_file(text: str) -> bool:
    """Return whether a text could be a file's name: one line, not too long, and not only dots."""
    return 0 < len(text) < 200 and "\n" not in text and bool(text.strip("./"))


def course_source(nb: NotebookNode) -> NotebookNode:
    """Return a sheet in which the cells that are given to students are locked too, so that grading
    puts them back."""
    locked = copy.deepcopy(nb)
    for place, cell in enumerate(locked.cells):
        if cell.cell_type == "code" and "nbgrader" not in cell.metadata:
            cell.metadata["nbgrader"] = NotebookNode(
                {"grade": False, "solution": False, "locked": True, "task": False}
                | {"grade_id": f"given-{place}", "schema_version": sheets.SCHEMA}
            )
    return locked


def write_zip(folder: Path, name: str, target: Path) -> None:
    """Pack a student's folder and how to start, in the order of names, without times or owners."""
    target.parent.mkdir(parents=True, exist_ok=True)
    packed = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    packed["README.txt"] = START.format(
        name=name, site=environment.project()["urls"]["Homepage"], package=launch.package()
    ).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for inner, content in sorted(packed.items()):
            entry = zipfile.ZipInfo(f"{name}/{inner}", MOMENT)
            entry.external_attr, entry.create_system = 0o644 << 16, 3  # a plain file of Unix
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)


def nbgrader(course: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run nbgrader in the course folder, with this Python, this repository's mmtutor, and variables
    of the environment."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        env=os.environ | {"PYTHONPATH": path} | variables,
        capture_output=True,
        text=True,
    )


def build(chapters: Sequence[str] = (), out: Path = OUT) -> Path:
    """Build the classroom of the chapters (none: all of them) into `out`, which is emptied first;
    returns `out`."""
    paths = {path.parent.name: path for path in book_sheets()}
    if unknown := sorted(set(chapters) - set(paths)):
        raise ClassroomError(f"no chapter {', '.join(unknown)}; there are {', '.join(paths)}")
    if any((out / "course" / "submitted").glob("*/*")):
        raise ClassroomError(
            f"{out / 'course' / 'submitted'} holds submissions: move that course away first"
        )
    sheets.check_forms()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(
        COURSE, out / "course", ignore=shutil.ignore_patterns("__pycache__", "__init__.py")
    )
    chosen = list(chapters or paths)
    for name in chosen:
        write_editions(name, paths[name], out)
    made = nbgrader(out / "course", "generate_assignment", "*")  # all of them in one process
    if made.returncode:
        raise ClassroomError(f"nbgrader cannot make the assignments:\n{made.stderr[-3000:]}")
    requirements = BINDER.format(package=launch.package())
    (out / "student" / "requirements.txt").write_text(requirements, encoding="utf-8")
    for name in chosen:
        write_zip(out / "student" / name, name, out / "release" / f"{name}.zip")
    return out


def write_editions(name: str, path: Path, out: Path) -> None:
    """Write the editions of the sheet at path for instructors, course and students, with the files
    that it reads."""
    nb = nbformat.read(path, as_version=4)
    source = course_source(exercises.for_class(nb, name))
    editions = {
        "instructor": nb,
        "course/source": exercises.without_outputs(source),
        "student": exercises.student_edition(source),
    }
    for home, edition in editions.items():
        target = out / home / name
        target.mkdir(parents=True)
        save(edition, target / f"{name}.ipynb")
        for file in files_of(nb, path.parent):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parent / file, target / file)


def main(chapters: Sequence[str]) -> int:
    """Build the classroom of these chapters, folders in book/ (none: all of them), and say where;
    returns the exit status."""
    try:
        out = build(chapters)
    except RuntimeError as error:  # ours, or a sheet of bad form
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The classroom is in {out}; {out / 'course' / 'README.md'} says how to grade.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
