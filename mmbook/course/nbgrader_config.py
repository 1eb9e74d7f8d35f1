"""nbgrader's settings for this course; README.md beside this file explains them."""

import importlib.util
import os
import sys
from pathlib import Path

from traitlets.config import Config

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # grading.py lies here
if importlib.util.find_spec("mmtutor") is None and "autograde" in sys.argv:
    sys.exit("error: the exercises import mmtutor, which this Python lacks: pip install it first")

import grading  # noqa: E402
from isolation import NotIsolated, chosen  # noqa: E402
from nbgrader import preprocessors as step  # noqa: E402

if "autograde" in sys.argv:
    try:
        chosen()
    except NotIsolated as error:
        sys.exit(f"error: {error}")
    grading.accept_second_downloads(HERE / "submitted")

# nbgrader calls alembic, which lies beside this Python
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
# the kernel of this environment, not one from the home folder
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")
late = "this cell took too long and was interrupted"
handed_in = sorted({folder.name for folder in HERE.glob("submitted/*/*")})

c = get_config()  # noqa: F821
c.merge(
    Config(
        {
            "CourseDirectory": {"root": str(HERE), "course_id": "mmtutor"},
            "Exchange": {"root": str(HERE / "exchange")},  # where students on a hub hand in: hub.py
            "Autograde": {
                "sanitize_preprocessors": [
                    step.ClearOutput,
                    grading.CleanIds,
                    step.OverwriteKernelspec,
                    grading.PutBack,
                    step.CheckCellMetadata,
                ],
                "autograde_preprocessors": [
                    grading.CarefulExecute,
                    step.LimitOutput,
                    step.SaveAutoGrades,
                    step.AssignLatePenalties,
                    step.CheckCellMetadata,
                ],
            },
            "Execute": {
                # One cell may take so many seconds; then it is interrupted, and the next cell runs.
                "timeout": int(os.environ.get("COURSE_SECONDS", "60")),
                "interrupt_on_timeout": True,
                "error_on_timeout": {
                    "ename": "CellTimeoutError",
                    "evalue": late,
                    "traceback": [f"CellTimeoutError: {late}: does a loop never end?"],
                },
                # After an interrupt the kernel has so many seconds to stop; then it is ended.
                "iopub_timeout": 5,
                "raise_on_iopub_timeout": True,
            },
            "CarefulExecute": {"memory_mb": 4096},
            "LimitOutput": {"max_lines": 500},
            # What nobody has handed in, because it was not released yet, is nobody's zero.
            "CsvExportPlugin": {"assignment": handed_in or ["(nothing handed in)"]},
        }
    )
)
