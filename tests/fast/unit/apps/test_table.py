"""Posts → the training table: labels in order, reposts in one group, faults noted and left out."""

import numpy as np
import pytest
import torch

from mmtutor.apps import features
from mmtutor.apps import table as module
from mmtutor.apps.faults import Faults, PostsUnusable
from mmtutor.apps.features import PostEncoder
from mmtutor.apps.posts import Columns, Post, PostTable
from mmtutor.apps.table import Grouping, read_table
from mmtutor.encoders.cache import FeatureCache

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


@pytest.fixture
def tabled(tmp_path, pictures, cache, write):
    """Return a function: rows → their Table, and the faults noted on the way."""

    def tabled(rows, columns=None, strict=False):
        path = write(tmp_path / "posts.csv", rows)
        faults = Faults(strict)
        posts = PostTable(path, columns or Columns(), ("label",))
        return read_table(
            posts, PostEncoder(pictures, "cpu", cache), faults, progress=False
        ), faults

    return tabled


def labelled(*labels):
    return [{"text": f"word {chr(97 + i)}", "label": label} for i, label in enumerate(labels)]


def test_features_labels_and_positions_belong_together(tabled, cache, pictures):
    rows = [
        {"text": "word a", "image": "", "label": "x"},
        {"text": "", "image": "good-0.png", "label": "y"},
        {"text": "word b", "image": "nothere.png", "label": "y"},
        {"text": "word c", "image": "bad-0.png", "label": "x"},
    ]
    table, faults = tabled(rows)
    assert len(table) == 3 and faults.counts == {"missing picture": 1}
    assert table.classes == ("x", "y") and table.labels.tolist() == [0, 0, 1]
    assert table.present["text"].tolist() == [True, True, False]
    assert table.present["image"].tolist() == [True, False, True]
    assert table.having(("text", "image")).tolist() == [True, False, False]
    encoder = PostEncoder(pictures, "cpu", cache)
    one = encoder.encode([Post(1, "word c", "bad-0.png")])
    samples = table.samples(torch.tensor([0]), ("image", "text"))
    assert list(samples.features) == ["image", "text"] and samples.labels.tolist() == [0]
    for m in ("text", "image"):
        assert torch.equal(samples.features[m], one.features[m])


def test_chunks_join_without_a_seam(tabled, monkeypatch):
    rows = [
        {
            "text": f"word {chr(97 + i)}" if i % 3 else "",
            "image": f"good-{i}.png" if i % 2 or not i % 3 else "",
            "label": "xy"[i % 2],
        }
        for i in range(11)
    ]
    whole, _ = tabled(rows)
    monkeypatch.setattr("mmtutor.apps.features.CHUNK", 3)
    parts, _ = tabled(rows)
    for m in ("text", "image"):
        assert torch.equal(whole.present[m], parts.present[m]) and whole.present[m].sum() > 3
        assert torch.equal(whole.features[m], parts.features[m])
    assert torch.equal(whole.labels, parts.labels) and np.array_equal(whole.groups, parts.groups)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "-1", "10"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["2.5", "1e3", "0"], ("0", "2.5", "1e3")),
        (["好", "坏", "a"], ("a", "坏", "好")),
    ],
)
def test_classes_are_in_order_of_value_or_of_name(tabled, labels, classes):
    table, _ = tabled(labelled(*labels))
    assert table.classes == classes
    assert [table.classes[c] for c in table.labels] == labels


def test_missing_labels_are_faults_named_after_the_column(tabled):
    rows = [
        {"text": f"word {c}", "mood": mood}
        for c, mood in zip("abcd", ("x", "", "NaN", "y"), strict=True)
    ]
    path_columns = Columns(label="mood")
    with pytest.raises(PostsUnusable, match="no column 'label'"):
        tabled(rows)
    # the fixture asks for "label" by its role, whatever it is called
    table, faults = tabled(rows, path_columns)
    assert len(table) == 2 and faults.counts == {"missing label": 2}
    assert str(faults.first[1]) == "row 4, column 'mood': missing label: the label is empty or NaN"
    with pytest.raises(PostsUnusable, match="row 3, column 'mood': missing label"):
        tabled(rows, path_columns, strict=True)


def test_tables_without_anything_to_learn_are_refused(tabled):
    with pytest.raises(
        PostsUnusable,
        match=r"posts\.csv, column 'label': all 2 usable posts are 'x': nothing to tell",
    ):
        tabled(labelled("x", "x"))
    with pytest.raises(
        PostsUnusable, match=r"holds no usable post\.\n2 × missing label\n    row 2"
    ):
        tabled(labelled("", ""))


def test_a_column_that_is_no_label_is_found_out(tabled, monkeypatch):
    monkeypatch.setattr(module, "MOST_CLASSES", 3)
    assert len(tabled(labelled(*"abc"))[0].classes) == 3
    with pytest.raises(
        PostsUnusable, match=r"4 different labels \('a', 'b', 'c', …\), at most 3: is it the one"
    ):
        tabled(labelled(*"abcd"))


def test_header_only_is_told(tmp_path, pictures, cache):
    (tmp_path / "posts.csv").write_text("text,label\n")
    with pytest.raises(PostsUnusable, match=r"holds no usable post\.\nIt has no rows"):
        read_table(
            PostTable(tmp_path / "posts.csv"),
            PostEncoder(None, "cpu", cache),
            Faults(),
            progress=False,
        )


