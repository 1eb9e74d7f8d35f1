"""Tables with every fault that was thought of: named by row and column, counted, and the other rows
still read."""

import json

import pytest

from mmtutor.apps.faults import KEPT, Faults, PostsUnusable, Problem
from mmtutor.apps.posts import Columns, Post, PostTable

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


def table(folder, content, name="posts.csv", **options) -> PostTable:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return PostTable(path, **options)


def read(folder, content, name="posts.csv", **options) -> list[Post | Problem]:
    return list(table(folder, content, name, **options))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("posts.csv", 'id,text,image,label\n1,"a, ""b""\nc",x.jpg,good\n2,d,,bad\n'),
        ("posts.tsv", 'id\ttext\timage\tlabel\n1\t"a, ""b""\nc"\tx.jpg\tgood\n2\td\t\tbad\n'),
        ("posts.TAB", 'id\ttext\timage\tlabel\n1\t"a, ""b""\nc"\tx.jpg\tgood\n2\td\t\tbad'),
    ],
)
def test_tables_are_read_quotes_newlines_and_all(tmp_path, name, content):
    assert read(tmp_path, content, name) == [
        Post(2, 'a, "b"\nc', "x.jpg", "good", None, "1"),
        Post(3, "d", "", "bad", None, "2"),
    ]


def test_json_lines_are_read_and_null_and_nan_are_empty(tmp_path):
    lines = [
        '{"text": "a\\nb", "image": "x.jpg", "label": 1, "group": "g"}',
        "",
        '{"text": NaN, "image": "y.jpg", "label": NaN, "group": null, "other": [1, {}]}',
        '{"image": "z.jpg", "label": 2.5}',
    ]
    assert read(tmp_path, "\n".join(lines), "posts.jsonl") == [
        Post(1, "a\nb", "x.jpg", "1", "g", None),
        Post(3, "", "y.jpg"),
        Post(4, "", "z.jpg", "2.5"),
    ]


def test_columns_may_have_other_names(tmp_path):
    columns = Columns(text="tweet", image="file", label="mood", group="author", id="no")
    read_as = read(tmp_path, "no,tweet,file,mood,author\n7,hello,a.png,glad,ann\n", columns=columns)
    assert read_as == [Post(2, "hello", "a.png", "glad", "ann", "7")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind(tmp_path, end):
    assert read(tmp_path, end.join(["text,label", "a,x", '"b', 'c",y', ""])) == [
        Post(2, "a", "", "x"),
        Post(3, "b\nc", "", "y"),
    ]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "utf-16-le", "utf-16-be", "shift_jis"],
)
def test_encodings_with_a_mark_or_that_are_named_or_that_can_be_told(tmp_path, encoding):
    told = {"encoding": encoding} if encoding in ("utf-16-le", "utf-16-be", "shift_jis") else {}
    content = "text,label\n今日は,良い\n".encode(encoding)
    posts = table(tmp_path, content, **told)
    assert list(posts) == [Post(2, "今日は", "", "良い")]
    assert sum(posts.encodings.values()) == 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["without a mark", "with a mark"])
def test_mixed_encodings_are_read_line_by_line_and_told(tmp_path, mark):
    lines = [
        b"text,label",
        "héllo,x".encode(),
        "很好,x".encode("gb18030"),
        "caf\xe9,y".encode("windows-1252"),
    ]
    posts = table(tmp_path, mark + b"\n".join(lines))
    assert [post.text for post in posts] == ["héllo", "很好", "café"]
    assert posts.encodings == {"utf-8": 2, "gb18030": 1, "windows-1252": 1}
    assert posts.odd_lines == {"gb18030": 3, "windows-1252": 4}
    assert list(posts) and sum(posts.encodings.values()) == 4, "reading again counts anew"


def test_a_mark_is_no_part_of_the_first_column_even_where_the_encoding_is_named(tmp_path):
    assert read(tmp_path, "\ufefftext,label\na,x\n", encoding="utf-8") == [Post(2, "a", "", "x")]


@pytest.mark.parametrize(
    ("encoding", "words"), [("ascii", "cannot be read as ascii"), ("klingon", "klingon")]
)
def test_an_encoding_that_does_not_fit_is_named(tmp_path, encoding, words):
    with pytest.raises(PostsUnusable, match=words):
        read(tmp_path, "text,label\né,x\n", encoding=encoding)


def test_wide_characters_survive(tmp_path):
    text = "👩‍👩‍👧 \u2028 𝔘𝔫𝔦 e\u0301 עברית \x85 ok"
    assert read(tmp_path, f"text,label\n{text},x\n")[0].text == text


