"""Rows → features: files that cannot be had or read are named and left out, what is absent is a
mask, and what is cached is not made again."""

import io
import os
import random
import shutil
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mmtutor.apps import encoding
from mmtutor.apps.encoding import RowEncoder
from mmtutor.apps.faults import Problem, TableUnusable
from mmtutor.apps.reading import Table
from mmtutor.apps.rows import Roles, Row, Rows
from mmtutor.apps.signals import SoundEncoder
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.encoders.cache import CacheNotWritable, FeatureCache
from mmtutor.encoders.pictures import FORMATS
from tests.posts import tone

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

ALL = Roles("text", "image", "audio", numbers=("age", "weight"), categories=("sex", "town"))
FILES = Roles(image="file", audio="voice")
VOCABULARY = (("f", "m"), ("Bonn", "Köln", "Ulm"))


@pytest.fixture
def folder(tmp_path, pictures):
    """Return a folder with two good pictures and two good sounds."""
    folder, rng = tmp_path / "files", np.random.default_rng(0)
    folder.mkdir()
    for name in ("good", "bad"):
        shutil.copy(pictures / f"{name}-0.png", folder)
        (folder / f"{name}-0.wav").write_bytes(tone(300, rng))
    return folder


@pytest.fixture
def make(folder, cache):
    """Return a function that makes an encoder with the shared cache; keywords replace its
    options."""

    def make(roles=ALL, **options):
        usual = {"folder": folder, "vocabulary": VOCABULARY, "device": "cpu", "cache": cache}
        return RowEncoder(roles, **({"text_encoder": "characters"} | usual | options))

    return make


@pytest.fixture
def colours_only(monkeypatch):
    """Put the mean colour in place of the image network, so that many pictures take little time:
    reading them is what is tested."""

    def mean(self, batch):
        colour = batch.mean((2, 3), keepdim=True)
        return torch.nn.functional.pad(colour, (0, 0, 0, 0, 0, self.dim - 3))

    monkeypatch.setattr(ImageEncoder, "_map", mean)
    monkeypatch.setattr(ImageEncoder, "_build", lambda self: torch.nn.Identity())


def pictured(names) -> list[Row]:
    return [Row(k + 2, {"image": name}) for k, name in enumerate(names)]


# features


def test_features_are_those_of_the_encoders_and_stand_where_they_belong(make, folder, cache):
    nan = float("nan")
    numbers = {"numbers": (30.5, nan), "categories": ("m", "")}
    rows = [
        Row(2, {"text": "first", "image": "good-0.png", "audio": "bad-0.wav"}),
        Problem(3, "id", "duplicated id", "x"),
        Row(4, {"image": "bad-0.png"} | numbers),
        Row(5, {"text": "second", "audio": "good-0.wav"}),
        Row(6, {"text": "third", "image": "nothere.png"}),
        Row(7, {"text": "first", "image": "bad-0.png", "audio": "nothere.wav"}),
        Row(8, {"text": "fourth", "numbers": (-1.0, 1e30), "categories": ("f", "Ulm")}),
        Row(9, {"text": "first", "image": "bad-0.png"}),
    ]
    encoder = make(text_encoder="minilm")
    chunk = encoder.encode(rows)
    assert chunk.kept == [rows[k] for k in (0, 2, 3, 6, 7)]
    assert chunk.outcome[1] is rows[1]
    told = [(p.row, p.column, p.kind) for p in chunk.outcome if isinstance(p, Problem)][1:]
    assert told == [(6, "image", "missing picture"), (7, "audio", "missing sound")]
    assert chunk.where == {
        **{"text": [0, 2, 3, 4], "image": [0, 1, 4], "audio": [0, 2]},
        **{"numbers": [1, 3], "categories": [1, 3]},
    }
    texts = TextEncoder(device="cpu", cache=cache).encode(["first", "second", "fourth", "first"])
    images = ImageEncoder(device="cpu", cache=cache).encode(
        [folder / f"{n}-0.png" for n in ("good", "bad", "bad")]
    )
    assert torch.equal(chunk.features["text"], texts)
    assert torch.equal(chunk.features["image"], images)
    sounds, paths = SoundEncoder(cache=cache), [str(folder / f"{n}-0.wav") for n in ("bad", "good")]
    expected = sounds.encode(paths, False, sounds.keys(paths))
    assert torch.equal(chunk.features["audio"], expected)
    float32 = torch.tensor([[30.5, 0, 1, 0], [-1, 1e30, 1, 1]])
    assert torch.equal(chunk.features["numbers"], float32), "values, then which are known"
    codes = torch.tensor([[1.0, 0, 1, 0], [0, 2, 1, 1]])
    assert torch.equal(chunk.features["categories"], codes), "places in the vocabulary, known"
    assert encoder.dims == {m: x.shape[1] for m, x in chunk.features.items()}
    assert encoder.knots == {"numbers": encoding.KNOTS, "categories": 3}
    assert chunk.keys["text"][0] == chunk.keys["text"][3] != chunk.keys["text"][1]
    table = encoder.recall("image", chunk.keys["image"], np.array([4, 1, 2]), 5)
    assert torch.equal(table[[4, 1, 2]], images) and not table[[0, 3]].any()