def grouped(*posts) -> list[int]:
    """Return groups, renumbered by first appearance, of (text, picture or None, given group or
    None)."""
    grouping = Grouping()
    for row, (text, picture, group) in enumerate(posts):
        grouping.add(Post(row, text, "x.png" if picture else "", group=group), picture)
    numbers = grouping.numbers().tolist()
    return [list(dict.fromkeys(numbers)).index(n) for n in numbers]


def test_posts_without_letters_are_reposts_where_they_are_equal():
    assert grouped(
        ("!!!", None, None), ("\U0001f600", None, None), ("!!!", None, None), ("!!", None, None)
    ) == [
        0,
        1,
        0,
        2,
    ]


def test_reposts_are_one_group():
    assert grouped(
        ("Good morning!", None, None),
        ("RT @ann: good MORNING http://t.co/x", None, None),
        ("good evening", None, None),
        ("Guten Morgen", None, None),
    ) == [0, 0, 1, 2]


def test_posts_of_the_same_picture_are_one_group_and_links_join_in_turn():
    """a shares words with b, b the picture with c, c words with d; e stands alone."""
    assert grouped(
        ("one", b"1", None),
        ("one", b"2", None),
        ("two", b"2", None),
        ("two", None, None),
        ("three", b"3", None),
    ) == [0, 0, 0, 0, 1]


def test_pictures_without_a_text_stand_for_themselves():
    assert grouped(("", b"1", None), ("", b"2", None), ("", b"1", None)) == [0, 1, 0]


def test_groups_of_the_table_count_where_they_are_given():
    """Equal words in two given groups stay apart; posts without a group are grouped by their words,
    apart from both."""
    assert grouped(
        ("one", None, "g"),
        ("two", None, "g"),
        ("one", None, "h"),
        ("one", None, None),
        ("one", None, None),
        ("three", None, None),
    ) == [0, 0, 1, 2, 2, 3]


def test_the_group_column_reaches_the_table(tabled):
    rows = [{**row, "group": group} for row, group in zip(labelled(*"xyxy"), "aabb", strict=True)]
    groups = tabled(rows)[0].groups
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_a_repost_of_text_or_picture_reaches_the_table(tabled):
    rows = [
        {"text": "word a", "image": "good-0.png", "label": "x"},
        {"text": "word b", "image": "good-0.png", "label": "y"},
        {"text": "word a", "image": "good-1.png", "label": "x"},
        {"text": "word c", "image": "good-2.png", "label": "y"},
    ]
    groups = tabled(rows)[0].groups
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_several_processes_share_the_encoding(tmp_path, write, monkeypatch, synthetic):
    """The second of two processes encodes the second chunk, and waits; faults are left to the
    common reading."""
    posts = PostTable(write(tmp_path / "posts.csv", labelled(*"xyxyxyxy")))
    encoded, waited = [], []

    class State:
        num_processes, process_index = 2, 1

        def wait_for_everyone(self):
            waited.append(len(encoded))

    class Encoder:
        def encode(self, part, column):
            encoded.append([p.row for p in part])

    monkeypatch.setattr("accelerate.PartialState", State)
    monkeypatch.setattr("mmtutor.apps.features.CHUNK", 3)
    module._share_encoding(posts, Encoder())
    assert encoded == [[5, 6, 7]] and waited == [1]
    State.process_index = 0
    module._share_encoding(posts, Encoder())
    assert encoded[1:] == [[2, 3, 4], [8, 9]]


def pairs(n: int) -> list[dict[str, str]]:
    days = ("sun", "mon", "tues", "wednes", "thurs", "fri")
    return [
        {"text": f"{label} {days[i]}day", "image": f"{label}-{i}.png", "label": label}
        for i in range(n)
        for label in ("good", "bad")
    ]


def test_posts_with_both_come_first_then_those_with_a_text(tabled):
    """Whatever the order of the rows: what a head reads lies together."""
    rows = pairs(6)
    for k, lacking in ((0, "text"), (1, "image"), (4, "text"), (7, "image")):
        rows[k] = rows[k] | {lacking: ""}
    table, faults = tabled(rows)
    assert not faults.total
    both, text = table.having(("text", "image")), table.having(("text",))
    assert both.tolist() == [True] * 8 + [False] * 4 and text.tolist() == [True] * 10 + [False] * 2
    for m in ("text", "image"):
        assert not table.features[m][~table.present[m]].any(), "holes in a sparse file"
    names = [table.classes[c] for c in table.labels]
    written = [r["label"] for r in rows]
    kept = [2, 3, 5, 6, 8, 9, 10, 11, 1, 7, 0, 4]
    assert names == [written[k] for k in kept]
    everything, _ = tabled([rows[k] for k in kept])
    for m in ("text", "image"):
        torch.testing.assert_close(table.features[m], everything.features[m], atol=2e-5, rtol=0)


def test_a_large_table_is_gathered_in_a_file_with_the_same_features(tabled, monkeypatch):
    rows = pairs(5)
    rows += [row | {"text": row["text"] + "!"} for row in rows[:3]]  # pictures that come twice
    plain, _ = tabled(rows)
    monkeypatch.setattr("mmtutor.encoders.cache.SPILL_BYTES", 0)
    monkeypatch.setattr(features, "SPILL_ROWS", 4)
    maps, room = [], FeatureCache.room
    monkeypatch.setattr(
        FeatureCache, "room", lambda self, n: maps.append(room(self, n)) or maps[-1]
    )
    spilled, _ = tabled(rows)
    assert {type(each) for each in maps} == {np.memmap}
    for m in ("text", "image"):
        assert torch.equal(plain.features[m], spilled.features[m])
    assert not list(PostEncoder(None, "cpu", True).encoders["image"].cache.folder.glob("tmp*"))
