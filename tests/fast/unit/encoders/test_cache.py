"""The feature cache: computed once, found by content, whole or absent, whoever else is writing."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from mmtutor.encoders.cache import CacheNotWritable, FeatureCache, content_key

pytestmark = pytest.mark.usefixtures("own_cache")

DIM = 6


def key(number: int) -> bytes:
    return content_key("number", str(number).encode())


def value(number: int) -> torch.Tensor:
    return torch.arange(DIM) * 0.25 + number


class Counting:
    """A `compute` over given numbers that remembers what it was asked for and may stop halfway."""

    def __init__(self, numbers, batch=4, fail_after=None, pause=0.0):
        self.numbers, self.batch, self.fail_after, self.pause, self.asked = (
            numbers,
            batch,
            fail_after,
            pause,
            [],
        )

    def __call__(self, rows):
        for start in range(0, len(rows), self.batch):
            if self.fail_after is not None and start >= self.fail_after:
                raise KeyboardInterrupt("stopped by the reader")
            part = rows[start : start + self.batch]
            self.asked += [self.numbers[i] for i in part]
            time.sleep(self.pause)
            yield part, torch.stack([value(self.numbers[i]) for i in part])


def fill(cache, numbers, **options):
    compute = Counting(numbers, **options)
    features = cache.fill([key(n) for n in numbers], compute)
    return features, compute.asked


def expected(numbers):
    return torch.stack([value(n) for n in numbers])


@pytest.fixture
def cache(tmp_path):
    return FeatureCache("numbers", {"version": 1}, DIM, tmp_path)


def stored(cache) -> dict[bytes, bytes]:
    """Read the file without our code: key → row."""
    with closing(sqlite3.connect(cache.path)) as database:
        return dict(database.execute("SELECT key, row FROM features"))


def fresh(cache):
    """The same cache as another process would open it."""
    return FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent)


def test_what_is_stored_is_not_computed_again_and_is_the_same(cache):
    numbers = list(range(21))
    first, asked = fill(cache, numbers)
    again, asked_again = fill(fresh(cache), numbers)
    assert asked == numbers
    assert asked_again == []
    assert torch.equal(first, expected(numbers))
    assert torch.equal(again, expected(numbers))


def test_one_sample_more_costs_one_computation(cache):
    fill(cache, list(range(30)))
    features, asked = fill(cache, [*range(10), 99, *range(10, 30)])
    assert asked == [99]
    assert torch.equal(features, expected([*range(10), 99, *range(10, 30)]))


def test_subsets_other_orders_and_repeats_come_from_what_is_stored(cache):
    fill(cache, list(range(30)))
    for numbers in ([7, 3, 3, 29], list(range(12, 20)), list(reversed(range(30))), [0]):
        features, asked = fill(cache, numbers)
        assert asked == []
        assert torch.equal(features, expected(numbers))


def test_equal_content_is_computed_once(cache):
    features, asked = fill(cache, [5, 5, 6, 5])
    assert asked == [5, 6]
    assert torch.equal(features, expected([5, 5, 6, 5]))


def test_no_keys_give_no_rows_and_touch_no_disk(cache):
    features, asked = fill(cache, [])
    assert features.shape == (0, DIM)
    assert asked == []
    assert not cache.folder.exists()


def test_large_tables_come_as_the_map_of_a_file_without_a_name(cache, monkeypatch):
    small, _ = fill(cache, list(range(40)))
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 40 * DIM * 4 - 1)
    tables = []
    room = FeatureCache.room
    monkeypatch.setattr(
        FeatureCache, "room", lambda self, rows: tables.append(room(self, rows)) or tables[-1]
    )
    large, asked = fill(cache, list(range(40)))
    assert isinstance(tables[-1], np.memmap) and large.data_ptr() == tables[-1].ctypes.data
    assert asked == [] and torch.equal(large, small)
    large += 1  # the map is the reader's own
    assert torch.equal(fill(fresh(cache), list(range(40)))[0], small)
    assert [path.name for path in cache.folder.iterdir()] == ["features.sqlite"]


def test_writing_into_the_features_does_not_change_the_file(cache):
    features, _ = fill(cache, list(range(8)))
    before = cache.path.read_bytes()
    features += 100  # would crash on a read-only map, and would corrupt the cache on a shared one
    assert torch.equal(features, expected(range(8)) + 100)
    assert cache.path.read_bytes() == before
    again, _ = fill(fresh(cache), list(range(8)))
    assert torch.equal(again, expected(range(8)))


def test_features_carry_gradients_when_a_head_is_trained_on_them(cache):
    features, _ = fill(cache, list(range(8)))
    head = torch.nn.Linear(DIM, 1)
    head(features).sum().backward()
    torch.testing.assert_close(head.weight.grad[0], expected(range(8)).sum(0))


def test_other_fingerprint_width_or_name_is_another_cache(cache):
    fill(cache, [1, 2, 3])
    root = cache.folder.parent
    for other in (
        FeatureCache("numbers", {"version": 2}, DIM, root),
        FeatureCache("others", {"version": 1}, DIM, root),
        FeatureCache("numbers", {"version": 1, "size": 64}, DIM, root),
    ):
        assert fill(other, [1, 2, 3])[1] == [1, 2, 3]
    assert FeatureCache("numbers", {"version": 1}, DIM + 1, root).folder != cache.folder


def test_interruption_keeps_what_was_finished(cache):
    with pytest.raises(KeyboardInterrupt):
        fill(cache, list(range(30)), fail_after=20)
    features, asked = fill(cache, list(range(30)))
    assert asked == list(range(20, 30))
    assert torch.equal(features, expected(range(30)))


def test_wrong_width_from_the_encoder_is_refused(cache):
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(2, 6\)"):
        cache.fill([key(1), key(2)], lambda rows: [(rows, torch.zeros(len(rows), 3))])
    assert stored(cache) == {}


def test_an_encoder_that_leaves_samples_out_is_an_error(cache):
    with pytest.raises(RuntimeError, match="not all computed"):
        cache.fill(
            [key(1), key(2)], lambda rows: [(rows[:1], torch.zeros(1, DIM))] if 0 in rows else []
        )


@pytest.mark.parametrize("place", [0, 16, 100], ids=str)
def test_a_damaged_file_is_set_aside_and_made_again(cache, place, caplog):
    fill(cache, list(range(12)))
    content = bytearray(cache.path.read_bytes())
    content[place] ^= 0xFF
    cache.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        features, asked = fill(fresh(cache), list(range(12)))
    assert asked == list(range(12))
    assert torch.equal(features, expected(range(12)))
    assert str(cache.path) in caplog.text and "computed again" in caplog.text
    assert cache.path.with_suffix(".damaged").read_bytes() == content
    assert fill(fresh(cache), list(range(12)))[1] == []


def test_no_altered_byte_gives_a_wrong_row(cache):
    """Nor an error: headers, the index and the rows themselves are struck, one byte at a time."""
    fill(cache, list(range(30)))
    content = cache.path.read_bytes()
    written = np.flatnonzero(np.frombuffer(content, np.uint8))
    struck = [(place, 0xFF) for place in written[:: len(written) // 20]]
    # A pointer in the index, its third page: rows are stored and yet not found again.
    for place, bits in [*struck, (2 * 16384 + 34, 1)]:
        for path in cache.folder.iterdir():
            path.unlink()
        cache.path.write_bytes(
            content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]
        )
        features, _ = fill(fresh(cache), list(range(40)))
        assert torch.equal(features, expected(range(40))), f"byte {place}"


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_a_truncated_file_is_noticed(cache, keep):
    fill(cache, list(range(12)))
    content = cache.path.read_bytes()
    end = int(keep * len(content)) if isinstance(keep, float) else keep
    cache.path.write_bytes(content[:end])
    features, _ = fill(fresh(cache), list(range(12)))
    assert torch.equal(features, expected(range(12)))
    assert stored(cache).keys() == {key(n) for n in range(12)}


@pytest.mark.parametrize("alone", [True, False], ids=["that row", "asked with others"])
def test_a_changed_feature_is_noticed_and_that_row_alone_computed_again(cache, alone, caplog):
    fill(cache, list(range(12)))
    content = cache.path.read_bytes()
    changed = content.replace(value(3).numpy().tobytes(), value(4).numpy().tobytes())
    assert changed != content
    cache.path.write_bytes(changed)
    numbers = [3] if alone else list(range(12))
    features, asked = fill(fresh(cache), numbers)
    assert asked == [3]
    assert torch.equal(features, expected(numbers))
    assert "checksum" in caplog.text
    assert fill(fresh(cache), list(range(12)))[1] == []


def test_rows_that_changed_places_are_noticed(cache):
    fill(cache, [1, 2])
    with closing(sqlite3.connect(cache.path)) as database, database:
        for old, new in ((key(1), b"x"), (key(2), key(1)), (b"x", key(2))):
            database.execute("UPDATE features SET key = ? WHERE key = ?", (new, old))
    features, asked = fill(fresh(cache), [1, 2])
    assert asked == [1, 2] and torch.equal(features, expected([1, 2]))


def test_the_file_is_a_table_that_sqlite_reads(cache):
    fill(cache, list(range(12)))
    assert stored(cache) == {key(n): value(n).numpy().tobytes() for n in range(12)}


def test_a_key_that_ends_in_zeros_is_found_as_an_array_too(cache):
    keys = [b"\1" * 15 + b"\0", b"\2" * 16]
    features = cache.fill(keys, lambda rows: [(rows, expected(rows))])
    assert cache.missing(np.array(keys, "S16")) == []
    assert torch.equal(cache.fill(np.array(keys, "S16"), Counting([])), features)


def test_folder_that_cannot_be_made_is_named_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = FeatureCache("numbers", {}, DIM, tmp_path / "file")
    compute = Counting([1])
    with pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE") as caught:
        cache.fill([key(1)], compute)
    assert str(cache.folder) in str(caught.value)
    assert compute.asked == []


def test_full_disk_is_a_clear_error_and_leaves_nothing_half_written(cache, monkeypatch):
    """SQLite's own limit on the size of a file answers as a full disk does."""
    connect = cache._connect

    def small(mode):
        database = connect(mode)
        database.execute("PRAGMA max_page_count = 3")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_connect", small)
        with pytest.raises(CacheNotWritable, match="disk is full"):
            fill(cache, list(range(600)))
    assert stored(cache).items() <= {(key(n), value(n).numpy().tobytes()) for n in range(600)}
    assert torch.equal(fill(cache, list(range(600)))[0], expected(range(600)))


