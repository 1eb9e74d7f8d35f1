"""Fetch the files of one set from its pinned source, each through a temporary file, the set through
`partial`. Taught in chapter 1.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock

from mmtutor.files import checking
from mmtutor.files.manifest import DatasetCorrupt, DatasetUnavailable, File, Manifest

THREADS = 8
RETRIES = 2
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes


def download(data: Manifest, target: Path) -> None:
    """Fill `target` (…/<name>/files) with the files that the manifest lists, each with its size and
    sha256.

    Files arrive in `partial` beside `target`, which takes its final name once the set is complete,
    each file verified as it arrives or where an earlier try left it. An interrupted download keeps
    its complete files and goes on from there. One process at a time, guarded by a lock.
    Raises DatasetUnavailable (source out of reach, folder not writable), DatasetCorrupt (source
    sends other content).
    """
    partial, home = target.with_name("partial"), target.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "download.lock"):
            if target.is_dir() and not any(checking.problems(data, target)):
                return  # another process was faster
            _prepare(data, target, partial)
            _fetch_all(data, partial)
            os.replace(partial, target)
    except OSError as error:
        reason = f"cannot write to the cache folder {home} ({error.strerror or error})"
        raise DatasetUnavailable(
            f"{data.unavailable(reason)}\n  or set MMTUTOR_CACHE to a folder that you can write"
            " to.",
            reason,
        ) from error


def _prepare(data: Manifest, target: Path, partial: Path) -> None:
    """Make `partial` and its subfolders, keep what an earlier try left there, drop what a killed
    one left half-done."""
    if target.is_dir():  # a set that differs: keep its sound files, and fetch the others afresh
        shutil.rmtree(partial, ignore_errors=True)
        os.replace(target, partial)
    if partial.is_symlink():
        raise DatasetCorrupt(f"{data.name}: {partial} is a link; remove it")
    listed = {partial / file.path for file in data.files}
    for path in partial.rglob("*"):
        begun = path.name.startswith("tmp") and path not in listed  # as pooch names half a file
        if path.is_symlink() or (begun and path.is_file()):
            path.unlink()
    checking.assert_inside(data, partial)
    for parent in {path.parent for path in listed}:
        parent.mkdir(parents=True, exist_ok=True)  # here, since pooch's threads would race for it


def _fetch_all(data: Manifest, folder: Path) -> None:
    """Fetch every listed file that `folder` lacks, several at a time, under one progress bar; stop
    at a failure."""
    pooch.get_logger().setLevel("WARNING")  # else it writes a line per file to stderr
    keeper = pooch.create(
        path=folder,
        base_url="",
        registry={file.path: f"sha256:{file.sha256}" for file in data.files},
        urls={file.path: file.url for file in data.files},
        retry_if_failed=RETRIES,
    )
    bar = checking.progress_bar(data.total_bytes, f"downloading {data.name}")
    with bar, requests.Session() as session, ThreadPoolExecutor(THREADS) as pool:
        jobs = {pool.submit(_fetch, keeper, data, file, session): file for file in data.files}
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update(jobs[job].bytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(keeper: pooch.Pooch, data: Manifest, file: File, session: requests.Session) -> None:
    """Fetch one file; name it in whatever error arises."""

    def read(url: str, output_file: str, _: pooch.Pooch) -> None:
        """Keep the connection between files, which pooch's own downloader does not."""
        with (
            session.get(url, stream=True, timeout=TIMEOUT) as response,
            open(output_file, "wb") as handle,
        ):
            response.raise_for_status()
            handle.writelines(response.iter_content(1 << 16))

    try:
        keeper.fetch(file.path, downloader=read)
    except requests.RequestException as error:
        raise data.unavailable(_reason(file, error)) from error
    except ValueError as error:
        raise DatasetCorrupt(
            f"data set {data.name!r} is refused: the source sent another {file.path} than"
            f" the manifest names ({error}). Nothing of it was kept. Try again later; if it stays"
            " so, report it."
        ) from error
    # pooch's temporary file is private to the user; a cache may be shared by a class.
    (keeper.abspath / file.path).chmod(0o644)


def _reason(file: File, error: requests.RequestException) -> str:
    """Say in one line why a file could not be read."""
    host = urlsplit(file.url).netloc
    if error.response is not None:
        return f"{host} answered {error.response.status_code} for {file.path} ({file.url})"
    return (
        f"no connection to {host}, or one that broke, while reading {file.path} (is there a"
        " network?); the next try goes on from here"
    )
