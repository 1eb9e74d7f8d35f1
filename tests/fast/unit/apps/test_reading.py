"""Tables with every fault that was thought of: each line is a row, a problem or blank, none is lost
in silence, and each row has the number that a spreadsheet shows."""

import csv
import gzip
import io
import math
import os
import random
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.apps.faults import Problem, TableUnusable
from mmtutor.apps.reading import LONE, SPAN, Table

PACKED = gzip.compress(b"text\n" * 5000, mtime=0)
FORGED = gzip.compress(b"text\n", mtime=0)[:-6] + b"123456"


def table(folder, content, name="posts.csv", **options) -> Table:
    path = Path(folder, name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(path, **options)


def kinds(rows) -> list[tuple]:
    """(row, cells) of rows, (row, kind) of problems."""
    return [
        (row, each.kind) if isinstance(each, Problem) else (row, *each.values())
        for row, each in rows
    ]


def read(folder, content, name="posts.csv", **options) -> list[tuple]:
    return kinds(table(folder, content, name, **options))


BROKEN, WIDTH = "broken quoting", "wrong number of cells"
TWEETS = 'text\tlabel\n"Never again\tbad\nso good\tgood\n{}so sad\tbad\nfine\tgood\n'


# --- quotation marks, row numbers


@pytest.mark.parametrize("mark", ["", '"'])
def test_a_tsv_with_unclosed_marks_keeps_all_its_rows(tmp_path, mark):
    tweets = table(tmp_path, TWEETS.format(mark), "q.tsv")
    assert kinds(tweets) == [
        (2, '"Never again', "bad"),
        (3, "so good", "good"),
        (4, f"{mark}so sad", "bad"),
        (5, "fine", "good"),
    ]
    (note,) = tweets.notes
    assert "q.tsv" in note and "--quoting yes" in note


@pytest.mark.parametrize("mark", ["", '"'])
def test_an_unclosed_mark_costs_its_own_line_only(tmp_path, mark):
    rows = read(tmp_path, TWEETS.format(mark), "q.tsv", quoting="yes")
    sad = (4, BROKEN) if mark else (4, "so sad", "bad")
    assert rows == [(2, BROKEN), (3, "so good", "good"), sad, (5, "fine", "good")]


def test_one_mark_among_4000_rows_of_csv_loses_one_row(tmp_path):
    lines = [f'{n},"say ""{n}"", twice",x' for n in range(2, 4002)]
    lines[2] = '4,"never closed,x'
    rows = read(tmp_path, "id,text,label\n" + "\n".join(lines))
    assert rows.pop(2) == (4, BROKEN)
    assert rows == [(n, str(n), f'say "{n}", twice', "x") for n in range(2, 4002) if n != 4]


def test_plain_tweets_as_tsv_lose_nothing_though_marks_of_two_rows_match(tmp_path):
    lines = [f"tweet {n}\tx" for n in range(2, 2002)]
    lines[100], lines[140] = '"he said\tx', 'no"\tx'
    assert [row[0] for row in read(tmp_path, "text\tlabel\n" + "\n".join(lines), "t.tsv")] == list(
        range(2, 2002)
    )


def test_quoted_tsv_stays_quoted(tmp_path):
    content = 'text\tlabel\n"a\tb"\tx\n"c ""d""\ne"\ty\n"f\tz\n'
    rows = [(2, "a\tb", "x"), (3, 'c "d"\ne', "y"), (4, BROKEN)]
    assert read(tmp_path, content, "t.tsv") == rows
    header = '"text"\t"label"\n"a"\t"x"\n"b\t"y"\n'
    assert read(tmp_path, header, "t.tsv") == [(2, "a", "x"), (3, BROKEN)]


def test_quoting_can_be_told(tmp_path):
    content = 'text,label\n"a",x\n"b,c",y\n'
    assert read(tmp_path, content, quoting="no") == [(2, '"a"', "x"), (3, WIDTH)]
    assert read(tmp_path, content) == [(2, "a", "x"), (3, "b,c", "y")]
    with pytest.raises(TableUnusable, match="quoting is 'maybe'; expected auto, yes or no"):
        table(tmp_path, content, quoting="maybe")


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path):
    content = '\ntext,label\n\na,x\n"b\n\nc",y\n,\nd\n  \n;,\n"e"f,x\ng,y\n\n'
    assert read(tmp_path, content) == [
        (4, "a", "x"),
        (5, "b\n\nc", "y"),
        (6, "", ""),
        (7, WIDTH),
        (9, ";", ""),
        (10, BROKEN),
        (11, "g", "y"),
    ]


