"""Cells in their roles: one rule for what is empty, faults named by row and column, labels that are
equal in one class, and no row lost in silence."""

import math
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.apps import rows as module
from mmtutor.apps.encoding import RowEncoder
from mmtutor.apps.faults import Faults, Problem, TableUnusable
from mmtutor.apps.reading import Table
from mmtutor.apps.rows import MISSING, Roles, Row, Rows, canonical, in_order, survey

AGE = Roles(numbers=("age",))
SEX = Roles(categories=("sex",))


def read(records, roles=AGE, **options) -> list[Row | Problem]:
    return list(Rows(Table(records), roles, **options))


def surveyed(labels, **more):
    records = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    return survey(Rows(Table(records), Roles(**more), labelled=True))


# roles


def test_a_row_holds_what_its_columns_say():
    record = {"text": "a", "image": "x.jpg", "audio": "x.wav", "label": "glad", "group": "g"}
    record |= {"id": "7", "age": 3, "weight": "1e1", "sex": "f", "town": "Ulm"}
    roles = Roles(numbers=("age", "weight"), categories=("sex",), slices=("town", "age:18:65"))
    has = {"text": "a", "image": "x.jpg", "audio": "x.wav"}
    has |= {"numbers": (3.0, 10.0), "categories": ("f",)}
    assert read([record], roles) == [Row(1, has, "glad", "g", "7", ("Ulm", "3"))]


def test_columns_may_have_other_names():
    record = {"no": "7", "tweet": "hello", "file": "a.png", "voice": "a.wav", "mood": "glad"}
    roles = Roles(text="tweet", image="file", audio="voice", label="mood", group="author", id="no")
    has = {"text": "hello", "image": "a.png", "audio": "a.wav"}
    assert read([record | {"author": "ann"}], roles) == [Row(1, has, "glad", "ann", "7")]


def test_a_number_to_predict_takes_the_place_of_the_label():
    records = [{"text": "a", "label": "x", "price": "1.50"}, {"text": "b", "price": ""}]
    assert read(records, Roles(target="price")) == [
        Row(1, {"text": "a"}, "1.5"),
        Row(2, {"text": "b"}),
    ]


def test_what_a_row_lacks_is_absent_and_a_part_of_its_columns_is_nan_or_empty():
    roles = Roles(numbers=("age", "weight"), categories=("sex", "town"))
    every = {"text": "a", "image": "x", "audio": "y", "age": 1, "weight": 2, "sex": "f"}
    every |= {"town": "Ulm"}
    lacking = [{"text": ""}, {"image": None}, {"audio": "NaN"}, {"age": "", "weight": math.nan}]
    lacking += [{"sex": None, "town": "n/a"}]
    modalities = ("text", "image", "audio", "numbers", "categories")
    for absent, gone in zip(modalities, lacking, strict=True):
        (row,) = read([every | gone], roles)
        assert row.has.keys() == {*modalities} - {absent}
    (row,) = read([every | {"weight": "", "sex": ""}], roles)
    assert row.has["numbers"][0] == 1 and math.isnan(row.has["numbers"][1])
    assert row.has["categories"] == ("", "Ulm")


SINGLE = ("text", "image", "audio", "group", "id", "label", "target")


@pytest.mark.parametrize("role", [*SINGLE, "numbers", "categories", "slices"])
@pytest.mark.parametrize("column", ["author", "Größe"])
def test_a_column_that_is_named_and_absent_is_an_error_that_lists_the_columns(role, column):
    named = {role: column if role in SINGLE else (column,)}
    words = rf"records has no column '{column}', which is to be read as {role}.*'text', 'other'"
    with pytest.raises(TableUnusable, match=words):
        Rows(Table([{"text": "a", "other": "b"}]), Roles(**named))


@pytest.mark.parametrize(("named", "written"), [("label", "Label"), ("Age", "AGE"), ("ß", "SS")])
def test_another_case_of_an_absent_column_is_proposed(named, written):
    with pytest.raises(TableUnusable, match=rf"Do you mean '{written}'\?"):
        Rows(Table([{"text": "a", written: "3"}]), Roles(label=named), labelled=True)


def test_a_table_without_anything_to_read_or_to_learn_is_refused():
    words = r"no column text, image or audio and none label; its columns are \['tweet', 'mood'\]"
    with pytest.raises(TableUnusable, match=words + r".*--text.*--numbers.*--label or --target"):
        Rows(Table([{"tweet": "a", "mood": "b"}]), Roles(), labelled=True)
    with pytest.raises(TableUnusable, match=r"no column label; its columns are \['text'\]"):
        Rows(Table([{"text": "a"}]), Roles(), labelled=True)
    assert read([{"age": "3"}]) == [Row(1, {"numbers": (3.0,)})], "numbers alone are enough"