def test_no_place_for_a_large_table_is_a_clear_error(cache, monkeypatch, file_size_limit):
    fill(cache, list(range(1000)), batch=1000)
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 0)
    with file_size_limit(1 << 12):
        with pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE"):
            fill(cache, list(range(1000)))
        assert cache.missing([key(n) for n in range(1001)]) == [1000]  # needs no table


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ("CREATE", sqlite3.OperationalError("disk I/O error")),
        ("integrity", sqlite3.OperationalError("database is locked")),
        ("integrity", sqlite3.DatabaseError("malformed")),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_opened_to_write_is_closed_again(cache, monkeypatch, failing, error):
    fill(cache, [1])
    opened, connect = [], cache._connect

    class Failing:
        def __init__(self, database):
            self.database, self.closed = database, False

        def execute(self, order, *rest):
            if failing in order:
                raise error
            return self.database.execute(order, *rest)

        def close(self):
            self.closed = True
            self.database.close()

    def failing_connect(mode):
        opened.append(Failing(connect(mode)))
        return opened[-1]

    monkeypatch.setattr(cache, "_connect", failing_connect)
    plain = not isinstance(error, sqlite3.OperationalError)
    with (
        pytest.raises(sqlite3.DatabaseError if plain else CacheNotWritable, match=str(error)),
        cache._open_to_write(check=True),
    ):
        pass
    assert [database.closed for database in opened] == [True]