def test_problems_name_the_column_and_what_to_look_for(tmp_path):
    lines = 'text,image,label\na\na,b,c,d\n"a"b,c,d\n'
    found = [str(each) for _, each in table(tmp_path, lines)]
    assert found[0].startswith("row 2, column 'text': wrong number of cells: 1, the header has 3")
    assert found[1].startswith("row 3, column 'label': wrong number of cells: 4, the header has 3")
    assert found[2].startswith("row 4, column 'text': broken quoting: ',' expected after '\"'")


@pytest.mark.parametrize("lines", [SPAN, SPAN + 1])
def test_a_row_has_at_most_so_many_lines(tmp_path, lines):
    text = "\n".join(["line"] * lines)
    rows = read(tmp_path, f'text,label\n"{text}",x\nb,y\n')
    if lines == SPAN:
        assert rows == [(2, text, "x"), (3, "b", "y")]
    else:
        assert (
            rows[0] == (2, BROKEN) and len(rows) == lines + 1 and rows[-1] == (lines + 2, "b", "y")
        )


def test_a_cell_may_be_large(tmp_path):
    assert read(tmp_path, "text,label\n" + "a" * 1_000_000 + ",x\n") == [(2, "a" * 1_000_000, "x")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind(tmp_path, end):
    content = end.join(["text,label", "a,x", '"b', 'c",y', "", "d,z", ""])
    assert read(tmp_path, content) == [(2, "a", "x"), (3, f"b{end}c", "y"), (5, "d", "z")]


# --- delimiters, header


@pytest.mark.parametrize(
    ("name", "content", "noted"),
    [
        ("t.csv", "text,label\na;b,x\n", False),
        ("t.csv", "text;label\na;b,x\n", True),
        ("t.csv", "text\tlabel\na\tb,x\n", True),
        ("t.csv", "text|label\na|b,x\n", True),
        ("t.tab", "text\tlabel\na\tb,x\n", False),
        ("T.TSV", "text\tlabel\na\tb,x\n", False),
        ("t.tsv", "text,label\na,x\n", True),
        ("t.txt", "text;label\na;b,x\n", False),
        ("posts", "text|label\na|b,x\n", False),
        ("t.csv", "sep=;\r\ntext;label\r\na;b,x\r\n", True),
        ("t.csv", '"sep=|"\ntext|label\na|b,x\n', True),
        ("t.csv", "\ufeffSEP=;;;\ntext;label\na;b,x\n", True),
        ("t.csv", "sep=\t\ntext\tlabel\na\tb,x\n", True),
        ("t.csv", "sep=,\ntext,label\na;b,x\n", False),
    ],
)
def test_delimiters_are_told_by_the_name_or_the_first_line(tmp_path, name, content, noted):
    posts = table(tmp_path, content, name)
    first, second = next(iter(posts))[1].values()
    assert posts.columns == ["text", "label"] and (first, second) in [
        ("a", "b,x"),
        ("a;b", "x"),
        ("a", "x"),
    ]
    assert [row for row, _ in posts] == [3 if "sep" in content.lower() else 2]
    assert bool(posts.notes) == noted and all("--delimiter" in note for note in posts.notes)


def test_a_delimiter_that_is_told_wins(tmp_path):
    content = "sep=;\na|b;c\n1|2;3\n"
    assert read(tmp_path, content, delimiter="|") == [(3, "1", "2;3")]
    assert read(tmp_path, "{a}|b\n1|2\n", "t.txt", delimiter="|") == [(2, "1", "2")]


def test_a_table_of_one_column_needs_no_delimiter(tmp_path):
    assert read(tmp_path, "text\nwell, yes\n", "t.txt") == [(2, "well, yes")]
    assert read(tmp_path, "text\nwell, yes\n", "t.tsv") == [(2, "well, yes")]
    assert read(tmp_path, 'text\n"a\nb"\n""\n\n"c\n', "t.tsv") == [
        (2, "a\nb"),
        (3, ""),
        (5, BROKEN),
    ]


def test_columns_are_stripped_and_each_has_a_name_of_its_own(tmp_path):
    posts = table(tmp_path, " text ,text,,text.2,text\na,b,c,d,e\n")
    assert posts.columns == ["text", "text.2", "column 3", "text.2.2", "text.3"]
    assert [each for _, each in posts] == [dict(zip(posts.columns, "abcde", strict=True))]
    assert "text.2" in posts.notes[0]


def test_header_only_is_a_table_without_rows(tmp_path):
    assert read(tmp_path, "text,label\n") == read(tmp_path, "text\tlabel", "t.tsv") == []


# --- encodings

WORDS = {
    "french": "Une journée triste,négatif\nForêt brûlée à Orléans,positif\nÀ bientôt,positif\n",
    "polish": "Zażółć gęślą jaźń,dobry\nTo był piękny dzień w Łodzi,dobry\nŹle się czuję,zły\n",
    "czech": "Příliš žluťoučký kůň úpěl ďábelské ódy,dobré\nšpatný den,špatné\n",
    "russian": "Сегодня был хороший день,хорошо\nОчень грустно и плохо,плохо\n",
    "greek": "Καλημέρα σε όλους τους φίλους,καλό\nΠολύ κακή μέρα,κακό\n",
    "japanese": "今日はとても良い天気です,良い\n悲しい一日でした,悪い\nありがとう,良い\n",
    "tweets": "아 진짜 ㅋㅋㅋ 너무 좋다 ㅠㅠ,좋음\n오늘 뭐해 ㅎㅎ,나쁨\n",
    "chinese": "今天天气很好,好\n我很难过，真的很难过,坏\n谢谢大家,好\n",
    "korean": "오늘은 정말 좋은 날입니다,좋음\n슬픈 하루였다,나쁨\n",
}
WRITTEN = [
    *((language, "utf-8") for language in WORDS),
    *(
        (language, f"utf-{n}")
        for language in WORDS
        for n in ("8-sig", "16", "32", "16-le", "16-be")
    ),
    *(("french", name) for name in ("cp1252", "latin-1", "mac_roman")),
    *((language, name) for language in ("polish", "czech") for name in ("cp1250", "iso8859-2")),
    *(("russian", name) for name in ("cp1251", "koi8-r", "cp866")),
    ("greek", "cp1253"),
    *(("japanese", name) for name in ("shift_jis", "euc-jp")),
    *(("chinese", name) for name in ("gb18030", "gbk")),
    ("korean", "euc-kr"),
    ("tweets", "cp949"),
]


@pytest.mark.parametrize("end", ["\n", "\r"])
@pytest.mark.parametrize(("language", "encoding"), WRITTEN)
def test_a_file_has_one_encoding_that_is_found_and_told(tmp_path, language, encoding, end):
    content = ("text,label\nplain,x\n" + WORDS[language]).replace("\n", end)
    posts = table(tmp_path, content.encode(encoding))
    assert posts.columns == ["text", "label"]
    lines = [line.split(",") for line in WORDS[language].splitlines()]
    assert kinds(posts)[1:] == [(row, *cells) for row, cells in enumerate(lines, 3)]
    assert bool(posts.notes) == (not encoding.startswith("utf-8"))
    assert all("--encoding" in note and "posts.csv" in note for note in posts.notes)
    named = table(tmp_path, content.encode(encoding), encoding=encoding)
    assert list(named) == list(posts) and not named.notes


@pytest.mark.parametrize(
    "line",
    ["it’s great", "A sad café", "“Never again”", "señor", "costs 5 €", "não é bom", "Straße"],
)
def test_few_words_of_western_text_are_told(tmp_path, line):
    content = f"text,label\nA day,good\n{line},bad\n".encode("cp1252")
    assert read(tmp_path, content)[1] == (3, line, "bad")


def test_the_faulty_table_of_two_classes(tmp_path):
    content = b"text,label\nA happy day,positif\nA sad day,n\xe9gatif\nA sad caf\xe9,n\xe9gatif\n"
    posts = table(tmp_path, content)
    assert kinds(posts)[1:] == [(3, "A sad day", "négatif"), (4, "A sad café", "négatif")]
    assert "cp1252" in posts.notes[0]


def test_a_line_that_is_not_utf8_among_many_costs_itself_only(tmp_path):
    lines = ["text,label", *["é,ü"] * 5]
    content = "\n".join(lines).encode() + b"\ncaf\xe9,x\n\xe9,y"
    rows = read(tmp_path, content)
    assert rows[:5] == [(row, "é", "ü") for row in range(2, 7)]
    assert rows[5:] == [(7, "caf\udce9", "x"), (8, "\udce9", "y")]


@pytest.mark.parametrize(
    ("encoding", "raw", "text"),
    [
        ("ascii", b"\xe9", "\udce9"),
        ("utf-16-le", b"\x00\xd8", "\udc00\udcd8"),
        ("gb18030", b"\x81\x20", "\udc81 "),
        ("shift_jis", b"\x81", "\udc81"),
        ("cp1252", b"\x81", "\udc81"),
    ],
)
def test_bytes_that_do_not_fit_stay_in_their_cell(tmp_path, encoding, raw, text):
    head, tail = ("text,label\n".encode(encoding), ",x\nb,y\n".encode(encoding))
    rows = read(tmp_path, head + raw + tail, encoding=encoding)
    assert rows == [(2, text, "x"), (3, "b", "y")]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [("klingon", "klingon"), ("hex", "not a text encoding"), ("utf-16", "does not start with BOM")],
)
def test_an_encoding_that_cannot_be_is_refused(tmp_path, encoding, words):
    with pytest.raises(TableUnusable, match=f"posts.csv cannot be read.*{words}"):
        table(tmp_path, "text,label\na,b\n", encoding=encoding)