def test_what_is_not_read_is_told():
    record = {"text": "a", "note": "b", "weight": "3", "label": "x"}
    assert Rows(Table([record]), Roles()).remarks == ["Columns not read: note, weight."]
    assert Rows(Table([record]), Roles(numbers=("weight",))).remarks == ["Columns not read: note."]


STORED = Roles(text="tweet", image="file", label="mood", numbers=("age",), slices=("town",))


def test_the_roles_of_a_model_hold_and_its_absent_columns_are_told():
    rows = Rows(Table([{"tweet": "a", "text": "b"}]), Roles(), stored=STORED)
    assert list(rows) == [Row(1, {"text": "a"}, slices=("",))]
    assert rows.remarks == [
        "Columns not read: text.",
        "Columns missing, and taken as empty: file, age.",
    ]


def test_what_is_said_counts_more_than_what_a_model_has_stored():
    rows = Rows(Table([{"tweet": "a", "text": "b"}]), Roles(text="text"), stored=STORED)
    assert list(rows) == [Row(1, {"text": "b"}, slices=("",))]


@pytest.mark.parametrize("role", ["image", "group"])
def test_a_column_that_is_said_must_be_there_for_a_model_too(role):
    with pytest.raises(TableUnusable, match="no column 'photo', which is to be read as"):
        Rows(Table([{"tweet": "a"}]), Roles(**{role: "photo"}), stored=STORED)
    with pytest.raises(TableUnusable, match="no column 'file', which is to be read as image"):
        Rows(Table([{"tweet": "a"}]), Roles(image="file"), stored=STORED)


def test_columns_that_are_said_must_be_there_for_a_model_too():
    with pytest.raises(TableUnusable, match="no column 'age', which is to be read as numbers"):
        Rows(Table([{"tweet": "a"}]), Roles(numbers=("age",)), stored=STORED)


def test_a_model_is_judged_only_where_its_label_is_there():
    with pytest.raises(TableUnusable, match="no column 'mood', which is to be read as label"):
        Rows(Table([{"tweet": "a"}]), Roles(), labelled=True, stored=STORED)


def test_a_model_that_can_read_nothing_of_a_table_refuses_it():
    with pytest.raises(TableUnusable, match="no column text, image or audio"):
        Rows(Table([{"text": "a"}]), Roles(), stored=STORED)


# cells

EMPTY = [*MISSING, "NaN", "NAN", "NA", "N/A", "Null", "<NA>", "#N/A", " nan ", "\t", None, math.nan]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
def test_what_is_empty_is_so_in_every_column(empty):
    record = dict.fromkeys(("image", "audio", "group", "id", "label", "age", "sex", "town"), empty)
    roles = Roles(numbers=("age",), categories=("sex",), slices=("town",))
    both = read([{"text": "a"} | record, {"text": "b"} | record], roles)
    assert both == [Row(1, {"text": "a"}, slices=("",)), Row(2, {"text": "b"}, slices=("",))]
    assert read([{"text": empty, "age": 3}]) == [Row(1, {"numbers": (3.0,)})]


@pytest.mark.parametrize("word", ["none", "NONE", "nano", "0", "n.a.", "-", "no", "Na und"])
def test_what_only_looks_empty_is_a_word_in_every_column(word):
    record = dict.fromkeys(("text", "image", "group", "id", "label", "sex"), word)
    has = {"text": word, "image": word, "categories": (word,)}
    assert read([record], SEX) == [Row(1, has, word, word, word)]


def test_what_is_empty_can_be_said():
    roles = Roles(missing=("", "-", "none"))
    records = [{"text": "nan", "label": "-"}, {"text": "NONE", "image": "a", "label": "N/A"}]
    assert read(records, roles) == [Row(1, {"text": "nan"}), Row(2, {"image": "a"}, "N/A")]


@pytest.mark.parametrize("column", ["age", "price"])
@pytest.mark.parametrize(
    "word",
    ["inf", "-Infinity", "1e31", "1e400", "3,5", "1.234,5", "1 000", "0x10", "1_000", "old", "3kg"],
)
def test_a_number_that_is_none_is_named_with_the_way_to_write_it(column, word):
    roles = Roles(numbers=("age",), target="price")
    good = {"text": "a", "age": "1", "price": "2"}
    first, second, third = read([good, good | {column: word}, good], roles)
    assert (second.row, second.column, second.kind) == (2, column, "not a number")
    assert second.detail == f"{word!r}: write it as 1234.5"
    assert (first.row, first.label, third.row) == (1, "2.0", 3), "the others are read"