def test_rows_are_asked_for_many_at_a_time(cache, monkeypatch):
    numbers = list(range(2000))
    fill(cache, numbers)
    questions, connect = [], cache._connect

    def traced(mode):
        database = connect(mode)
        database.set_trace_callback(questions.append)
        return database

    monkeypatch.setattr(cache, "_connect", traced)
    features, _ = fill(cache, numbers)
    assert torch.equal(features, expected(numbers))
    assert len(questions) < len(numbers) / 100


def read_as_nobody(root, numbers, queue):
    if os.geteuid() == 0:
        os.setuid(65534)
    cache = FeatureCache("numbers", {"version": 1}, DIM, root)
    features, asked = fill(cache, numbers)
    try:
        fill(cache, [12345])
        refused = ""
    except CacheNotWritable as error:
        refused = str(error)
    queue.put((features.tolist(), asked, refused))


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_cache_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as root:
        cache = FeatureCache("numbers", {"version": 1}, DIM, root)
        fill(cache, list(range(5)))
        fill(cache, list(range(5, 9)))
        for folder in (root, cache.folder):
            os.chmod(folder, 0o555)
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=read_as_nobody, args=(root, list(range(9)), queue))
        process.start()
        process.join(60)
        for folder in (root, cache.folder):
            os.chmod(folder, 0o700)
        assert process.exitcode == 0
        features, asked, refused = queue.get(timeout=300)
    assert asked == []
    assert torch.equal(torch.tensor(features), expected(range(9)))
    assert "MMTUTOR_CACHE" in refused
    assert str(cache.folder) in refused