def test_a_mark_is_no_part_of_the_first_column_even_where_the_encoding_is_named(tmp_path):
    assert table(tmp_path, "\ufefftext\na\n", encoding="utf-8").columns == ["text"]


def test_zeros_in_a_cell_are_no_utf16(tmp_path):
    assert read(tmp_path, "text,label\n" + "\0" * 300 + ",x\n") == [(2, "\0" * 300, "x")]


def test_wide_characters_survive(tmp_path):
    text = "👩‍👩‍👧 \u2028 𝔘𝔫𝔦 e\u0301 עברית \x85 \x0b \x1c \0 ok"
    assert read(tmp_path, f"text,label\n{text},x\n") == [(2, text, "x")]


# --- JSON Lines and records


def test_json_lines_have_the_columns_of_all_rows(tmp_path):
    lines = [
        '{"text": "a\\nb", " image ": "x.jpg", "label": 1}',
        "",
        '{"text": NaN, "label": null, "other": [1, {}], "more": {"a": 1}}',
        '{"label": true, "text": 2.0, "text": 2.5}',
    ]
    posts = table(tmp_path, "\n".join(lines), "posts.jsonl")
    assert posts.columns == ["text", "image", "label", "other", "more"]
    assert kinds(posts) == [
        (1, "a\nb", "x.jpg", "1", "", ""),
        (3, "", "", "", [1, {}], {"a": 1}),
        (4, "2.5", "", "True", "", ""),
    ]
    assert read(tmp_path, "\n".join(lines), "no_name") == kinds(posts)
    assert read(tmp_path, "\n".join(lines).encode("utf-16"), "no_name") == kinds(posts)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", "a list, expected an object"),
        ('""', "a str, expected an object"),
        ("null", "a NoneType, expected an object"),
        ('{"text": "a"', "delimiter"),
        ("{'text': 'a'}", "double quotes"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "4300 digits"),
    ],
)
def test_a_line_that_is_no_object_is_a_problem_and_the_others_are_read(tmp_path, line, words):
    good = '{"text": "good"}'
    first, (row, problem), third = table(tmp_path, f"{good}\n{line}\n{good}", "posts.ndjson")
    assert (first, third) == ((1, {"text": "good"}), (3, {"text": "good"}))
    assert (row, problem.row, problem.column, problem.kind) == (2, 2, "text", "no JSON object")
    assert words in problem.detail