def test_what_is_absent_is_a_mask_in_every_modality(make):
    whole = {"text": "a", "image": "good-0.png", "audio": "good-0.wav"}
    whole |= {"numbers": (1.0, 2.0), "categories": ("f", "Ulm")}
    lacking = [{m: v for m, v in whole.items() if m != gone} for gone in whole]
    chunk = make().encode([Row(k, has) for k, has in enumerate([whole, *lacking])])
    features, present = chunk.table()
    assert {*features} == {*present} == {*whole}
    for k, m in enumerate(whole):
        assert present[m].tolist() == [j != k + 1 for j in range(6)]
        assert features[m].shape == (6, make().dims[m])
        assert not features[m][k + 1].any() and features[m][0].any()
        others = features[m][present[m]]
        torch.testing.assert_close(others, others[:1].expand_as(others), rtol=1e-4, atol=1e-5)


def test_nothing_to_encode_is_defined(make):
    encoder = make()
    chunk = encoder.encode([Problem(2, "text", "empty row", "x")])
    assert chunk.kept == [] and {m: x.shape for m, x in chunk.features.items()} == {
        m: (0, dim) for m, dim in encoder.dims.items()
    }
    features, present = chunk.table()
    assert features["image"].shape == (0, 1280) and present["audio"].shape == (0,)


def test_only_the_modalities_of_the_roles_are_encoded(make):
    encoder = make(Roles(text="text", categories=("sex",)), vocabulary=(("f", "m"),))
    assert encoder.dims.keys() == {"text", "categories"} == {*encoder.encode([]).features}


def test_chunks_come_one_by_one_and_in_order(make, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 2)
    taken = []

    def rows():
        for k in range(5):
            taken.append(k)
            yield Row(k, {"text": "first"})

    chunks = make().chunks(rows())
    assert [p.row for p in next(chunks).kept] == [0, 1] and taken == [0, 1], "nothing is read ahead"
    assert [[p.row for p in chunk.kept] for chunk in chunks] == [[2, 3], [4]]


def test_features_that_vanished_are_named(make):
    with pytest.raises(RuntimeError, match="1 features vanished from"):
        make().recall("text", np.array([b"no such key 1234"]), np.array([0]), 1)


def test_what_a_table_may_hold_in_memory_is_counted_with_its_empty_rows(make, monkeypatch):
    encoder = make()
    chunk, dim = encoder.encode([Row(2, {"text": "first"})]), encoder.dims["text"]
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", dim * 4 * 5)
    rooms, room = [], FeatureCache.room
    monkeypatch.setattr(
        FeatureCache, "room", lambda self, n: rooms.append(room(self, n)) or rooms[-1]
    )
    table = encoder.recall("text", chunk.keys["text"], np.array([6]), 7)
    assert rooms[0].shape == (7, dim) and isinstance(rooms[0], np.memmap)
    assert torch.equal(table[6], chunk.features["text"][0]) and not table[:6].any()


def test_a_table_that_finds_no_place_on_the_disk_is_a_clear_error(
    make, monkeypatch, file_size_limit
):
    encoder = make()
    chunk = encoder.encode([Row(2, {"text": "first"})])
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 0)
    with file_size_limit(1 << 20), pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE"):
        encoder.recall("text", chunk.keys["text"], np.array([0]), 1000)


