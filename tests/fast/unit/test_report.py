import json

import numpy as np
import pytest

from mmtutor import report
from mmtutor.report import comparison_table, glue, load_results, save_results


def test_glue_records_text_name_and_tolerance_and_nothing_that_a_page_would_show(monkeypatch):
    shown = []
    monkeypatch.setattr(
        report, "display", lambda data, metadata, raw: shown.append((data, metadata, raw))
    )
    glue("gain", 0.04321, tol=0.02, fmt="{:+.3f}")
    ((data, metadata, raw),) = shown
    assert raw and data == {"application/papermill.record/text/plain": "'+0.043'"}
    assert metadata["scrapbook"] == {"name": "gain", "mime_prefix": "application/papermill.record/"}
    assert metadata["mmtutor"] == {"tolerance": 0.02}


@pytest.mark.parametrize(("value", "tol"), [(float("nan"), 0), (float("inf"), 0), (1.0, -0.1)])
def test_glue_refuses_what_cannot_be_cited(value, tol):
    with pytest.raises(ValueError, match="'x'"):
        glue("x", value, tol=tol)


def test_comparison_table_against_numbers_worked_by_hand():
    scores = {"text": np.array([0.5, 0.6, 0.7, 0.6]), "both": np.array([0.6, 0.6, 0.8, 0.8])}
    table = comparison_table(scores, against="text", n_train=80, n_test=20, score="F1")
    assert table.loc["text", "F1"] == "0.600" and table.loc["text", "minus text"] == ""
    # differences .1 0 .1 .2: mean .1, variance .02/3; corrected by 1/4 + 20/80; t_3(.975) = 3.1824
    half = 3.1824 * np.sqrt((1 / 4 + 20 / 80) * 0.02 / 3)
    assert table.loc["both", "minus text"] == "+0.100"
    assert table.loc["both", "its 95 % interval"] == f"[{0.1 - half:+.3f}, {0.1 + half:+.3f}]"
    with pytest.raises(KeyError, match="image"):
        comparison_table(scores, against="image", n_train=80, n_test=20)


def test_results_survive_a_round_trip_and_betray_a_changed_digit(tmp_path):
    path = tmp_path / "results" / "cost.json"
    save_results(path, command="make results", machine="a laptop", rows={"head": {"seconds": 0.5}})
    assert load_results(path)["rows"] == {"head": {"seconds": 0.5}}
    assert [p.name for p in path.parent.iterdir()] == ["cost.json"]
    content = json.loads(path.read_text())
    content["rows"]["head"]["seconds"] = 0.4
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="make results"):
        load_results(path)
    with pytest.raises(FileNotFoundError, match="make results"):
        load_results(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b'{"command": "make', b"", b"[1, 2]", b"3", b"\xff\xfe"])
def test_results_that_are_cut_short_or_no_results_are_named(tmp_path, content):
    path = tmp_path / "cost.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cost\.json holds no whole results.*make results"):
        load_results(path)


def test_a_failed_write_keeps_the_old_results_and_leaves_nothing_beside_them(tmp_path, monkeypatch):
    path = tmp_path / "cost.json"
    save_results(path, command="make results", machine="a laptop", rows={"head": 1})

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        save_results(path, command="make results", machine="a laptop", rows={"head": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["cost.json"]
    assert load_results(path)["rows"] == {"head": 1}