@pytest.mark.parametrize(
    ("word", "value"),
    [(3, 3), (2.5, 2.5), (" -1e3 ", -1000), ("+07", 7), (".5", 0.5), ("1e-400", 0), ("1e30", 1e30)],
)
def test_numbers_are_read_as_they_are_usually_written(word, value):
    assert read([{"age": word}])[0].has["numbers"] == (value,)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("text", ["a"], "it is a list"),
        ("text", {}, "it is a dict"),
        ("label", {"x": 1}, "it is a dict"),
        ("label", [], "it is a list"),
        ("group", ["g"], "it is a list"),
        ("id", {"n": 1}, "it is a dict"),
        ("age", [3], "it is a list"),
        ("image", {"file": "x.jpg"}, "it is a dict"),
        ("image", ["x.jpg", 3], "it is a list"),
        ("text", "a\0", r"the character '\x00'"),
        ("image", "c\0.jpg", r"the character '\x00'"),
        ("label", "x\0", r"the character '\x00'"),
        ("text", "\ud800", r"the character '\ud800'"),
        ("label", "a\udfff", r"the character '\udfff'"),
        ("id", "\ud800", r"the character '\ud800'"),
    ],
)
def test_a_cell_that_is_no_text_is_named_and_the_others_are_read(column, cell, words):
    good = {"text": "a", "label": "x", "image": "", "group": "", "id": "", "age": ""}
    first, second, third = read([good, good | {column: cell}, good])
    assert (second.row, second.column, second.kind) == (2, column, "not a text")
    assert words in second.detail
    assert (first, third) == (Row(1, {"text": "a"}, "x"), Row(3, {"text": "a"}, "x"))


def test_a_list_of_files_is_several_in_a_cell():
    records = [{"image": ["x.jpg", "y.jpg"]}, {"audio": ["x.wav"]}, {"text": "a", "image": []}]
    has = [row.has for row in read(records, Roles())]
    assert has == [{"image": "x.jpg\ny.jpg"}, {"audio": "x.wav"}, {"text": "a"}]


def test_a_row_with_nothing_to_read_is_named():
    (problem,) = read([{"text": " ", "image": "NaN", "label": "x", "age": ""}])
    assert (problem.row, problem.kind) == (1, "empty row")
    assert problem.detail == "it has no text and no image and no numbers"


def test_an_empty_row_is_named_by_a_column_that_would_fill_it():
    (problem,) = read([{"text": "", "town": "Ulm"}], Roles(slices=("town",)))
    assert problem.column == "text"


def test_a_second_row_of_the_same_id_is_a_fault_that_names_the_first():
    first, second, third = read([{"no": n, "text": "a"} for n in ("7", "8", " 7 ")], Roles(id="no"))
    assert (first, second) == (Row(1, {"text": "a"}, id="7"), Row(2, {"text": "a"}, id="8"))
    assert str(third) == "row 3, column 'no': duplicated id: '7' is the id of row 1 too"
    twice = read([{"id": "", "text": "a", "age": ""}] * 2)
    assert [row.id for row in twice] == ["", ""], "none is no id"


def test_reading_twice_gives_the_same():
    rows = Rows(Table([{"id": "7", "text": "a"}, {"id": "7", "text": "b"}]), Roles())
    assert list(rows) == list(rows)


# labels

EQUAL = [("1", "1.0"), ("2", " 2e0"), ("007", "7"), ("0", "-0.0"), ("é", "e\u0301")]
EQUAL += [("good", "good\u200b"), ("good", "\ufeffgood"), ("ja", "ja\xa0"), ("Ö", "O\u0308\u200d")]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_labels_that_are_equal_are_one_class(one, other):
    assert canonical(one) == canonical(other)
    found = surveyed([one, other, "x", other])
    assert found.counts == {one.strip(): 3, "x": 1} and not found.remarks


