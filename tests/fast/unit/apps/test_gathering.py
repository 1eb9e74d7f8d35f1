"""Rows → the training table: targets, groups of what is repeated, complete rows first; faults are
noted and left out."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtutor.apps import Options, encoding, gathering, train
from mmtutor.apps.encoding import Chunk, RowEncoder
from mmtutor.apps.faults import Faults, TableUnusable
from mmtutor.apps.gathering import Grouping, gather
from mmtutor.apps.reading import Table
from mmtutor.apps.rows import Roles, Row, Rows, survey
from mmtutor.encoders.cache import FeatureCache
from tests.posts import tone

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

MODALITIES = ("text", "image", "audio", "numbers", "categories")
EVERY = Roles(numbers=("age", "weight"), categories=("sex",), slices=("town", "age:18"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    """Return the folder of pictures with six sounds beside them, low-0.wav to high-2.wav."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for picture in pictures.iterdir():
        (folder / picture.name).write_bytes(picture.read_bytes())
    for name, hertz in (("low", 200), ("high", 2000)):
        for i in range(3):
            (folder / f"{name}-{i}.wav").write_bytes(tone(hertz, rng))
    return folder


@pytest.fixture
def gathered(folder, cache):
    """Return a function: records → their table, the slices, and the faults noted on the way."""

    def gathered(records, roles=None, strict=False, known=None, **options):
        rows = Rows(Table(records), roles or Roles(), labelled=True)
        found = survey(rows) if known is None else known
        usual = {"folder": folder, "device": "cpu", "cache": cache, "text_encoder": "characters"}
        encoder = RowEncoder(rows.roles, **usual | {"vocabulary": found.vocabulary} | options)
        faults = Faults(strict)
        return *gather(rows, found, encoder, faults, progress=False), faults

    return gathered


def labelled(*labels):
    return [{"text": f"word {chr(97 + i)}", "label": label} for i, label in enumerate(labels)]


def named(table) -> list[str]:
    return [table.classes[c] for c in table.labels]


# what a row becomes


def test_features_labels_and_positions_belong_together(gathered, folder, cache):
    records = [
        {"text": "word a", "image": "", "label": "x"},
        {"text": "", "image": "good-0.png", "label": "y"},
        {"text": "word b", "image": "nothere.png", "label": "y"},
        {"text": "word c", "image": "bad-0.png", "label": "x"},
    ]
    table, _, faults = gathered(records)
    assert len(table) == 3 and faults.counts == {"missing picture": 1}
    assert table.classes == ("x", "y") and named(table) == ["x", "x", "y"]
    assert table.present["text"].tolist() == [True, True, False]
    assert table.present["image"].tolist() == [True, False, True]
    assert table.having(("text", "image")).tolist() == [True, False, False]
    encoder = RowEncoder(
        Roles("text", "image"), folder, text_encoder="characters", device="cpu", cache=cache
    )
    one = encoder.encode([Row(1, {"text": "word c", "image": "bad-0.png"})])
    samples = table.samples(torch.tensor([0]), ("image", "text"))
    assert list(samples.features) == ["image", "text"] and samples.labels.tolist() == [0]
    for m in ("text", "image"):
        assert torch.equal(samples.features[m], one.features[m])


def complete(k: int) -> dict[str, object]:
    side = ("good", "bad")[k % 2]
    files = {"image": f"{side}-{k % 24}.png", "audio": f"{('low', 'high')[k % 2]}-{k % 3}.wav"}
    columns = {"age": k, "weight": 0.5 * k, "sex": "fm"[k % 2], "town": ("Ulm", "Bonn")[k % 2]}
    return {"text": f"word {chr(97 + k)}", **files, **columns, "label": side}


LACKING = {m: {m: ""} for m in ("text", "image", "audio")}
LACKING |= {"numbers": {"age": "", "weight": None}, "categories": {"sex": "NaN"}}


