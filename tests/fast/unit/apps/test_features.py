"""Posts → features: pictures that cannot be had or read are named and left out; what is cached is
not made again."""

import os
import shutil
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mmtutor.apps import features
from mmtutor.apps.faults import PostsUnusable, Problem
from mmtutor.apps.features import PostEncoder
from mmtutor.apps.posts import Post
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.cache import CacheNotWritable, FeatureCache

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


@pytest.fixture
def folder(tmp_path, pictures):
    """Return a folder with two good pictures."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("good-0.png", "bad-0.png"):
        (folder / name).write_bytes((pictures / name).read_bytes())
    return folder


@pytest.fixture
def encoder(folder, cache) -> PostEncoder:
    return PostEncoder(folder, "cpu", cache)


def header_only_png(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds nothing: a decompression bomb."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", head)
        + part(b"IDAT", zlib.compress(b"\0"))
        + part(b"IEND", b"")
    )


def test_features_are_those_of_the_encoders_and_stand_where_they_belong(encoder, folder, cache):
    posts = [
        Post(2, "first", "good-0.png"),
        Problem(3, "id", "duplicated id", "x"),
        Post(4, "", "bad-0.png"),
        Post(5, "second"),
        Post(6, "third", "nothere.png"),
        Post(7, "first", "bad-0.png"),
        Post(8, "fourth"),
    ]
    chunk = encoder.encode(posts)
    assert chunk.kept == [posts[0], posts[2], posts[3], posts[5], posts[6]]
    assert chunk.outcome[1] is posts[1] and chunk.outcome[4].kind == "missing picture"
    assert chunk.where == {"text": [0, 2, 3, 4], "image": [0, 1, 3]}
    texts = TextEncoder(device="cpu", cache=cache).encode(["first", "second", "first", "fourth"])
    images = ImageEncoder(device="cpu", cache=cache).encode(
        [folder / f"{n}-0.png" for n in ("good", "bad", "bad")]
    )
    assert torch.equal(chunk.features["text"], texts) and torch.equal(
        chunk.features["image"], images
    )
    assert encoder.dims == {"text": texts.shape[1], "image": images.shape[1]}
    assert chunk.keys["text"][0] == chunk.keys["text"][2] != chunk.keys["text"][1]
    table = encoder.recall("image", chunk.keys["image"], np.array([4, 1, 2]), 5)
    assert torch.equal(table[[4, 1, 2]], images) and not table[[0, 3]].any()


def test_nothing_to_encode_is_defined(encoder):
    chunk = encoder.encode([Problem(2, "text", "empty post", "x")])
    assert (
        chunk.kept == []
        and chunk.features["text"].shape == (0, 384)
        and chunk.features["image"].shape == (0, 1280)
    )


def test_features_that_vanished_are_named(encoder):
    with pytest.raises(RuntimeError, match="1 features vanished from"):
        encoder.recall("text", [b"no such key 1234"], np.array([0]), 1)


def test_what_a_table_may_hold_in_memory_is_counted_with_its_empty_rows(encoder, monkeypatch):
    chunk = encoder.encode([Post(2, "first")])
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 384 * 4 * 5)
    rooms, room = [], FeatureCache.room
    monkeypatch.setattr(
        FeatureCache, "room", lambda self, n: rooms.append(room(self, n)) or rooms[-1]
    )
    table = encoder.recall("text", chunk.keys["text"], np.array([6]), 7)
    assert rooms[0].shape == (7, 384) and isinstance(rooms[0], np.memmap)
    assert torch.equal(table[6], chunk.features["text"][0]) and not table[:6].any()


def test_a_table_that_finds_no_place_on_the_disk_is_a_clear_error(
    encoder, monkeypatch, file_size_limit
):
    chunk = encoder.encode([Post(2, "first")])
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 0)
    with file_size_limit(1 << 20), pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE"):
        encoder.recall("text", chunk.keys["text"], np.array([0]), 1000)


def test_the_folder_of_pictures_must_be_one(tmp_path, folder):
    for wrong in (tmp_path / "nothere", folder / "good-0.png"):
        with pytest.raises(
            PostsUnusable, match=r"the folder of pictures, .* is no folder: say --images DIR"
        ):
            PostEncoder(wrong)


def test_without_a_folder_pictures_are_faults_and_texts_are_encoded(cache):
    chunk = PostEncoder(None, "cpu", cache).encode(
        [Post(2, "first", "a.png"), Post(3, "first")], "file"
    )
    assert (
        str(chunk.outcome[0])
        == "row 2, column 'file': no folder of pictures: a.png: say --images DIR"
    )
    assert chunk.kept == [Post(3, "first")]


def bad_files(folder):
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    whole = (folder / "good-0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(header_only_png(60_000, 60_000))
    (folder / "large.png").write_bytes(header_only_png(10_000, 9_000))
    with (folder / "heavy.png").open("wb") as file:
        file.truncate(100_000_000)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder.parent / "outside.png").write_bytes(whole)
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder.parent / "images-too").mkdir()
    (folder.parent / "images-too" / "twin.png").write_bytes(whole)


BAD = [
    ("nothere.png", "missing picture", "nothere.png is not in the folder of pictures"),
    ("sub", "missing picture", "sub is no file"),
    ("pipe.png", "missing picture", "pipe.png is no file"),
    ("loop.png", "missing picture", "loop.png cannot be opened: Too many levels of symbolic links"),
    ("x" * 300 + ".png", "missing picture", "cannot be opened: File name too long"),
    ("good-0.png/a.png", "missing picture", "cannot be opened: Not a directory"),
    (
        "../outside.png",
        "path leaves the folder",
        "../outside.png is not inside the folder of pictures",
    ),
    ("sub/../../outside.png", "path leaves the folder", "is not inside"),
    ("../images-too/twin.png", "path leaves the folder", "is not inside"),
    ("/etc/passwd", "path leaves the folder", "/etc/passwd is not inside"),
    ("link.png", "path leaves the folder", "link.png is a link that leads out of"),
    ("heavy.png", "picture too large", "heavy.png has 100 MB, the limit is 50 MB"),
    ("bomb.png", "picture too large", "bomb.png unpacks to more pixels than is safe"),
    (
        "large.png",
        "picture too large",
        "large.png has 10000 × 9000 pixels, the limit is 89,478,485",
    ),
    ("text.png", "corrupt picture", "text.png: no readable picture (UnidentifiedImageError)"),
    ("empty.png", "corrupt picture", "empty.png: no readable picture (UnidentifiedImageError)"),
    ("cut.png", "corrupt picture", "cut.png: image file is truncated"),
]


def test_pictures_that_cannot_be_had_are_named_and_the_others_encoded(encoder, folder, tmp_path):
    """All in one chunk, each bad one twice, between good ones; no message betrays where the folder
    lies."""
    bad_files(folder)
    names = [name for name, _, _ in BAD]
    posts = [
        Post(k + 2, "first", name)
        for k, name in enumerate(["good-0.png", *names, "bad-0.png", *names])
    ]
    chunk = encoder.encode(posts, "file")
    assert chunk.kept == [posts[0], posts[len(BAD) + 1]]
    told = [p for p in chunk.outcome if isinstance(p, Problem)]
    for problems in (told[: len(BAD)], told[len(BAD) :]):
        for (name, kind, words), problem in zip(BAD, problems, strict=True):
            assert (problem.column, problem.kind) == ("file", kind), name
            assert words in problem.detail and str(tmp_path) not in problem.detail, problem.detail
    assert [p.row for p in told] == [p.row for p in posts if p not in chunk.kept]
    alone = encoder.encode([posts[0], posts[len(BAD) + 1]])
    assert torch.equal(alone.features["image"], chunk.features["image"]), (
        "each post has its own picture's features"
    )


def test_the_largest_picture_is_an_option(folder, cache):
    limit = (folder / "good-0.png").stat().st_size / 1e6
    posts = [Post(2, "", "good-0.png")]
    assert PostEncoder(folder, "cpu", cache, limit).encode(posts).kept == posts
    (problem,) = PostEncoder(folder, "cpu", cache, 0.9 * limit).encode(posts).outcome
    assert problem.kind == "picture too large"


def test_links_inside_the_folder_and_a_folder_that_is_a_link_are_fine(folder, cache):
    (folder / "inside.png").symlink_to(folder / "good-0.png")
    (folder.parent / "way").symlink_to(folder)
    for root in (folder, folder.parent / "way"):
        chunk = PostEncoder(root, "cpu", cache).encode(
            [Post(2, "", "inside.png"), Post(3, "", "./good-0.png")]
        )
        assert len(chunk.kept) == 2 and chunk.keys["image"][0] == chunk.keys["image"][1]


def test_transparent_grey_and_animated_pictures_are_read(folder, encoder):
    square = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    square.save(folder / "grey.png")
    square.convert("RGBA").save(folder / "clear.png")
    square.save(folder / "moving.gif", save_all=True, append_images=[square.rotate(90)])
    names = ("grey.png", "clear.png", "moving.gif")
    chunk = encoder.encode([Post(k, "", name) for k, name in enumerate(names)])
    assert len(chunk.kept) == 3 and not chunk.features["image"].isnan().any()


def test_chunks_come_one_by_one_and_in_order(encoder, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 2)
    taken = []

    def posts():
        for k in range(5):
            taken.append(k)
            yield Post(k, "first")

    chunks = encoder.chunks(posts(), "image")
    assert [p.row for p in next(chunks).kept] == [0, 1] and taken == [0, 1], "nothing is read ahead"
    assert [[p.row for p in chunk.kept] for chunk in chunks] == [[2, 3], [4]]


def test_an_interruption_costs_nothing_that_was_finished(folder, tmp_path, monkeypatch):
    """Ctrl-C in the second batch of texts, then in the pictures; each later run encodes only what
    is missing."""
    rng = np.random.default_rng(1)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    posts = [Post(i, f"text number {i}", f"{i}.png") for i in range(6)]
    made = {"text": [], "image": []}

    def run(stop_text=None, stop_image=None):
        encoder = PostEncoder(folder, "cpu", tmp_path / "cache")
        stops = {"text": stop_text, "image": stop_image}
        for m, each in encoder.encoders.items():
            each.batch_size, made[m] = 2, []

            def batches(samples, rows, m=m, dim=each.dim):
                for start in range(0, len(rows), 2):
                    if start == stops[m]:
                        raise KeyboardInterrupt
                    part = rows[start : start + 2]
                    made[m] += [str(samples[i])[-5:] for i in part]
                    yield part, torch.stack([torch.full((dim,), float(i)) for i in part])

            monkeypatch.setattr(each, "_batches", batches)
        return encoder.encode(posts)

    with pytest.raises(KeyboardInterrupt):
        run(stop_image=4)
    assert made["image"] == ["0.png", "1.png", "2.png", "3.png"]
    with pytest.raises(KeyboardInterrupt):
        run(stop_text=2)
    assert made == {"text": ["ber 0", "ber 1"], "image": ["4.png", "5.png"]}
    run()
    assert made["image"] == [] and made["text"] == ["ber 2", "ber 3", "ber 4", "ber 5"]
    run()
    assert made == {"text": [], "image": []}


def test_a_run_without_a_cache_is_refused(pictures):
    with pytest.raises(ValueError, match="cache=False, expected True or a folder"):
        PostEncoder(pictures, "cpu", cache=False)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_accents_may_be_written_otherwise_on_the_disk(encoder, folder, on_disk, in_table):
    name = "été.png"
    shutil.copy(folder / "good-0.png", folder / unicodedata.normalize(on_disk, name))
    (post,) = encoder.encode([Post(2, "", unicodedata.normalize(in_table, name))]).outcome
    assert isinstance(post, Post)


def test_odd_exif_costs_no_picture(encoder, folder):
    """A resolution of one byte, on which Pillow stumbles when it opens the file."""
    entries = [(0x112, 3, 1, b"\6\0\0\0"), (0x11A, 1, 1, b"\x48\0\0\0")]
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    exif += b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries) + b"\0" * 4
    Image.new("RGB", (24, 16), "green").save(folder / "odd.jpg", exif=exif)
    (post,) = encoder.encode([Post(2, "", "odd.jpg")]).outcome
    assert isinstance(post, Post)
