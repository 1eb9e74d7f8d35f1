"""The feature cache: computed once, found by content, whole or absent, whoever else is writing."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from mmtutor.encoders import shards
from mmtutor.encoders.cache import CacheNotWritable, FeatureCache, content_key
from mmtutor.encoders.shards import Shard, write_shard

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
    features = cache.fill([key(n) for n in numbers], compute, flush_rows=8)
    return features, compute.asked


def expected(numbers):
    return torch.stack([value(n) for n in numbers])


@pytest.fixture
def cache(tmp_path):
    return FeatureCache("numbers", {"version": 1}, DIM, tmp_path)


def files(cache):
    return sorted(cache.folder.glob("*.safetensors"))


def test_what_is_stored_is_not_computed_again_and_is_the_same(cache):
    numbers = list(range(21))
    first, asked = fill(cache, numbers)
    again, asked_again = fill(
        FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent), numbers
    )
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


def test_all_rows_in_order_are_one_file_and_a_memory_map(cache):
    features, _ = fill(cache, list(range(40)))  # computed in five pieces of eight
    assert len(files(cache)) == 1
    shard = Shard.open(files(cache)[0], DIM)
    mapped = FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent)
    again, _ = fill(mapped, list(range(40)))
    backing = next(iter(mapped._open.values())).features
    assert isinstance(backing, np.memmap)
    assert again.data_ptr() == backing.ctypes.data
    assert torch.equal(features, torch.from_numpy(np.array(shard.features)))


def test_writing_into_the_features_does_not_change_the_file(cache):
    features, _ = fill(cache, list(range(8)))
    before = files(cache)[0].read_bytes()
    features += 100  # would crash on a read-only map, and would corrupt the cache on a shared one
    assert torch.equal(features, expected(range(8)) + 100)
    assert files(cache)[0].read_bytes() == before
    again, _ = fill(
        FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent), list(range(8))
    )
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
    assert len(files(cache)) == 1


def test_wrong_width_from_the_encoder_is_refused(cache):
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(2, 6\)"):
        cache.fill([key(1), key(2)], lambda rows: [(rows, torch.zeros(len(rows), 3))])
    assert files(cache) == []


def test_an_encoder_that_leaves_samples_out_is_an_error(cache):
    with pytest.raises(RuntimeError, match="not all computed"):
        cache.fill(
            [key(1), key(2)], lambda rows: [(rows[:1], torch.zeros(1, DIM))] if 0 in rows else []
        )


@pytest.mark.parametrize(
    "place", [0, 3, 20, -1, -40], ids=["length", "length-high", "header", "checksum", "keys"]
)
def test_an_altered_byte_is_noticed_and_the_rows_computed_again(cache, place, caplog):
    fill(cache, list(range(12)))
    path = files(cache)[0]
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        features, asked = fill(
            FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent), list(range(12))
        )
    assert asked == list(range(12))
    assert torch.equal(features, expected(range(12)))
    assert str(path) in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_a_truncated_file_is_noticed(cache, keep, caplog):
    fill(cache, list(range(12)))
    path = files(cache)[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    features, asked = fill(
        FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent), list(range(12))
    )
    assert asked == list(range(12))
    assert torch.equal(features, expected(range(12)))
    assert "computed again" in caplog.text


def test_a_changed_feature_is_noticed(cache, caplog):
    fill(cache, list(range(12)))
    path = files(cache)[0]
    content = path.read_bytes()
    changed = content.replace(value(3).numpy().tobytes(), value(4).numpy().tobytes())
    assert changed != content
    path.write_bytes(changed)
    features, _ = fill(
        FeatureCache("numbers", {"version": 1}, DIM, cache.folder.parent), list(range(12))
    )
    assert torch.equal(features, expected(range(12)))
    assert "checksum" in caplog.text


def test_safetensors_own_reader_finds_the_same_tables(cache):
    fill(cache, list(range(12)))
    tables = safetensors.numpy.load_file(files(cache)[0])
    assert np.array_equal(tables["features"], expected(range(12)).numpy())
    assert [row.tobytes() for row in tables["keys"]] == [key(n) for n in range(12)]


def test_folder_that_cannot_be_made_is_named_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = FeatureCache("numbers", {}, DIM, tmp_path / "file")
    compute = Counting([1])
    with pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE") as caught:
        cache.fill([key(1)], compute)
    assert str(cache.folder) in str(caught.value)
    assert compute.asked == []


def test_full_disk_is_a_clear_error_and_leaves_nothing_half_written(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.os, "fsync", full)
    with pytest.raises(CacheNotWritable, match="No space left"):
        fill(cache, [1, 2])
    assert list(cache.folder.iterdir()) == []


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


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_cache_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as root:
        cache = FeatureCache("numbers", {"version": 1}, DIM, root)
        fill(cache, list(range(5)))
        fill(cache, list(range(5, 9)))  # two files, which a writer would merge
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
        features, asked, refused = queue.get(timeout=5)
    assert asked == []
    assert torch.equal(torch.tensor(features), expected(range(9)))
    assert "MMTUTOR_CACHE" in refused
    assert str(cache.folder) in refused


def work(root, numbers, rounds, pause):
    for _ in range(rounds):
        features, _ = fill(FeatureCache("numbers", {"version": 1}, DIM, root), numbers, pause=pause)
        if not torch.equal(features, expected(numbers)):
            os._exit(3)


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
    assert len(files(cache)) == 1  # the merge has dropped every copy
    assert list(cache.folder.glob("*.part")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_writer_leaves_no_half_file_under_a_final_name(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=work, args=(tmp_path, list(range(4000)), 1, 0.004))
    worker.start()
    deadline = time.monotonic() + 60
    while len(files(cache)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    found = files(cache)
    assert len(found) >= 3
    rows = sum(len(Shard.open(path, DIM).keys) for path in found)  # raises where one is not whole
    features, asked = fill(cache, list(range(4000)))
    assert len(asked) == 4000 - rows
    assert torch.equal(features, expected(range(4000)))


def test_shards_deleted_under_an_open_cache_are_computed_again(cache):
    fill(cache, list(range(10)))
    for path in files(cache):
        path.unlink()
    features, asked = fill(cache, list(range(10)))
    assert asked == list(range(10))
    assert torch.equal(features, expected(range(10)))


def test_random_subsets_do_not_make_the_cache_grow(cache):
    fill(cache, list(range(50)))
    fill(cache, list(range(50, 100)))
    size = sum(path.stat().st_size for path in files(cache))
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        numbers = torch.randperm(100, generator=generator)[:30].tolist()
        assert torch.equal(fill(cache, numbers)[0], expected(numbers))
    assert sum(path.stat().st_size for path in files(cache)) == size


def test_leftovers_of_killed_writers_go_after_a_day(cache):
    fill(cache, list(range(3)))
    old, fresh = cache.folder / "old.part", cache.folder / "fresh.part"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    fill(cache, list(range(20)))
    assert not old.exists()
    assert fresh.exists()


def test_write_shard_streams_blocks(tmp_path):
    keys = np.array([key(n) for n in range(5)], "S16")
    path = write_shard(
        tmp_path, keys, iter([expected([0, 1]).numpy(), expected([2, 3, 4]).numpy()]), DIM
    )
    assert np.array_equal(Shard.open(path, DIM).features, expected(range(5)).numpy())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


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