def test_rows_that_have_everything_come_first_then_those_alike(gathered):
    """Whatever the order of the rows, each keeps its own features, target, slices and masks."""
    records = [complete(k) for k in range(12)]
    lacks = {0: "text", 1: "categories", 4: "audio", 5: "image", 7: "numbers", 9: "text"}
    for k, gone in lacks.items():
        records[k] |= LACKING[gone]
    table, slices, faults = gathered(records, EVERY)
    assert not faults.counts.total() and table.knots == {"numbers": 6, "categories": 2}
    kept = [2, 3, 6, 8, 10, 11, 1, 7, 4, 5, 0, 9]  # the later a modality, the sooner it may lack
    assert named(table) == [records[k]["label"] for k in kept]
    for m in MODALITIES:
        assert table.present[m].tolist() == [lacks.get(k) != m for k in kept]
        assert not table.features[m][~table.present[m]].any(), "holes in a sparse file"
    again, _, _ = gathered([records[k] for k in kept], EVERY)
    for m in MODALITIES:
        torch.testing.assert_close(table.features[m], again.features[m], atol=2e-5, rtol=0)
    ages = [[k, 0.5 * k, 1, 1] if k != 7 else [0] * 4 for k in kept]
    assert table.features["numbers"].tolist() == ages
    codes = [[k % 2, 1] if k != 1 else [0, 0] for k in kept]
    assert table.features["categories"].tolist() == codes
    towns = [[("Ulm", "Bonn")[k % 2], str(k) if k != 7 else ""] for k in kept]
    assert slices.tolist() == towns


@pytest.mark.parametrize("both", [0, 1, 2])
def test_few_rows_or_none_that_have_everything_are_a_table_all_the_same(gathered, both):
    records = labelled(*"xyxyxy")
    for k in range(both):
        records[2 * k + 1] |= {"image": f"bad-{k}.png"}
    records += [{"image": "good-0.png", "label": "x"}]
    table, _, faults = gathered([r | {"image": r.get("image", "")} for r in records])
    assert len(table) == 7 and not faults.counts
    assert table.having(("text", "image")).tolist() == [k < both for k in range(7)]
    assert named(table)[:both] == ["y"] * both


def test_a_table_without_slices_has_none_for_each_row(gathered):
    assert gathered(labelled(*"xyx"))[1].shape == (3, 0)


def test_chunks_join_without_a_seam(gathered, monkeypatch):
    records = [complete(k) | LACKING[MODALITIES[k % 5]] for k in range(11)]
    whole, slices, _ = gathered(records, EVERY)
    monkeypatch.setattr(encoding, "CHUNK", 3)
    parts, others, _ = gathered(records, EVERY)
    for m in MODALITIES:
        assert torch.equal(whole.present[m], parts.present[m]) and whole.present[m].sum() > 3
        torch.testing.assert_close(whole.features[m], parts.features[m], atol=2e-5, rtol=0)
    assert torch.equal(whole.labels, parts.labels) and np.array_equal(slices, others)
    assert np.array_equal(whole.groups, parts.groups)


def test_a_number_to_predict_is_standardised(gathered):
    records = [
        {"text": f"word {w}", "price": p} for w, p in zip("abcd", (1, 5, "", 9), strict=True)
    ]
    table, _, faults = gathered(records, Roles(target="price"))
    assert faults.counts == {"missing label": 1} and table.classes == ()
    spread = (32 / 3) ** 0.5  # of 1, 5 and 9
    torch.testing.assert_close(table.labels, torch.tensor([-4, 0, 4]) / spread)


def test_a_large_number_to_predict_keeps_its_digits(gathered):
    records = [{"text": f"word {k}", "price": 1_700_000_000 + k} for k in (1, 5, 9)]
    table, _, _ = gathered(records, Roles(target="price"))
    torch.testing.assert_close(table.labels, torch.tensor([-4, 0, 4]) / (32 / 3) ** 0.5)


def test_labels_that_are_equal_become_one_class(gathered):
    labels = ["1", "1.0", "e\u0301", "é", "é\u200b", "none", "01", "None", "nan"]
    table, _, faults = gathered(labelled(*labels))
    assert table.classes == ("1", "e\u0301", "none") and faults.counts == {"missing label": 2}
    assert table.labels.tolist() == [0, 0, 1, 1, 1, 2, 0]


def test_missing_labels_are_faults_and_strict_stops_at_the_first(gathered):
    records = [{"text": f"word {k}", "mood": mood} for k, mood in enumerate(("x", "", "NaN", "y"))]
    table, _, faults = gathered(records, Roles(label="mood"))
    assert len(table) == 2 and faults.counts == {"missing label": 2}
    assert str(faults.first[1]) == "row 3, column 'mood': missing label: the cell is empty"
    with pytest.raises(TableUnusable, match=r"row 2, column 'mood': missing label.*--strict"):
        gathered(records, Roles(label="mood"), strict=True)


def test_where_every_file_is_missing_the_table_is_empty_and_the_faults_are_counted(gathered):
    records = [{"image": f"{k}.jpeg", "label": "xy"[k % 2]} for k in range(4)]
    table, slices, faults = gathered(records)
    assert len(table) == len(slices) == 0 and faults.counts == {"missing picture": 4}


