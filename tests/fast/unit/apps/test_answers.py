"""Answers on their way to a file: whole or not at all."""

import csv
import json

import pytest

from mmtutor.apps.answers import check_target, write_answers
from mmtutor.apps.faults import TableUnusable

CONFIG = {"classes": ["x"], "dims": {"text": 384, "numbers": 4}}
FAULT = {
    "row": 3,
    "label": None,
    "problem": {"column": "image", "kind": "missing picture", "detail": "a.png"},
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.txt", r"out\.txt cannot be written: answers are written as \.jsonl or \.csv"),
        ("nothere/out.csv", "its folder does not exist"),
        ("folder.csv", "it is a folder"),
    ],
)
def test_a_target_that_cannot_be_one_is_told(tmp_path, name, words):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableUnusable, match=words):
        check_target(tmp_path / name)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TableUnusable])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_an_interruption_leaves_no_file_and_keeps_an_older_one(tmp_path, name, error):
    def broken():
        yield {"row": 2, "label": None, "problem": {"column": "a", "kind": "b", "detail": "c"}}
        raise error

    with pytest.raises(error):
        write_answers(broken(), tmp_path / name, CONFIG)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_text("older")
    with pytest.raises(error):
        write_answers(broken(), tmp_path / name, CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (
        tmp_path / name
    ).read_text() == "older"


def test_no_answers_make_a_file_with_a_header_or_an_empty_one(tmp_path):
    assert write_answers(iter(()), tmp_path / "out.csv", CONFIG) == 0
    header = "row,id,label,p(x),from text,from numbers,answered_by,problem"
    assert (tmp_path / "out.csv").read_text().strip() == header
    assert (
        write_answers(iter(()), tmp_path / "out.jsonl", CONFIG) == 0
        and (tmp_path / "out.jsonl").read_text() == ""
    )


def written_as(name, folder, answers, config) -> str:
    assert write_answers(iter(answers), folder / name, config) == len(answers)
    return (folder / name).read_text(encoding="utf-8")


def test_csv_and_json_lines_hold_the_same(tmp_path):
    answer = {
        "row": 2,
        "id": "é,\n",
        "label": "x",
        "probabilities": {"x": 0.25},
        "contributions": {"text": -0.5, "numbers": 0.0},
        "answered_by": "text + numbers",
    }
    said = [answer, FAULT]
    lines = written_as("out.jsonl", tmp_path, said, CONFIG).splitlines()
    assert [json.loads(line) for line in lines] == said and "é" in lines[0]
    written_as("out.csv", tmp_path, said, CONFIG)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    facts = {"row": "2", "id": "é,\n", "label": "x", "p(x)": "0.25", "problem": ""}
    gains = {"from text": "-0.5", "from numbers": "0.0", "answered_by": "text + numbers"}
    assert first == facts | gains
    told = "image: missing picture: a.png"
    assert second == dict.fromkeys(first, "") | {"row": "3", "problem": told}


def test_a_number_stands_with_its_interval(tmp_path):
    answer = {"row": 2, "id": "", "label": 7.5, "interval": [7.0, 8.0]}
    config = {"classes": [], "dims": {"numbers": 4}}
    content = written_as("out.csv", tmp_path, [answer, FAULT], config)
    first, second = csv.DictReader(content.splitlines())
    assert (first["label"], first["low"], first["high"]) == ("7.5", "7.0", "8.0")
    assert (second["label"], second["low"], second["high"]) == ("", "", "")


def test_an_input_that_is_not_there_cannot_be_harmed(tmp_path):
    """That it is missing is told by who reads it."""
    (tmp_path / "out.csv").write_text("")
    assert check_target(tmp_path / "out.csv", inputs=[tmp_path / "no model", None])