@pytest.mark.parametrize(
    ("one", "other"),
    [("good", "Good"), ("good", "ｇｏｏｄ"), ("STRASSE", "straße"), ("ﬁne", "fine"), ("²", "2")],
)
def test_labels_that_look_alike_are_two_classes_and_told_with_all_counts(one, other):
    assert canonical(one) != canonical(other)
    found = surveyed([one, other, other, "x", "x", "x"])
    assert found.counts == {one: 1, other: 2, "x": 3} and len(found.classes) == 3
    (told,) = found.remarks
    assert "look alike but are different" in told and f"(x 3, {other} 2, {one} 1)" in told
    assert f"{one!r} and {other!r}" in told


def test_labels_within_which_something_invisible_stands_are_told():
    (told,) = surveyed(["good", "go\u200bod", "x"]).remarks
    assert "look alike" in told and "'good'" in told


@pytest.mark.parametrize(
    ("one", "other"),
    [("9007199254740993", "9007199254740992"), ("1e400", "1e500"), ("inf", "Infinity")],
)
def test_numbers_too_large_to_tell_apart_stay_two_classes(one, other):
    assert surveyed([one, other]).counts == {one: 1, other: 1}


def test_a_class_is_called_without_what_is_invisible_at_its_ends():
    assert surveyed(["good\u200b", "good", "bad"]).classes == ("bad", "good")


def test_the_class_none_is_kept_and_missing_labels_are_not():
    found = surveyed(["none", "None", "nan", "N/A", "", "sexism"])
    assert found.counts == {"none": 1, "sexism": 1}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "-1", "10"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["2.5", "1e3", "0"], ("0", "2.5", "1e3")),
        (["好", "坏", "a"], ("a", "坏", "好")),
    ],
)
def test_classes_are_in_order_of_value_or_of_name(labels, classes):
    found = surveyed(labels)
    assert found.classes == in_order(labels[:3]) == classes
    assert [found.names[canonical(label)] for label in labels] == labels


@given(st.lists(st.one_of(st.text(), st.integers().map(str), st.floats().map(str))))
def test_any_words_can_be_put_in_order(words):
    named = [word for word in words if word]
    assert Counter(in_order(words)) == Counter(named)
    alike = len({*map(canonical, named)}) < len(named)
    assert in_order(words) == in_order(reversed(words)) or alike


def test_a_row_without_a_label_is_a_fault_named_after_the_column():
    records = [{"text": t, "mood": m} for t, m in zip("abcd", ("x", "", "NaN", "y"), strict=True)]
    labelled = list(Rows(Table(records), Roles(label="mood"), labelled=True).labelled())
    assert [isinstance(row, Row) for row in labelled] == [True, False, False, True]
    assert str(labelled[2]) == "row 3, column 'mood': missing label: the cell is empty"


def test_labels_get_the_names_of_the_model_or_are_unknown_to_it():
    records = [{"text": "a", "label": label} for label in ("1.0", "e\u0301 ", "É", "2")]
    rows = Rows(Table(records), Roles())
    one, two, three, four = rows.labelled({canonical("1"): "1", canonical("é"): "é"})
    assert (one.label, two.label) == ("1", "é")
    assert (three.row, three.column, three.kind) == (3, "label", "unknown label")
    assert "'É'; the model knows 1, é" in three.detail and "'2'" in four.detail


def test_numbers_to_predict_have_no_names():
    rows = Rows(Table([{"text": "a", "price": "2"}]), Roles(target="price"), labelled=True)
    assert [row.label for row in rows.labelled({})] == ["2.0"]


# what is known before anything is encoded


def test_a_number_to_predict_has_a_mean_and_a_deviation():
    records = [{"text": "a", "price": price} for price in (1, "", 5)]
    found = survey(Rows(Table(records), Roles(target="price"), labelled=True))
    assert found.target == (3.0, 2.0) and found.classes == ()


def test_the_words_of_categories_are_in_order_and_only_those_of_labelled_rows():
    cells = [("f", "10", "x"), ("m", "9", "y"), ("f", "", "x"), ("d", "11", "")]
    records = [dict(zip(("sex", "floor", "label"), row, strict=True)) for row in cells]
    rows = Rows(Table(records), Roles(categories=("sex", "floor")), labelled=True)
    assert survey(rows).vocabulary == (("f", "m"), ("9", "10"))