@pytest.mark.parametrize(
    "there",
    ["", "x"],
    ids=["none", "one class"],
)
def test_a_wrong_folder_is_refused_with_the_counted_faults(tmp_path, folder, cache, there):
    """Where no row is left, and where those of one class are left."""
    records = [
        {"image": f"good-{k}.png" if label == there else f"{k}.jpeg", "label": label}
        for k in range(6)
        for label in "xy"
    ]
    options = Options(folder=folder, device="cpu", cache=cache, progress=False)
    with pytest.raises(TableUnusable, match=r"\n\d+ × missing picture\n    row \d, column 'image'"):
        train(records, tmp_path / "model", options)


@pytest.mark.parametrize(
    ("records", "roles", "words"),
    [
        (labelled(*range(101)), Roles(), "101 different labels"),
        (labelled("x", "x"), Roles(), "nothing to tell apart"),
        (
            [row | {"name": f"n{k}"} for k, row in enumerate(labelled(*"xy" * 101))],
            Roles(categories=("name",)),
            "202 different categories",
        ),
        ([{"text": "a", "label": "x"}], Roles(image="photo"), "no column 'photo'"),
    ],
)
def test_what_can_be_refused_is_so_before_anything_is_encoded(
    tmp_path, monkeypatch, records, roles, words
):
    called = []
    monkeypatch.setattr(RowEncoder, "encode", lambda self, rows: called.append(rows))
    with pytest.raises(TableUnusable, match=words):
        train(records, tmp_path / "model", Options(roles, device="cpu", progress=False))
    assert called == [] and not (tmp_path / "model").exists()


# groups


def grouped(*rows) -> list[int]:
    """Return groups, renumbered by first appearance, of (text, picture or None, given group or
    "", sound or None)."""
    grouping = Grouping()
    for text, picture, group, *sound in rows:  # each in a chunk of its own
        files = {"image": picture, "audio": sound[0] if sound else None}
        keys = {"text": [b"t"]} | {m: [key] for m, key in files.items() if key}
        row = Row(1, {"text": text} if text else {}, group=group)
        grouping.add(Chunk([row], [row], {}, {m: [0] for m in keys}, keys))
    numbers = grouping.numbers().tolist()
    return [list(dict.fromkeys(numbers)).index(n) for n in numbers]


def test_posts_without_letters_are_reposts_where_they_are_equal():
    texts = ("!!!", "\U0001f600", "!!!", "!!", "1")
    assert grouped(*((text, None, "") for text in texts)) == [0, 1, 0, 2, 3]


def test_reposts_are_one_group():
    texts = ("Good morning!", "RT @ann: good MORNING http://t.co/x", "good evening", "Guten Morgen")
    assert grouped(*((text, None, "") for text in texts)) == [0, 0, 1, 2]


def test_rows_of_the_same_picture_are_one_group_and_links_join_in_turn():
    """a shares words with b, b the picture with c, c words with d; e stands alone."""
    rows = [("one", b"1", ""), ("one", b"2", ""), ("two", b"2", ""), ("two", None, "")]
    assert grouped(*rows, ("three", b"3", "")) == [0, 0, 0, 0, 1]


def test_rows_of_the_same_sound_are_one_group_and_link_as_pictures_do():
    rows = [("", b"1", "", b"a"), ("", b"2", "", b"a"), ("one", b"2", ""), ("", None, "", b"b")]
    assert grouped(*rows) == [0, 0, 0, 1]


def test_files_without_a_text_stand_for_themselves():
    assert grouped(("", b"1", ""), ("", b"2", ""), ("", b"1", "")) == [0, 1, 0]


def test_groups_of_the_table_count_where_they_are_given():
    """Equal words in two given groups stay apart; rows without a group are grouped by their words,
    apart from both."""
    rows = [("one", None, "g"), ("two", None, "g"), ("one", None, "h")]
    rows += [("one", None, ""), ("one", None, ""), ("three", None, "")]
    assert grouped(*rows) == [0, 0, 1, 2, 2, 3]


def test_no_rows_have_no_groups():
    assert Grouping().numbers().tolist() == []


def test_rows_of_columns_alone_are_groups_of_their_own(gathered):
    records = [{"age": 3, "label": label} for label in "xyxy"]
    table, _, _ = gathered(records, Roles(numbers=("age",)))
    assert len({*table.groups.tolist()}) == 4, "equal numbers are no repost"


def test_the_group_column_reaches_the_table(gathered):
    groups = ("a", "a", "b", "b", "nan", "None")
    records = [r | {"group": g} for r, g in zip(labelled(*"xyxyxy"), groups, strict=True)]
    found = gathered(records)[0].groups.tolist()
    assert found[0] == found[1] != found[2] == found[3]
    assert len({*found}) == 4, "rows whose group is missing are not one group"