@pytest.mark.parametrize("label", ["", " ", "NaN", "nan", "NA", "null", "None", "#N/A", "<NA>"])
def test_labels_that_say_nothing_are_none(tmp_path, label):
    assert read(tmp_path, f"text,label\na,{label}\nb,nano\n") == [
        Post(2, "a"),
        Post(3, "b", "", "nano"),
    ]


FAULTS = [
    ("too few cells", "a", 2, "text", "wrong number of cells", "1, the header has 3"),
    (
        "too many cells",
        "a,b.jpg,x,y",
        2,
        "label",
        "wrong number of cells",
        "4, the header has 3: a ',' in a text",
    ),
    ("neither text nor picture", " ,,x", 2, "text", "empty post", "neither a text nor a picture"),
    ("a quote inside a quoted cell", '"a"b,c.jpg,x', 2, "text", "broken quoting", "not doubled"),
    ("a NUL in the text", "a\0b,c.jpg,x", 2, "text", "not a text", r"'\x00'"),
    ("a NUL in the picture", "a,c\0.jpg,x", 2, "image", "not a text", r"'\x00'"),
    ("a NUL in the label", "a,c.jpg,x\0", 2, "label", "not a text", r"'\x00'"),
    (
        "a cell beyond all bounds",
        "a" * 200_000 + ",c.jpg,x",
        2,
        "text",
        "broken quoting",
        "larger than field limit",
    ),
]


@pytest.mark.parametrize(
    ("line", "row", "column", "kind", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_faulty_row_is_named_and_the_others_are_read(tmp_path, line, row, column, kind, words):
    first, second = read(tmp_path, f"text,image,label\n{line}\ngood,g.jpg,x\n")
    assert (first.row, first.column, first.kind) == (row, column, kind)
    assert words in first.detail and second == Post(3, "good", "g.jpg", "x")


def test_an_unclosed_quote_at_the_end_is_named_and_what_came_before_is_read(tmp_path):
    first, second = read(tmp_path, 'text,label\na,x\n"b,y\nc,z\n')
    assert first == Post(2, "a", "", "x")
    assert (second.row, second.kind) == (3, "broken quoting") and "never closed" in second.detail


def test_blank_lines_are_no_posts_but_count_as_a_spreadsheet_counts(tmp_path):
    assert read(tmp_path, "text,label\n\na,x\n\n\nb,y\n\n") == [
        Post(3, "a", "", "x"),
        Post(6, "b", "", "y"),
    ]


def test_a_second_post_of_the_same_id_is_a_fault_and_names_the_first(tmp_path):
    first, second, third = read(tmp_path, "id,text\n7,a\n8,b\n 7 ,c\n")
    assert (first, second) == (Post(2, "a", id="7"), Post(3, "b", id="8"))
    assert str(third) == "row 4, column 'id': duplicated id: '7' is the id of row 2 too"
    assert read(tmp_path, "id,text\n,a\n,b\n") == [Post(2, "a"), Post(3, "b")], (
        "no id is no id twice"
    )


@pytest.mark.parametrize(
    ("line", "column", "kind", "words"),
    [
        ("[1, 2]", "text", "no JSON object", "a list, expected an object"),
        ('"text"', "text", "no JSON object", "a str, expected an object"),
        ('{"text": "a"', "text", "no JSON object", "delimiter"),
        ("{'text': 'a'}", "text", "no JSON object", "double quotes"),
        ("[" * 100_000, "text", "no JSON object", "recursion"),
        ('{"text": ["a"], "label": "x"}', "text", "not a text", "it is a list"),
        ('{"text": "a", "label": {"x": 1}}', "label", "not a text", "it is a dict"),
        ('{"text": "a\\u0000"}', "text", "not a text", r"'\x00'"),
        ('{"text": "\\ud800"}', "text", "not a text", r"'\ud800'"),
        ('{"text": "a", "label": "\\udfff"}', "label", "not a text", r"'\udfff'"),
        ('{"text": "a", "id": "\\ud800"}', "id", "not a text", r"'\ud800'"),
        ('{"label": "x"}', "text", "empty post", "neither"),
    ],
)
def test_faulty_json_lines_are_named_and_the_others_are_read(tmp_path, line, column, kind, words):
    good = json.dumps({"text": "good", "label": "x"})
    first, second, third = read(tmp_path, f"{good}\n{line}\n{good}", "posts.ndjson")
    assert (first, third) == (Post(1, "good", "", "x"), Post(3, "good", "", "x"))
    assert (second.row, second.column, second.kind) == (2, column, kind) and words in second.detail


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", {}, r"posts.csv is empty: expected a header and rows"),
        (
            "text;image;label\na;b;c\n",
            {},
            r"separated by ';', as \['text', 'image', 'label'\]: say --delimiter ';'",
        ),
        ("text\tlabel\na\tb\n", {}, r"say --delimiter '\\t'"),
        ("text,label\na,b\n", {"delimiter": ";"}, r"say --delimiter ','"),
        (
            "tweet,mood\na,b\n",
            {},
            r"no column 'text or image'; its columns are \['tweet', 'mood'\].*--text-column",
        ),
        (
            "text,image\na,b\n",
            {"needed": ("label",)},
            r"no column 'label'; its columns are \['text', 'image'\]",
        ),
        ("text,label,text\na,b,c\n", {}, r"the columns \['text'\] are there twice"),
        ('"text,label\na,b\n', {}, "row 1 cannot be read as a header"),
        ("text,label\na,b\n", {"delimiter": ";;"}, "';;' is not one character"),
        ("text,label\na,b\n", {"delimiter": ""}, "'' is not one character"),
        ("text,label\na,b\n", {"delimiter": "\n"}, "is not one character that can stand between"),
    ],
)
def test_a_file_that_is_no_table_of_posts_is_refused_at_once(tmp_path, content, options, words):
    with pytest.raises(PostsUnusable, match=words):
        table(tmp_path, content, **options)