def test_records_are_a_table_too():
    posts = Table(iter([{"text": "a", 3: None}, {"label": math.nan, "text": ["b"]}, "c"]))
    assert (posts.name, posts.columns) == ("records", ["text", "3", "label"])
    for _ in range(2):
        assert kinds(posts) == [(1, "a", "", ""), (2, ["b"], "", ""), (3, "no JSON object")]
    with pytest.raises(TableUnusable, match="nothing in records"):
        Table([])


# --- files of all kinds


def test_gzip_is_unpacked_whatever_its_name(tmp_path):
    packed = gzip.compress(b"text;label\na;x\n", mtime=0)
    for name in ("t.csv.gz", "t.csv", "t.gz", "t"):
        posts = table(tmp_path, packed, name)
        assert kinds(posts) == kinds(posts) == [(2, "a", "x")] and posts.name == name
    lines = gzip.compress(b'{"text": "a"}\n', mtime=0)
    assert read(tmp_path, lines, "t.jsonl.gz") == [(1, "a")]


def test_two_readings_of_one_table_do_not_disturb_each_other(tmp_path):
    rows = "\n".join(f"{n},x" for n in range(20_000))
    posts = table(tmp_path, gzip.compress(f"text,label\n{rows}".encode()), "t.csv.gz")
    assert all(a == b for a, b in zip(posts, posts, strict=True))