def work(root, numbers, rounds, pause):
    for _ in range(rounds):
        features, _ = fill(FeatureCache("numbers", {"version": 1}, DIM, root), numbers, pause=pause)
        if not torch.equal(features, expected(numbers)):
            os._exit(3)


@pytest.mark.processes
def test_processes_that_write_at_once_all_get_the_right_rows(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    sets = [list(range(60)), list(reversed(range(60))), list(range(20, 80))]
    workers = [context.Process(target=work, args=(tmp_path, numbers, 3, 0.002)) for numbers in sets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    features, asked = fill(cache, list(range(80)))
    assert asked == []
    assert torch.equal(features, expected(range(80)))
    assert [path.name for path in cache.folder.iterdir()] == ["features.sqlite"]


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_writer_leaves_whole_rows(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=work, args=(tmp_path, list(range(1000)), 1, 0.004))
    worker.start()
    deadline = time.monotonic() + 300
    while len(cache.missing([key(n) for n in range(24)])) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    rows = 1000 - len(cache.missing([key(n) for n in range(1000)]))
    assert 24 <= rows < 1000
    features, asked = fill(cache, list(range(1000)))
    assert len(asked) == 1000 - rows
    assert torch.equal(features, expected(range(1000)))


def test_a_file_deleted_under_an_open_cache_is_made_again(cache):
    fill(cache, list(range(10)))
    cache.path.unlink()
    features, asked = fill(cache, list(range(10)))
    assert asked == list(range(10))
    assert torch.equal(features, expected(range(10)))


def test_random_subsets_do_not_make_the_cache_grow(cache):
    fill(cache, list(range(100)))
    size = cache.path.stat().st_size
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        numbers = torch.randperm(100, generator=generator)[:30].tolist()
        assert torch.equal(fill(cache, numbers)[0], expected(numbers))
    assert cache.path.stat().st_size == size


def test_keys_depend_on_content_kind_and_split_only():
    assert content_key("a", b"xy") == content_key("a", b"xy")
    keys = {
        content_key("a", b"xy"),
        content_key("b", b"xy"),
        content_key("a", b"x", b"y"),
        content_key("a", b"xyz"),
    }
    assert len(keys) == 4
    assert all(len(k) == 16 for k in keys)


def test_default_folder_is_under_the_cache_root(own_cache):
    assert FeatureCache("numbers", {}, DIM).folder.parent == Path(own_cache) / "features"
