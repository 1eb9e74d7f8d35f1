"""Find the Chromium of this machine: for the browser tests, the PDF of the book, and Lighthouse."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (  # where installers put it outside the PATH
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)
HOW_TO_GET_IT = (
    f"no Chromium on this machine (looked for {', '.join(NAMES)} on the PATH). Get one: on Debian"
    " or Ubuntu `sudo apt-get install chromium`, on Fedora `sudo dnf install chromium`, on macOS"
    " `brew install --cask chromium`, on Windows install Chrome; or say where yours is with the"
    " environment variable MMTUTOR_CHROMIUM"
)
# No GPU, no first-run page, and no request that the page did not make
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


class NoBrowser(RuntimeError):
    """There is no Chromium; the message says how to get one."""


def chromium() -> str:
    """Return the path of a Chromium or Chrome. MMTUTOR_CHROMIUM comes first. Raises NoBrowser."""
    if told := os.environ.get("MMTUTOR_CHROMIUM"):
        if not Path(told).is_file():
            raise NoBrowser(
                f"MMTUTOR_CHROMIUM names {told!r}, which is no file: name the browser's executable"
            )
        return told
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    found = found or next((place for place in PLACES if Path(place).is_file()), None)
    if found is None:
        raise NoBrowser(HOW_TO_GET_IT)
    return found