def test_copies_go_when_the_table_does(tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    posts = table(tmp_path, gzip.compress(b"text\na\n", mtime=0), "t.csv.gz")
    assert kinds(posts) == [(2, "a")] and list(copies.iterdir())
    del posts
    assert not list(copies.iterdir())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_pipes_and_standard_input_are_read_again_and_again(tmp_path, pack):
    content = pack(TWEETS.format("").encode())
    pipe = tmp_path / "pipe.tsv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[content])
    writer.start()
    posts = Table(pipe)
    writer.join()
    assert posts.name == "pipe.tsv" and kinds(posts) == kinds(posts)
    expected = kinds(posts)
    assert len(expected) == 4
    for name in ("-", "/dev/stdin"):
        ends, kept = os.pipe(), os.dup(0)
        os.write(ends[1], content)
        os.close(ends[1])
        os.dup2(ends[0], 0)
        try:
            posts = Table(name)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(ends[0])
        assert posts.name == "standard input" and kinds(posts) == kinds(posts) == expected


@pytest.mark.parametrize(
    ("content", "name", "options", "words"),
    [
        ("", "posts.csv", {}, "posts.csv is empty; expected a table: CSV"),
        ("", "posts.jsonl", {}, "posts.jsonl is empty"),
        ("\n\n ,,\n", "posts.csv", {}, "there is nothing in it"),
        ("\n\n", "posts.jsonl", {}, "nothing in posts.jsonl"),
        ("sep=;\n", "posts.csv", {}, "there is nothing in it"),
        ("\ufeff", "posts.csv", {}, "there is nothing in it"),
        ('"text,label\na,b\n', "posts.csv", {}, "row 1 cannot be read as a header"),
        ('\n"a"b,c\n', "posts.csv", {}, "row 2 cannot be read as a header"),
        ("a,b\n", "posts.csv", {"delimiter": ";;"}, "';;' is not one character"),
        ("a,b\n", "posts.csv", {"delimiter": ""}, "'' is not one character"),
        ("a,b\n", "posts.csv", {"delimiter": "\n"}, "not one character that can stand"),
        ("a,b\n", "posts.csv", {"delimiter": '"'}, "not one character that can stand"),
        ('{"a": 1}\n', "posts.jsonl", {"delimiter": ","}, "no delimiter that could be ','"),
        (
            PACKED[:40],
            "posts.csv.gz",
            {},
            "posts.csv.gz cannot be read",
        ),
        (
            FORGED,
            "posts.csv",
            {},
            "posts.csv cannot be read",
        ),
        (gzip.compress(b"", mtime=0), "posts.csv.gz", {}, "is empty"),
    ],
)
def test_what_is_no_table_is_refused_at_once(tmp_path, content, name, options, words):
    with pytest.raises(TableUnusable, match=words):
        table(tmp_path, content, name, **options)


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(TableUnusable, match=r"nothere\.csv cannot be read: No such file.*expected"):
        Table(tmp_path / "nothere.csv")
    with pytest.raises(TableUnusable, match=f"{tmp_path.name} cannot be read: Is a directory"):
        Table(str(tmp_path))


def test_a_table_that_disappears_is_named(tmp_path):
    posts = table(tmp_path, "text\na\n")
    (tmp_path / "posts.csv").unlink()
    with pytest.raises(TableUnusable, match=r"posts\.csv cannot be read: No such file"):
        list(posts)


def test_without_a_library_one_is_told_what_to_install(tmp_path, monkeypatch):
    for name, library in (("t.xlsx", "openpyxl"), ("t.parquet", "polars")):
        monkeypatch.setitem(__import__("sys").modules, library, None)
        with pytest.raises(TableUnusable, match=rf"{library}.*pip install 'mmtutor\[tables\]'"):
            table(tmp_path, "?", name)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.parquet.gz"])
def test_parquet_is_read(tmp_path, name):
    polars = pytest.importorskip("polars")
    many = {
        "text": ["a\n" * 2000, "", None, *map(str, range(10_000))],
        "label": [1.0, math.nan, None, *[2.5] * 10_000],
        "tags": [["x"], [], None, *[["y"]] * 10_000],
        "flag": [True, None, None, *[False] * 10_000],
    }
    written = io.BytesIO()
    polars.DataFrame(many).write_parquet(written)
    content = gzip.compress(written.getvalue()) if name.endswith("gz") else written.getvalue()
    posts = table(tmp_path, content, name)
    rows = kinds(posts)
    assert posts.columns == ["text", "label", "tags", "flag"] and not posts.notes
    assert rows[0] == (2, "a\n" * 2000, "1.0", ["x"], "True")
    assert rows[1] == (3, "", "", [], "")
    assert rows[2] == (4, "", "", "", "")
    assert rows[3:] == [(n + 5, str(n), "2.5", ["y"], "False") for n in range(10_000)]


@pytest.mark.parametrize("name", ["t.xlsx", "t.csv", "t.xlsx.gz", "t"])
def test_excel_is_read(tmp_path, name):
    from datetime import date, datetime

    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Tweets"
    for row in [
        [],
        ["text", None, 2020, "label"],
        ['a\r\nb, "c"', 3.0, datetime(2024, 1, 5, 6), "good"],
        [],
        [None, 2.5, date(2024, 1, 5), True],
        ["short"],
    ]:
        sheet.append(row)
    book.create_sheet("other")
    written = io.BytesIO()
    book.save(written)
    content = gzip.compress(written.getvalue()) if name.endswith("gz") else written.getvalue()
    posts = table(tmp_path, content, name)
    assert posts.columns == ["text", "column 2", "2020", "label"]
    assert kinds(posts) == kinds(posts)
    assert kinds(posts) == [
        (3, 'a\nb, "c"', "3", "2024-01-05T06:00:00", "good"),
        (5, "", "2.5", "2024-01-05T00:00:00", "True"),
        (6, "short", "", "", ""),
    ]
    assert any("2 sheets" in note and "'Tweets'" in note for note in posts.notes)


def test_excel_of_other_programs_is_read(tmp_path):
    """They write another size than there is, and whole numbers with a point."""
    openpyxl, written, other = pytest.importorskip("openpyxl"), io.BytesIO(), io.BytesIO()
    book = openpyxl.Workbook()
    for row in [["text", "label"], ["a", 2.5], ["b", 3.5]]:
        book.active.append(row)
    book.save(written)
    with zipfile.ZipFile(written) as before, zipfile.ZipFile(other, "w") as after:
        for name in before.namelist():
            part = before.read(name).replace(b'ref="A1:B3"', b'ref="A1"')
            after.writestr(name, part.replace(b"<v>2.5</v>", b"<v>4.0</v>"))
    assert read(tmp_path, other.getvalue(), "t.xlsx") == [(2, "a", "4"), (3, "b", "3.5")]


@pytest.mark.parametrize("library", ["polars", "openpyxl"])
def test_a_corrupt_binary_is_refused_at_once_or_read(tmp_path, library):
    module, written = pytest.importorskip(library), io.BytesIO()
    if library == "polars":
        module.DataFrame({"text": [str(n) for n in range(500)]}).write_parquet(written)
    else:
        book = module.Workbook()
        for n in range(500):
            book.active.append([f"text {n}"])
        book.save(written)
    chance, refused = random.Random(5), 0
    for _ in range(60):
        broken = bytearray(written.getvalue()[: chance.choice([None, 300, 3000])])
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(8, len(broken))] = chance.randrange(256)
        try:
            posts = table(tmp_path, bytes(broken), "t.parquet" if library == "polars" else "t.xlsx")
        except TableUnusable as error:
            assert "cannot be read" in str(error) or "nothing in" in str(error)
            refused += 1
        else:
            assert list(posts) == list(posts)
    assert refused > 20


