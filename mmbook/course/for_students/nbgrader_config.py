"""nbgrader's settings in a student's server."""

import os
from pathlib import Path

from traitlets.config import Config

get_config().merge(  # noqa: F821
    Config(
        {
            "Exchange": {"root": str(Path(__file__).resolve().parents[1] / "exchange")},
            "CourseDirectory": {
                "course_id": "mmtutor",
                "student_id": os.environ.get("JUPYTERHUB_USER", "*"),
            },
        }
    )
)