def test_tables_without_anything_to_learn_are_refused_with_the_reason():
    with pytest.raises(TableUnusable, match=r"'label': all usable rows are 'x'.*tell apart"):
        surveyed(["x", "x"])
    words = r"holds no usable row\.\n2 × missing label\n    row 1, column 'label'"
    with pytest.raises(TableUnusable, match=words):
        surveyed(["", "n/a"])
    with pytest.raises(TableUnusable, match=r"all usable rows are 'x'.*\n3 × missing label"):
        surveyed(["x", "", None, "NaN", "x"])
    records = [{"id": "7", "text": "a", "label": label} for label in "xyz"]
    with pytest.raises(TableUnusable, match=r"all usable rows are 'x'.*\n2 × duplicated id"):
        survey(Rows(Table(records), Roles(), labelled=True))
    records = [{"text": "a", "price": 3}] * 2
    with pytest.raises(TableUnusable, match=r"'price': all usable rows are 3\.0"):
        survey(Rows(Table(records), Roles(target="price"), labelled=True))


def test_a_table_with_rows_is_not_said_to_have_none():
    with pytest.raises(TableUnusable) as refusal:
        surveyed(["x", "x"])
    assert "no rows" not in str(refusal.value)


def test_a_column_that_is_no_label_is_found_out():
    assert len(surveyed(range(100)).classes) == 100
    words = r"'label': 101 different labels \('0', '1', '2', …\), at most 100: is it the one\?"
    with pytest.raises(TableUnusable, match=words + ".*--target"):
        surveyed(range(101))


def many(n: int, empty: int = 0) -> Rows:
    records = [{"a": f"word {i}", "b": "x", "label": i % 2} for i in range(n)]
    records += [{"a": "", "b": "y", "label": 1}] * empty
    return Rows(Table(records), Roles(categories=("a", "b")), labelled=True)


def test_a_column_that_is_no_category_is_found_out():
    assert [len(words) for words in survey(many(200)).vocabulary] == [200, 1]
    words = r"column 'a': 201 different categories, at most 200: is it an id, a text, or numbers"
    with pytest.raises(TableUnusable, match=words):
        survey(many(201))


def test_an_empty_cell_is_no_category():
    assert [len(words) for words in survey(many(200, empty=1)).vocabulary] == [200, 2]


# laws

WORDS = st.sampled_from([*EMPTY, "a", "b", "1", "1.0", "inf", "3,5", "\0", "\ud800", [], ["x"], {}])
CELLS = st.one_of(WORDS, st.text(max_size=5), st.integers(), st.floats(), st.booleans())
COLUMNS = ("text", "image", "audio", "group", "id", "label", "age", "weight", "sex", "town")
RECORDS = st.one_of(
    st.dictionaries(st.sampled_from(COLUMNS), CELLS), st.sampled_from([3, None, "a", [1]])
)


@st.composite
def roles(draw) -> Roles:
    """Return roles for COLUMNS, each column read as at most one thing beside a slice."""
    single = ("text", "image", "audio", "group", "id", "label", "target")
    free, named = draw(st.permutations(COLUMNS)), {}
    for role in draw(st.lists(st.sampled_from(single), unique=True)):
        named[role] = free.pop()
    numbers, categories = (free.pop() for _ in range(2))
    several = {"numbers": (numbers,), "categories": (categories,)}
    named |= {m: draw(st.sampled_from([(), several[m]])) for m in several}
    return Roles(**named, slices=draw(st.sampled_from([(), ("age:3",), ("town", "sex")])))


@settings(max_examples=200, deadline=None)
@given(st.lists(RECORDS, max_size=8), roles())
def test_every_row_is_read_or_lost_once_and_in_order(records, roles):
    everywhere = [dict.fromkeys(COLUMNS, "a")]  # so that no column is absent
    rows = Rows(Table(everywhere + records), roles)
    outcome = list(rows)
    assert [row.row for row in outcome] == list(range(1, len(records) + 2))
    labelled = list(rows.labelled()) if rows.roles.label or rows.roles.target else outcome
    assert [row.row for row in labelled] == [row.row for row in outcome]
    words = tuple(("a",) for _ in rows.roles.categories)
    encoder = RowEncoder(rows.roles, text_encoder="characters", vocabulary=words, device="cpu")
    chunk = encoder.encode(outcome)
    faults = Faults()
    faults.note(chunk.outcome)
    assert len(chunk.kept) + faults.counts.total() == len(records) + 1
    assert [row.row for row in chunk.outcome] == [row.row for row in outcome]
    assert all(p.column in COLUMNS and str(p) for p in outcome if isinstance(p, Problem))


def test_the_limits_are_those_of_the_module():
    """So that the tests above do not test what is not used."""
    assert (module.MOST_CLASSES, module.MOST_CATEGORIES, module.LARGEST) == (100, 200, 1e30)
    assert unicodedata.normalize("NFC", "e\u0301") == "é"
