"""JupyterHub for this course, on this machine: `jupyterhub -f hub.py` in this folder.

    COURSE_TEACHER   the account that grades, and sees Formgrader (default: yours)
    COURSE_PORT      where the hub listens, on 127.0.0.1 (8000; the next two ports serve it inside)
    COURSE_TRIAL     a password: to try it out alone. Any name may log in with it, and all of them
                     run as you. Without it each student needs an account of this machine (PAM).

Put a web server with a certificate in front of it. What students may not read, this folder, is kept
from them by its file mode.
"""

import getpass
import os
from pathlib import Path
from typing import Any

from traitlets.config import Config

HERE, PORT = Path(__file__).resolve().parent, int(os.environ.get("COURSE_PORT", "8000"))
TRIAL = os.environ.get("COURSE_TRIAL")
TEACHER = os.environ.get("COURSE_TEACHER") or getpass.getuser()
OPEN = {"exchange": 0o777, "for_students": 0o755}  # nbgrader itself hides what was handed in
for name in (*OPEN, "submitted", "autograded", "feedback"):
    (HERE / name).mkdir(exist_ok=True)
for path in HERE.iterdir():
    path.chmod(OPEN.get(path.name, 0o700))
HERE.chmod(0o711)  # others may pass through it to the two folders that are theirs


def for_teacher(spawner: Any) -> None:
    """Let the teacher's own server show this folder, so that Formgrader finds the course."""
    if spawner.user.name == TEACHER:
        spawner.notebook_dir = str(HERE)
        spawner.environment = {"JUPYTER_CONFIG_PATH": str(HERE)}


c = get_config()  # noqa: F821
c.merge(
    Config(
        {
            "JupyterHub": {
                "bind_url": f"http://127.0.0.1:{PORT}",
                "hub_port": PORT + 1,
                "db_url": f"sqlite:///{HERE / 'jupyterhub.sqlite'}",
                "cookie_secret_file": str(HERE / "jupyterhub_cookie_secret"),
            },
            "ConfigurableHTTPProxy": {"api_url": f"http://127.0.0.1:{PORT + 2}"},
            "Authenticator": {
                "admin_users": {TEACHER},
                "allow_all": True,
            },
            "Spawner": {
                "default_url": "/lab",
                "http_timeout": 120,  # a slow machine takes more than the 30 seconds of the default
                "environment": {"JUPYTER_CONFIG_PATH": str(HERE / "for_students")},
                "pre_spawn_hook": for_teacher,
            },
        }
    )
)
if TRIAL:
    c.merge(
        Config(
            {
                "JupyterHub": {"authenticator_class": "dummy", "spawner_class": "simple"},
                "DummyAuthenticator": {"password": TRIAL},
                "Spawner": {"args": ["--allow-root"]},
                "SimpleLocalProcessSpawner": {
                    "home_dir_template": str(HERE / "homes" / "{username}")
                },
            }
        )
    )