# --- laws

CELL = st.text(st.sampled_from("ab\"',;|\t\n\r éß猫🙂\u2028\x85"), max_size=8)
NAMES = ["text", "image", "label", "id"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_csv_writes_comes_back_equal(tmp_path_factory, data):
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=8))
    delimiter = data.draw(st.sampled_from(",;|\t"))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    fields = (
        csv.QUOTE_ALL
        if end != "\r\n"
        else data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    )
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]))
    name = data.draw(st.sampled_from(["t.csv", "t.tsv"]))
    told = {"delimiter": delimiter} if delimiter != {"t.csv": ",", "t.tsv": "\t"}[name] else {}
    told |= {"encoding": encoding} if encoding == "gb18030" else {}
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=fields)
    writer.writerows([NAMES[:width], *rows])
    content = written.getvalue().encode(encoding)
    if data.draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
    posts = table(tmp_path_factory.mktemp("law"), content, name, **told, quoting="yes")
    assert posts.columns == NAMES[:width]
    assert kinds(posts) == [(n, *row) for n, row in enumerate(rows, 2)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_quotation_marks_of_tsv_are_understood_where_no_cell_looks_like_lines(
    tmp_path_factory, data
):
    """A cell with both a tab and a newline can look like two rows of a table without quotation
    marks; all others tell."""
    cell = CELL.filter(lambda text: not {"\t"} & {*text} or not {"\n", "\r"} & {*text})
    row = st.lists(cell, min_size=2, max_size=2)
    rows = data.draw(st.lists(row, max_size=8))
    written = io.StringIO()
    csv.writer(written, delimiter="\t").writerows([NAMES[:2], *rows])
    posts = table(tmp_path_factory.mktemp("law"), written.getvalue(), "t.tsv", encoding="utf-8")
    assert kinds(posts) == [(n, *row) for n, row in enumerate(rows, 2)]


REFUSALS = ("there is nothing in it", "is empty", "cannot be read as a header")


def account_for(posts: Table, content: str, outcomes: dict[str, int]) -> None:
    """Walk through the file's lines beside the rows: a row takes as many as its cells say, a
    problem one, and a number that is left out is a blank line."""
    lines = io.StringIO(content, newline="").readlines()
    seen = dict(posts)
    row, width = posts._header_row + 1, len(posts.columns)
    at = row - 2 + lines_of(lines[row - 2 :], width, posts)
    while at < len(lines):
        each = seen.pop(row, None)
        if each is None:
            assert not lines[at].replace(posts._delimiter, "").strip(), lines[at]
            outcomes["blank"] += 1
        elif isinstance(each, Problem):
            assert each.row == row and each.kind in (BROKEN, WIDTH)
            assert not lines_of(lines[at:], width, posts), "this row could have been cut"
            outcomes["problem"] += 1
        else:
            taken = lines_of(lines[at:], width, posts)
            whole = "".join(lines[at : at + taken])
            assert [*each.values()] == split_by_hand(whole, posts._delimiter, posts._quoted)
            outcomes["row"] += 1
            at += taken - 1
        row, at = row + 1, at + 1
    assert not seen and at == len(lines)


def lines_of(lines: list[str], width: int, posts: Table) -> int:
    """How many of these lines are one row of that width; 0 if none."""
    for taken in range(1, min(SPAN, len(lines)) + 1):
        cells = split_by_hand("".join(lines[:taken]), posts._delimiter, posts._quoted)
        if cells != "open":
            return taken if cells is not None and len(cells) == width else 0
    return 0


def split_by_hand(text: str, delimiter: str, quoted: bool) -> list[str] | str | None:
    """Cut a row without the csv module: a regular grammar, one state per letter. None where
    it is none, "open" where a mark is."""
    body = text.removesuffix("\n").removesuffix("\r")
    if not quoted:
        return body.split(delimiter)
    cells, state = [""], "start"
    for letter in body:
        if state == "inside":
            if letter == '"':
                state = "mark"
            else:
                cells[-1] += letter
        elif letter == delimiter:
            cells.append("")
            state = "start"
        elif state == "mark":
            if letter != '"':
                return None
            cells[-1] += letter
            state = "inside"
        elif letter == '"' and state == "start":
            state = "inside"
        else:
            cells[-1] += letter
            state = "plain"
    return "open" if state == "inside" else cells


def broken_table(chance: random.Random) -> tuple[bytes, str]:
    """A table in which bytes are changed, put in, cut out, or lines cut off or repeated."""
    name, delimiter = chance.choice([("t.csv", ","), ("t.tsv", "\t"), ("t.csv", ";"), ("t", "|")])
    encoding = chance.choice(["utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
    letters = 'ab "\n,;\t|é' if chance.random() < 0.7 else "ab c"
    rows = [
        ["".join(chance.choices(letters, k=chance.randrange(9))) for _ in range(3)]
        for _ in range(chance.randrange(1, 12))
    ]
    written = io.StringIO()
    style = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = chance.choice(["\n", "\r\n"])
    writer = csv.writer(written, delimiter=delimiter, quoting=style, lineterminator=end)
    writer.writerows([["text", "label", "id"], *rows])
    content = bytearray(written.getvalue().encode(encoding))
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(content) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            content[at : at + 1] = [chance.randrange(256)]
        elif kind == 1:
            content[at:at] = chance.choice([b'"', b"\n", b"\r", b"\0", b",", b"\t", b"\xff"])
        elif kind == 2:
            del content[at : at + chance.randrange(20)]
        else:
            content[at:at] = content[: chance.randrange(len(content) + 1)]
    return bytes(content), name


def test_5000_broken_tables_lose_no_line(tmp_path):
    """Each line of the file is the header, a row's first or a later line, a problem, or blank, and
    rows are numbered as they come: nothing else is said of any line, and nothing else raised."""
    chance, outcomes = random.Random(7), dict.fromkeys(["refused", "row", "problem", "blank"], 0)
    for _ in range(5000):
        content, name = broken_table(chance)
        path = tmp_path / name
        path.write_bytes(content)
        try:
            posts = Table(path)
        except TableUnusable as error:
            outcomes["refused"] += 1
            assert any(words in str(error) for words in REFUSALS), error
            path.unlink()
            continue
        if posts._rows is not Table._cells:
            continue
        with path.open(encoding=posts._encoding, errors=LONE, newline="") as file:
            account_for(posts, file.read().removeprefix("\ufeff"), outcomes)
        path.unlink()  # a file that is written over is flushed to the disk each time
    assert min(outcomes.values()) > 100, outcomes
