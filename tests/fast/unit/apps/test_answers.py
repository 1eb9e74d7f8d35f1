"""Answers on their way to a file: whole or not at all."""

import pytest

from mmtutor.apps.answers import check_target, write_answers
from mmtutor.apps.faults import PostsUnusable

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.txt", r"out\.txt: answers are written as \.jsonl or \.csv"),
        ("nothere/out.csv", "its folder does not exist"),
        ("folder.csv", "it is a folder"),
    ],
)
def test_a_target_that_cannot_be_one_is_told(tmp_path, name, words):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PostsUnusable, match=words):
        check_target(tmp_path / name)


@pytest.mark.parametrize("error", [KeyboardInterrupt, PostsUnusable])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_an_interruption_leaves_no_file_and_keeps_an_older_one(tmp_path, name, error):
    def broken():
        yield {"row": 2, "label": None, "problem": {"column": "a", "kind": "b", "detail": "c"}}
        raise error

    with pytest.raises(error):
        write_answers(broken(), tmp_path / name, ("x",))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_text("older")
    with pytest.raises(error):
        write_answers(broken(), tmp_path / name, ("x",))
    assert [p.name for p in tmp_path.iterdir()] == [name] and (
        tmp_path / name
    ).read_text() == "older"


def test_no_answers_make_a_file_with_a_header_or_an_empty_one(tmp_path):
    assert write_answers(iter(()), tmp_path / "out.csv", ("x",)) == 0
    header = "row,id,label,p(x),from text,from image,answered_by,problem"
    assert (tmp_path / "out.csv").read_text().strip() == header
    assert (
        write_answers(iter(()), tmp_path / "out.jsonl", ("x",)) == 0
        and (tmp_path / "out.jsonl").read_text() == ""
    )


def test_an_input_that_is_not_there_cannot_be_harmed(tmp_path):
    """That it is missing is told by who reads it."""
    (tmp_path / "out.csv").write_text("")
    assert check_target(tmp_path / "out.csv", inputs=[tmp_path / "no model", None])