def test_other_columns_may_be_there_twice(tmp_path):
    assert read(tmp_path, "text,note,note\na,b,c\n") == [Post(2, "a")]


def test_json_without_a_known_column_is_refused(tmp_path):
    with pytest.raises(
        PostsUnusable, match=r"no column 'text or image'; its columns are \['tweet'\]"
    ):
        table(tmp_path, '{"tweet": "a"}\n', "posts.jsonl")


def test_header_only_is_a_table_without_posts(tmp_path):
    assert read(tmp_path, "text,label\n", needed=("label",)) == []
    assert read(tmp_path, "", "posts.jsonl") == []


def test_a_path_that_is_no_file_is_named(tmp_path):
    with pytest.raises(PostsUnusable, match=r"nothere\.csv does not exist: expected a table"):
        PostTable(tmp_path / "nothere.csv")
    with pytest.raises(PostsUnusable, match="is a folder: expected a table"):
        PostTable(tmp_path)
    with pytest.raises(
        PostsUnusable, match=r"posts\.xlsx: unknown kind of table; expected a name ending in \.csv"
    ):
        table(tmp_path, "PK", "posts.xlsx")


def test_a_delimiter_makes_any_name_a_table(tmp_path):
    assert read(tmp_path, "text|label\na|x\n", "posts.txt", delimiter="|") == [
        Post(2, "a", "", "x")
    ]


def test_rows_are_read_one_by_one(tmp_path):
    """A table is opened and its first row read without reading the rest, here a line that cannot be
    decoded."""
    posts = iter(table(tmp_path, b"text\n" + b"a\n" * 100_000 + b"\xff\n", encoding="utf-8"))
    assert next(posts) == Post(2, "a")
    with pytest.raises(PostsUnusable, match="cannot be read as utf-8"):
        list(posts)


def problem(row, kind="missing picture") -> Problem:
    return Problem(row, "image", kind, f"{row}.jpg is not there")


def test_faults_are_counted_and_the_first_of_each_kind_shown():
    faults = Faults()
    assert faults.summary() == "" and faults.total == 0
    for row in range(2, 10):
        faults.add(problem(row))
    faults.add(problem(10, "corrupt picture"))
    assert faults.total == 9
    assert faults.summary(most=2).splitlines() == [
        "8 × missing picture",
        "    row 2, column 'image': 2.jpg is not there",
        "    row 3, column 'image': 3.jpg is not there",
        "    … and 6 more",
        "1 × corrupt picture",
        "    row 10, column 'image': 10.jpg is not there",
    ]
    assert faults.as_json()["counts"] == {"corrupt picture": 1, "missing picture": 8}
    assert faults.as_json()["first"][0] == {
        "row": 2,
        "column": "image",
        "kind": "missing picture",
        "detail": "2.jpg is not there",
    }


def test_a_table_of_nothing_but_faults_fits_in_memory():
    faults = Faults()
    for row in range(KEPT + 50):
        faults.add(problem(row))
    assert faults.total == KEPT + 50 and len(faults.first) == KEPT
    assert faults.summary().endswith(f"… and {KEPT + 45} more")
    faults.add(problem(5000, "corrupt picture"))
    assert faults.summary().endswith("1 × corrupt picture\n    … and 1 more"), (
        "counted, though not kept"
    )


def test_strict_stops_at_the_first_fault_and_names_it():
    with pytest.raises(
        PostsUnusable, match=r"row 7, column 'image': missing picture: 7\.jpg .*nothing was written"
    ):
        Faults(strict=True).add(problem(7))