def test_an_interruption_costs_nothing_that_was_finished(folder, make, tmp_path, monkeypatch):
    """Ctrl-C in the second batch of texts, then in the pictures; each later run encodes only what
    is missing."""
    rng = np.random.default_rng(1)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    rows = [Row(i, {"text": f"text number {i}", "image": f"{i}.png"}) for i in range(6)]
    made = {"text": [], "image": []}

    def run(stop_text=None, stop_image=None):
        roles = Roles(text="text", image="image")
        encoder = make(roles, text_encoder="minilm", cache=tmp_path / "cache")
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
        return encoder.encode(rows)

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


def test_a_run_without_a_cache_is_refused(make):
    """Features must be found again when the table is put together."""
    with pytest.raises(ValueError, match="cache=False, expected True or a folder"):
        make(cache=False)


# categories


def test_a_category_that_was_not_learnt_is_unknown_and_told(make):
    roles = Roles(text="text", categories=("sex", "town"))
    encoder = make(roles)
    words = [("f", "Rom"), ("x", "Ulm"), ("d", "Rom"), ("", "Bonn")]
    rows = [Row(k, {"categories": each}) for k, each in enumerate(words)]
    chunk = encoder.encode(rows)
    assert chunk.kept == rows, "it costs no row"
    codes = [[0, 0, 1, 0], [0, 2, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert chunk.features["categories"].tolist() == codes
    told = " ".join(encoder.remarks())
    assert "2 × 'Rom' in 'town', a category that was not learnt" in told
    assert "1 × 'x' in 'sex'" in told and "1 × 'd' in 'sex'" in told and "''" not in told


def test_a_word_learnt_in_one_column_is_unknown_in_another(make):
    encoder = make(Roles(categories=("sex", "town")))
    chunk = encoder.encode([Row(1, {"categories": ("Ulm", "f")})])
    assert chunk.features["categories"].tolist() == [[0, 0, 0, 0]]


def test_a_thousand_words_that_were_not_learnt_are_told_in_few_sentences(make):
    """As where a column of ids, or of texts, has taken the place of the categories."""
    encoder = make(Roles(categories=("town",)), vocabulary=(("Bonn",),))
    encoder.encode([Row(k, {"categories": (f"town {k}",)}) for k in range(1000)])
    told = encoder.remarks()
    assert 1 <= len(told) <= 10 and "'town'" in told[0]


# numbers


# texts


def test_texts_that_are_cut_are_told(make):
    encoder = make(Roles(text="text"), text_encoder="minilm")
    texts = ["dog " * n for n in (254, 255, 3000)]
    encoder.encode([Row(k, {"text": text}) for k, text in enumerate(texts)])
    encoder.encode([Row(9, {"text": "cat " * 300})])
    assert encoder.remarks() == ["3 × text longer than the encoder reads, cut."]


SCRIPTS = {
    "Thai": ["วันนี้อากาศดีมาก", "ฉันไม่ชอบฝนตก", "อาหารอร่อยที่สุด"],
    "emoji": ["😀😀🎉", "😭", "🤢 🤢"],
    "Chinese": ["今天的咖啡馆令人失望透顶", "邻桌吵闹让我很烦躁", "蛋糕甜腻难以下咽"],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_the_encoder_does_not_know_is_told_with_its_share_and_the_way_out(make, script):
    rows = [Row(k, {"text": text}) for k, text in enumerate(SCRIPTS[script])]
    encoder = make(Roles(text="text"), text_encoder="minilm")
    encoder.encode(rows)
    pieces = [p for row in rows for p in encoder.encoders["text"].pieces(row.has["text"])[1:-1]]
    (told,) = encoder.remarks()
    assert told.startswith(f"{pieces.count('[UNK]') / len(pieces):.0%} of the word pieces are unk")
    assert told.endswith("say --text-encoder characters.")
    characters = make(Roles(text="text"))
    features = characters.encode(rows).features["text"]
    assert torch.cdist(features, features).fill_diagonal_(9).min() > 0.5
    assert characters.remarks() == []


def test_a_word_now_and_then_that_is_unknown_is_not_told(make):
    encoder = make(Roles(text="text"), text_encoder="minilm")
    encoder.encode([Row(1, {"text": "a day at the sea " * 10 + "😀"})])
    assert encoder.remarks() == []


# files


def test_the_folder_of_files_must_be_one(tmp_path, folder, make):
    for wrong in (tmp_path / "nothere", folder / "good-0.png"):
        with pytest.raises(TableUnusable, match=r"the folder of .*, is no folder: say --folder"):
            make(folder=wrong)


@pytest.mark.parametrize(("m", "what"), [("image", "picture"), ("audio", "sound")])
def test_without_a_folder_files_are_faults_and_texts_are_encoded(make, m, what):
    roles = Roles(text="text", image="file", audio="voice")
    rows = [Row(2, {"text": "first", m: "a.b"}), Row(3, {"text": "first"})]
    chunk = make(roles, folder=None).encode(rows)
    column = getattr(roles, m)
    told = f"row 2, column '{column}': no folder of {what}s: a.b: say --folder DIR"
    assert str(chunk.outcome[0]) == told and chunk.kept == rows[1:]


def header_only_png(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds nothing: a decompression bomb."""

    def part(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0")) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bad_files(folder, suffix):
    """Lay out what cannot be had or read as a picture (png) or a sound (wav)."""
    whole = (folder / f"good-0.{suffix}").read_bytes()
    (folder / f"text.{suffix}").write_text("neither picture nor sound")
    (folder / f"empty.{suffix}").write_bytes(b"")
    (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2 if suffix == "png" else 20])
    (folder / f"large.{suffix}").write_bytes(header_only_png(60_000, 60_000))
    with (folder / f"heavy.{suffix}").open("wb") as file:
        file.truncate(100_000_000)
    (folder / "sub").mkdir()
    os.mkfifo(folder / f"pipe.{suffix}")
    (folder / f"loop.{suffix}").symlink_to(folder / f"loop.{suffix}")
    (folder / f"gone.{suffix}").symlink_to(folder / "no such file")
    (folder.parent / f"outside.{suffix}").write_bytes(whole)
    (folder / f"link.{suffix}").symlink_to(folder.parent / f"outside.{suffix}")
    (folder / "way").symlink_to(folder.parent)
    (folder.parent / "files-too").mkdir()
    (folder.parent / "files-too" / f"twin.{suffix}").write_bytes(whole)


BAD = [
    ("nothere.*", "missing {}", "nothere.* cannot be opened: No such file or directory"),
    ("gone.*", "missing {}", "gone.* cannot be opened: No such file or directory"),
    ("sub", "missing {}", "sub is no file"),
    (".", "missing {}", ". is no file"),
    ("pipe.*", "missing {}", "pipe.* is no file"),
    ("loop.*", "missing {}", "loop.* cannot be opened: Too many levels of symbolic links"),
    ("x" * 300 + ".*", "missing {}", "cannot be opened: File name too long"),
    ("good-0.*/a.*", "missing {}", "cannot be opened: Not a directory"),
    ("../outside.*", "path leaves the folder", "../outside.* is not inside the folder"),
    ("sub/../../outside.*", "path leaves the folder", "is not inside"),
    ("../files-too/twin.*", "path leaves the folder", "is not inside"),
    ("/etc/passwd", "path leaves the folder", "/etc/passwd is not inside"),
    ("link.*", "path leaves the folder", "link.* is a link that leads out of"),
    ("way/outside.*", "path leaves the folder", "is a link that leads out of"),
    ("heavy.*", "{} too large", "heavy.* has 100 MB, the limit is 50 MB"),
    ("large.*", "unreadable {}", "large.*: "),
    ("text.*", "unreadable {}", "text.*: "),
    ("empty.*", "unreadable {}", "empty.*: "),
    ("cut.*", "unreadable {}", "cut.*: "),
]


@pytest.mark.parametrize(
    ("m", "what", "suffix"), [("image", "picture", "png"), ("audio", "sound", "wav")]
)
def test_files_that_cannot_be_had_are_named_and_the_others_encoded(
    make, folder, tmp_path, m, what, suffix
):
    """All in one chunk, each bad one twice, between good ones; no message betrays where the folder
    lies."""
    bad_files(folder, suffix)
    names = [name.replace("*", suffix) for name, _, _ in BAD]
    order = [f"good-0.{suffix}", *names, f"bad-0.{suffix}", *names]
    rows = [Row(k + 2, {m: name}) for k, name in enumerate(order)]
    chunk = make(FILES).encode(rows)
    assert chunk.kept == [rows[0], rows[len(BAD) + 1]]
    told = [p for p in chunk.outcome if isinstance(p, Problem)]
    for problems in (told[: len(BAD)], told[len(BAD) :]):
        for (name, kind, words), problem in zip(BAD, problems, strict=True):
            assert problem.column == getattr(FILES, m), name
            assert problem.kind == kind.format(what), name
            assert words.replace("*", suffix) in problem.detail, problem.detail
            assert str(tmp_path) not in problem.detail, problem.detail
    assert [p.row for p in told] == [p.row for p in rows if p not in chunk.kept]
    alone = make(FILES).encode([rows[0], rows[len(BAD) + 1]])
    assert torch.equal(alone.features[m], chunk.features[m]), "each row has its own file's features"


def test_pictures_of_too_many_pixels_are_told_as_such(make, folder):
    (folder / "bomb.png").write_bytes(header_only_png(60_000, 60_000))
    (problem,) = make(FILES).encode(pictured(["bomb.png"])).outcome
    assert "pixels" in problem.detail and "could be decompression bomb" in problem.detail


@pytest.mark.parametrize(("m", "name"), [("image", "good-0.png"), ("audio", "good-0.wav")])
def test_the_largest_file_is_an_option(folder, make, m, name):
    limit = (folder / name).stat().st_size / 1e6
    rows = [Row(2, {m: name})]
    assert make(FILES, max_megabytes=limit).encode(rows).kept == rows
    (problem,) = make(FILES, max_megabytes=0.9 * limit).encode(rows).outcome
    assert problem.kind.endswith("too large") and name in problem.detail


def test_links_inside_the_folder_and_a_folder_that_is_a_link_are_fine(folder, make):
    (folder / "inside.png").symlink_to(folder / "good-0.png")
    (folder.parent / "way").symlink_to(folder)
    for root in (folder, folder.parent / "way"):
        names = ["inside.png", "./good-0.png", str(root / "good-0.png")]
        chunk = make(FILES, folder=root).encode(pictured(names))
        assert len(chunk.kept) == 3 and len({*chunk.keys["image"]}) == 1


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
@pytest.mark.parametrize(("m", "suffix"), [("image", "png"), ("audio", "wav")])
def test_accents_may_be_written_otherwise_on_the_disk(make, folder, on_disk, in_table, m, suffix):
    name = f"été à Ångström.{suffix}"
    shutil.copy(folder / f"good-0.{suffix}", folder / unicodedata.normalize(on_disk, name))
    encoder = make(FILES)
    row = Row(2, {m: unicodedata.normalize(in_table, name)})
    assert encoder.encode([row]).kept == [row] and encoder.remarks() == []


SEVERAL = ["good-0.png;bad-0.png", "good-0.png | nothere.png", "good-0.png, bad-0.png,x"]


@pytest.mark.parametrize("cell", [*SEVERAL, ["good-0.png", "bad-0.png"]])
def test_of_several_files_in_a_cell_the_first_is_read_and_told(make, folder, cell):
    encoder = make(Roles(image="file"))
    rows = Rows(Table([{"file": cell}, {"file": "good-0.png"}]), Roles(image="file"))
    chunk = encoder.encode(list(rows))
    assert len(chunk.kept) == 2 and chunk.keys["image"][0] == chunk.keys["image"][1]
    assert encoder.remarks() == ["1 × several files in a cell, of which the first is read."]


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        (["", ""], [1]),
        (["", "good-0.png"], [0, 1]),
        (["nan", "good-0.png"], [0, 1]),
        (";good-0.png", [0, 1]),
        ("good-0.png;", [0, 1]),
    ],
)
def test_what_is_empty_among_several_files_is_none(make, cell, kept):
    """kept: the rows that have a picture, as positions; of a cell without any the row has none."""
    roles = Roles(text="text", image="file")
    encoder = make(roles)
    records = [{"text": "a", "file": cell}, {"text": "b", "file": "good-0.png"}]
    chunk = encoder.encode(list(Rows(Table(records), roles)))
    assert len(chunk.kept) == 2 and chunk.where["image"] == kept
    assert encoder.remarks() == [], "one file is not several"


@pytest.mark.parametrize("name", ["a, b.png", "a;b.png", "a|b.png"])
def test_a_name_that_holds_a_separator_is_one_file(make, folder, name):
    shutil.copy(folder / "good-0.png", folder / name)
    encoder = make(FILES)
    assert len(encoder.encode(pictured([name])).kept) == 1 and encoder.remarks() == []


def test_of_several_files_none_of_which_is_there_the_cell_is_named(make):
    (problem,) = make(FILES).encode(pictured(["x.png;good-0.png"])).outcome
    assert (problem.kind, problem.detail[:16]) == ("missing picture", "x.png;good-0.png")


def test_a_list_of_one_file_is_that_file(make, folder):
    shutil.copy(folder / "good-0.png", folder / "a, b.png")
    roles = Roles(image="file")
    for cell in (["good-0.png"], ["a, b.png"]):
        encoder = make(roles)
        assert len(encoder.encode(list(Rows(Table([{"file": cell}]), roles))).kept) == 1
        assert encoder.remarks() == []


def test_a_list_of_files_whose_names_hold_a_comma_is_read(make, folder):
    shutil.copy(folder / "good-0.png", folder / "a, b.png")
    roles = Roles(image="file")
    (outcome,) = (
        make(roles).encode(list(Rows(Table([{"file": ["a, b.png", "bad-0.png"]}]), roles))).outcome
    )
    assert isinstance(outcome, Row)


def test_a_picture_that_vanishes_while_it_is_read_costs_its_row_only(make, folder, monkeypatch):
    """As on a network drive: it was there when it was hashed."""
    encoder = make(FILES)
    shutil.copy(folder / "good-0.png", folder / "short-lived.png")
    with (folder / "short-lived.png").open("ab") as file:
        file.write(b"other content, so that it is not in the cache")
    keys = encoder.encoders["image"].keys

    def hash_and_lose(paths):
        found = keys(paths)
        if "short-lived" in str(paths[0]):
            (folder / "short-lived.png").unlink()
        return found

    monkeypatch.setattr(encoder.encoders["image"], "keys", hash_and_lose)
    rows = pictured(["good-0.png", "short-lived.png", "bad-0.png"])
    chunk = encoder.encode(rows)
    assert chunk.kept == [rows[0], rows[2]] and chunk.outcome[1].row == 3


# pictures of every kind


def test_transparent_grey_and_animated_pictures_are_read(folder, make):
    square = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    square.save(folder / "grey.png")
    square.convert("RGBA").save(folder / "clear.png")
    square.save(folder / "moving.gif", save_all=True, append_images=[square.rotate(90)])
    chunk = make(FILES).encode(pictured(["grey.png", "clear.png", "moving.gif"]))
    assert len(chunk.kept) == 3 and not chunk.features["image"].isnan().any()


def test_odd_exif_costs_no_picture_and_turns_it(make, folder):
    """A resolution of one byte, on which Pillow stumbles when it opens the file."""
    entries = [(0x112, 3, 1, b"\6\0\0\0"), (0x11A, 1, 1, b"\x48\0\0\0")]
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    exif += b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries) + b"\0" * 4
    picture = Image.new("RGB", (32, 16), "green")
    picture.paste("yellow", (0, 0, 8, 16))
    picture.save(folder / "odd.jpg", exif=exif)
    picture.save(folder / "plain.jpg")
    with Image.open(folder / "plain.jpg") as plain:
        plain.transpose(Image.Transpose.ROTATE_270).save(folder / "turned.png")
    chunk = make(FILES).encode(pictured(["odd.jpg", "turned.png", "plain.jpg"]))
    odd, turned, plain = chunk.features["image"]
    torch.testing.assert_close(odd, turned, rtol=1e-4, atol=1e-4)
    assert (odd - plain).norm() > 0.1


WRITTEN = [name for name in FORMATS if name in Image.SAVE and name not in ("MPO", "DIB")]


def test_the_formats_that_are_damaged_below_are_all():
    expected = {"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO"}
    assert expected <= {*WRITTEN} <= expected | {"AVIF"}


@pytest.mark.parametrize("kind", WRITTEN)
def test_damaged_pictures_cost_their_rows_only(make, folder, tmp_path, colours_only, kind):
    """Cut at 60 lengths, and whole but for a few bytes 20 times."""
    rng, file = random.Random(0), io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(file, kind)
    whole = file.getvalue()
    contents = [whole[: len(whole) * k // 60] for k in range(60)]
    for _ in range(20):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        contents.append(bytes(damaged))
    contents = [whole, *contents, whole]
    for k, content in enumerate(contents):
        (folder / f"{k}.x").write_bytes(content)
    encoder = make(FILES, cache=tmp_path / "cache")
    rows = pictured(f"{k}.x" for k in range(len(contents)))
    chunk = encoder.encode(rows)
    assert [row.row for row in chunk.outcome] == [row.row for row in rows]
    assert isinstance(chunk.outcome[0], Row) and isinstance(chunk.outcome[-1], Row)
    told = {p.row - 2: p for p in chunk.outcome if isinstance(p, Problem)}
    assert {*range(1, 10)} <= told.keys(), "a sixth of a picture is none"
    for k, problem in told.items():
        kinds = ("unreadable picture", "missing picture")
        assert problem.column == "file" and problem.kind in kinds
        assert problem.detail.startswith(f"{k}.x: ") and str(tmp_path) not in problem.detail
    assert len(chunk.features["image"]) == len(rows) - len(told)
    assert torch.equal(chunk.features["image"][0], chunk.features["image"][-1])


def made_up_exif(rng: random.Random) -> bytes:
    """Return EXIF of either byte order whose entries have any type, lie about their length, and
    point to each other, to themselves, or out of it."""
    order, mark = rng.choice([("<", b"II*\0"), (">", b"MM\0*")])
    tags = [0x100, 0x10E, 0x112, 0x11A, 0x11B, 0x128, 0x13B, 0x8769, 0x8825, 0xA005, 0x9286, 0xC4A5]
    entries, n = b"", rng.randrange(1, 9)
    for tag in rng.sample(tags, n):
        length = rng.choice([0, 1, 1, 1, 2, 3, 8, 300, 2**16, 2**31, 2**32 - 1])
        value = rng.choice([rng.randrange(9), rng.randrange(200), 8, rng.randrange(2**32)])
        entries += struct.pack(order + "HHLL", tag, rng.randrange(0, 18), length, value)
    told = rng.choice([n, n, n, n + 1, 0, 2**16 - 1])
    start = struct.pack(order + "L", rng.choice([8, 8, 8, 8, 0, 2, 2**32 - 1]))
    block = mark + start + struct.pack(order + "H", told) + entries + rng.randbytes(40)
    return b"Exif\0\0" + block[: rng.choice([len(block), len(block), rng.randrange(len(block))])]


@pytest.mark.filterwarnings("ignore::UserWarning")  # as the module itself does, outside tests
def test_no_picture_is_lost_to_made_up_exif(make, folder, tmp_path, colours_only):
    """2,000 blocks, in four formats."""
    rng, picture = random.Random(1), Image.new("RGB", (24, 16), (0, 255, 0))
    names = []
    for k in range(2000):
        kind = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP")[k % 5]
        picture.save(folder / f"{k}.{kind}", kind, exif=made_up_exif(rng))
        names.append(f"{k}.{kind}")
    encoder = make(FILES, cache=tmp_path / "cache")
    chunks = list(encoder.chunks(pictured(names)))
    told = [p for chunk in chunks for p in chunk.outcome if isinstance(p, Problem)]
    assert told == []
    colours = torch.cat([chunk.features["image"] for chunk in chunks])[:, :3]
    torch.testing.assert_close(colours, torch.tensor([[-1.0, 1, -1]] * 2000), atol=0.05, rtol=0)


# sounds


def test_a_sound_longer_than_is_read_is_named(make, folder):
    soundfile.write(folder / "long.wav", np.zeros(601_000), 1000)
    soundfile.write(folder / "fits.wav", np.zeros(600_000), 1000)
    long, fits = (
        make(FILES).encode([Row(2, {"audio": f"{n}.wav"}) for n in ("long", "fits")]).outcome
    )
    assert (long.row, long.column, long.kind) == (2, "voice", "unreadable sound")
    assert long.detail == "long.wav: longer than 600 s" and isinstance(fits, Row)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_damaged_sounds_cost_their_rows_only(make, folder, tmp_path, kind):
    rng, file = np.random.default_rng(0), io.BytesIO()
    soundfile.write(file, 0.1 * rng.standard_normal(1600), 16_000, format=kind)
    whole = file.getvalue()
    contents = [whole, *(whole[: len(whole) * k // 30] for k in range(30)), whole]
    for k, content in enumerate(contents):
        (folder / f"{k}.x").write_bytes(content)
    rows = [Row(k + 2, {"audio": f"{k}.x"}) for k in range(len(contents))]
    chunk = make(FILES, cache=tmp_path / "cache").encode(rows)
    assert [row.row for row in chunk.outcome] == [row.row for row in rows]
    told = {p.row - 2: p for p in chunk.outcome if isinstance(p, Problem)}
    assert 1 in told and not {0, len(contents) - 1} & told.keys()
    assert all(p.detail.startswith(f"{k}.x: ") for k, p in told.items())
    assert chunk.features["audio"].isfinite().all()
