"""Fetch the files of one set from its pinned source, each through a temporary file, the set through
`partial`."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pooch
import requests
from filelock import FileLock

from mmtutor.files import catalogue, checking
from mmtutor.files.catalogue import DatasetCorrupt

THREADS = 8
RETRIES = 2
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes


def download(name: str, target: Path) -> None:
    """Fill `target` (…/<name>/files) with the files that the manifest lists, each with its size and
    sha256.

    Files arrive in `partial` beside `target`, which takes its final name once the set is complete
    and verified. An interrupted download keeps its complete files and goes on from there. One
    process at a time, guarded by a lock.
    Raises DatasetUnavailable (source out of reach, folder not writable), DatasetCorrupt (source
    sends other content).
    """
    data = catalogue.manifest(name)
    partial = target.with_name("partial")
    with _writable(name, target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name("download.lock")):
            if target.is_dir() and not any(checking.problems(data, target)):
                return  # another process was faster
            _prepare(data, target, partial)
            _fetch_all(data, partial)
            for problem in checking.problems(data, partial):
                raise DatasetCorrupt(
                    f"data set {name!r} is refused: {partial}: {problem}. Run the download again."
                )
            os.replace(partial, target)


def url_of(data: dict[str, Any], entry: dict[str, Any]) -> str:
    """Return the address of one file at the pinned commit, percent-encoded."""
    return data["sources"][entry["source_index"]]["raw_url_base"] + quote(entry["source_path"])


@contextlib.contextmanager
def _writable(name: str, folder: Path) -> Iterator[None]:
    """Turn any failure to write below `folder` into an error that says where and what to do."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write to the cache folder {folder} ({error.strerror or error})"
        message = (
            f"{catalogue.unavailable(name, reason)}\n  or set MMTUTOR_CACHE to a folder that you"
            " can write to."
        )
        raise catalogue.DatasetUnavailable(message, reason) from error


def _prepare(data: dict[str, Any], target: Path, partial: Path) -> None:
    """Make `partial` and its subfolders, keep what an earlier try left there, drop what a killed
    one left half-done."""
    if target.is_dir():  # a set that differs: keep its sound files, and fetch the others afresh
        if partial.exists():
            shutil.rmtree(partial)
        os.replace(target, partial)
    listed = {entry["path"] for entry in data["files"]}
    for path in partial.rglob("*"):
        left_over = (
            path.name.startswith("tmp") and path.relative_to(partial).as_posix() not in listed
        )
        if path.is_symlink() or (left_over and path.is_file()):
            path.unlink()
    if partial.is_symlink():
        raise DatasetCorrupt(f"{data['name']}: {partial} is a link; remove it")
    checking.assert_inside(data, partial)
    for parent in {(partial / path).parent for path in listed}:
        parent.mkdir(parents=True, exist_ok=True)  # here, since pooch's threads would race for it


def _fetch_all(data: dict[str, Any], folder: Path) -> None:
    """Fetch every listed file that `folder` lacks, several at a time, under one progress bar; stop
    at a failure."""
    urls = {entry["path"]: url_of(data, entry) for entry in data["files"]}
    registry = {entry["path"]: f"sha256:{entry['sha256']}" for entry in data["files"]}
    keeper = pooch.create(
        path=folder, base_url="", registry=registry, urls=urls, retry_if_failed=RETRIES
    )
    bar = checking.progress_bar(catalogue.total_bytes(data), f"downloading {data['name']}")
    with bar, _quiet_pooch(), requests.Session() as session, ThreadPoolExecutor(THREADS) as pool:
        jobs = {pool.submit(_fetch, keeper, data, entry, session): entry for entry in data["files"]}
        try:
            for job in as_completed(jobs):
                job.result()
                bar.update(jobs[job]["bytes"])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(
    keeper: pooch.Pooch, data: dict[str, Any], entry: dict[str, Any], session: requests.Session
) -> None:
    """Fetch one file; name it in whatever error arises."""
    try:
        keeper.fetch(entry["path"], downloader=_Reader(session, entry["bytes"]))
    except requests.RequestException as error:
        raise catalogue.unavailable(
            data["name"], _reason(entry, url_of(data, entry), error)
        ) from error
    except ValueError as error:
        raise DatasetCorrupt(
            f"data set {data['name']!r} is refused: the source sent another {entry['path']} than"
            f" the manifest names ({error}). Nothing of it was kept. Try again later; if it stays"
            " so, report it."
        ) from error
    # pooch's temporary file is private to the user; a cache may be shared by a class.
    (keeper.abspath / entry["path"]).chmod(0o644)


def _reason(entry: dict[str, Any], url: str, error: requests.RequestException) -> str:
    """Say in one line why a file could not be read."""
    host = urlsplit(url).netloc
    if error.response is not None:
        return f"{host} answered {error.response.status_code} for {entry['path']} ({url})"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return f"no connection to {host} (is there a network?) while reading {entry['path']}"
    return (
        f"the connection to {host} broke while reading {entry['path']}; the next try goes on from"
        " here"
    )


class _Reader:
    """A pooch downloader that keeps its connection between files and stops at the size the manifest
    gives."""

    def __init__(self, session: requests.Session, size: int) -> None:
        """Read through `session`, `size` bytes at most."""
        self.session, self.size = session, size

    def __call__(self, url: str, output_file: str, _keeper: pooch.Pooch) -> None:
        """Write what `url` sends to `output_file`; raise ValueError when it is more than
        expected."""
        left = self.size
        with (
            self.session.get(url, stream=True, timeout=TIMEOUT) as response,
            open(output_file, "wb") as handle,
        ):
            response.raise_for_status()
            for block in response.iter_content(1 << 16):
                left -= len(block)
                if left < 0:
                    raise ValueError(f"more than the expected {self.size} bytes")
                handle.write(block)


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from logging a line per file to stderr."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