def test_a_repost_of_text_picture_or_sound_reaches_the_table(gathered, folder):
    (folder / "copy.png").write_bytes((folder / "good-1.png").read_bytes())
    cells = [
        ("word a", "good-0.png", ""),
        ("word b", "good-0.png", ""),
        ("Word A!", "good-1.png", ""),
    ]
    cells += [
        ("word c", "copy.png", "low-0.wav"),
        ("", "", "low-0.wav"),
        ("word d", "", "low-1.wav"),
    ]
    records = [
        dict(zip(("text", "image", "audio", "label"), (*each, "xy"[k % 2]), strict=True))
        for k, each in enumerate(cells)
    ]
    table, _, _ = gathered(records)
    counts = sorted(np.unique(table.groups, return_counts=True)[1])
    assert counts == [1, 5], "linked in turn, by words, picture, copied picture and sound"


# many rows, many processes


def test_several_processes_share_the_encoding(monkeypatch):
    """The second of two processes encodes the second chunk, and waits; faults and counts are left
    to the common reading."""
    rows = Rows(Table(labelled(*"xyxyxyxy")), Roles(), labelled=True)
    encoded, waited, cleared = [], [], []

    class State:
        num_processes, process_index = 2, 1

        def wait_for_everyone(self):
            waited.append(len(encoded))

    class Encoder:
        class counts:
            clear = staticmethod(lambda: cleared.append(len(encoded)))

        def encode(self, part):
            encoded.append([row.row for row in part])

    monkeypatch.setattr(gathering, "PartialState", State)
    monkeypatch.setattr(encoding, "CHUNK", 3)
    gathering._share_encoding(rows, Encoder())
    assert encoded == [[4, 5, 6]] and waited == cleared == [1]
    State.process_index = 0
    gathering._share_encoding(rows, Encoder())
    assert encoded[1:] == [[1, 2, 3], [7, 8]]


def test_a_large_table_is_gathered_in_a_file_with_the_same_features(gathered, cache, monkeypatch):
    records = [complete(k) for k in range(10)]
    records += [row | {"text": f"{row['text']}!"} for row in records[:3]]  # files that come twice
    plain, _, _ = gathered(records, EVERY)
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 0)
    monkeypatch.setattr(encoding, "SPILL_ROWS", 4)
    maps, room = [], FeatureCache.room
    monkeypatch.setattr(
        FeatureCache, "room", lambda self, n: maps.append(room(self, n)) or maps[-1]
    )
    spilled, _, _ = gathered(records, EVERY)
    assert {type(each) for each in maps if each.size} == {np.memmap}
    for m in MODALITIES:
        assert torch.equal(plain.features[m], spilled.features[m])
    assert not list(cache.glob("*/tmp*"))


# the law

CELLS = {
    "text": st.sampled_from(["", "word a", "word b", "\0", "NaN", []]),
    "image": st.sampled_from(["", "good-0.png", "bad-1.png", "nothere.png", "../x.png"]),
    "audio": st.sampled_from(["", "low-0.wav", "high-1.wav", "good-0.png", "/etc/passwd"]),
    "age": st.sampled_from(["", "3", "3,5", "inf", 4]),
    "sex": st.sampled_from(["", "f", "m", {}]),
    "label": st.sampled_from(["", "x", "y", "None", "none"]),
    "group": st.sampled_from(["", "g", "h"]),
    "id": st.sampled_from(["", "", "1", "2"]),
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.fixed_dictionaries(CELLS), max_size=8),
    st.lists(st.sampled_from(["age", "sex"]), unique=True),
)
def test_every_row_is_in_the_table_or_among_the_faults(gathered, records, columns):
    records += [dict.fromkeys(CELLS, "") | {"text": f"word {x}", "label": x} for x in "xy"]
    numbers, categories = (tuple({c} & {*columns}) for c in ("age", "sex"))
    table, slices, faults = gathered(records, Roles(numbers=numbers, categories=categories))
    assert len(table) + faults.counts.total() == len(records)
    lost = [p.row for p in faults.first]
    assert lost == sorted({*lost}), "each once, in order"
    kept = [r["label"] for k, r in enumerate(records, 1) if k not in lost]
    assert sorted(named(table)) == sorted(kept)
    assert len(slices) == len(table.groups) == len(table)
    held = torch.stack([*table.present.values()])
    assert held.any(0).all(), "no row without anything to read"
    for m, mask in table.present.items():
        assert table.features[m].isfinite().all() and not table.features[m][~mask].any()
