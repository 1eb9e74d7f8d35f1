"""nbgrader's settings for this course; README.md beside this file explains them."""

import importlib.util
import os
import sys
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)  # grading.py lies here
if importlib.util.find_spec("mmtutor") is None:
    raise ModuleNotFoundError(
        "the exercises import mmtutor, which this Python lacks: pip install -e PATH/TO/mmtutor"
        " first"
    )

from grading import CarefulExecute, CleanIds  # noqa: E402
from nbgrader.preprocessors import (  # noqa: E402
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    LimitOutput,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)

# nbgrader calls alembic, which lies beside this Python
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
# the kernel of this environment, not one from the home folder
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")

c = get_config()  # noqa: F821
c.CourseDirectory.root = HERE
c.CourseDirectory.course_id = "mmtutor"
c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    CleanIds,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    CarefulExecute,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
# One cell may take so many seconds; then it is interrupted, and the next cell runs.
c.Execute.timeout = int(os.environ.get("COURSE_SECONDS", "60"))
c.Execute.interrupt_on_timeout = True
c.Execute.error_on_timeout = {
    "ename": "CellTimeoutError",
    "evalue": "this cell took too long and was interrupted",
    "traceback": [
        "CellTimeoutError: this cell took too long and was interrupted: does a loop never end?"
    ],
}
# After an interrupt the kernel has so many seconds to stop; then it is ended.
c.Execute.iopub_timeout = 5
c.Execute.raise_on_iopub_timeout = True
c.CarefulExecute.memory_mb = 4096
c.LimitOutput.max_lines = 500
