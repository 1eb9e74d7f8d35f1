"""The benchmarks' own parts: what is measured, how turns are taken, and that a broken limit is
seen."""

import importlib

import pytest

from benchmarks import __main__ as command
from benchmarks.measure import Row, as_table, interleaved, ratio, turns


@pytest.mark.parametrize("name", command.MODULES)
def test_each_benchmark_can_be_imported_and_asked_for_rows(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").rows)


@pytest.mark.parametrize(
    ("value", "limit", "good"), [(1.3, 1.3, True), (1.31, 1.3, False), (99.0, None, True)]
)
def test_a_row_is_good_up_to_its_limit(value, limit, good):
    row = Row("a thing", value, limit, "ratio")
    assert row.good is good
    assert ("above the limit" in as_table([row])) is not good


def test_the_table_marks_the_broken_row_only():
    lines = as_table(
        [Row("kept", 1.0, 2.0, "ms"), Row("broken", 3.0, 2.0, "ms"), Row("shown", 5.0, None, "ms")]
    )
    assert [("above" in line) for line in lines.splitlines()] == [False, False, True, False]
    assert lines.splitlines()[2].split()[:4] == ["broken", "3.00", "2.00", "ms"]


@pytest.mark.parametrize(("limit", "status"), [(2.0, 0), (0.5, 1)])
def test_the_command_prints_the_table_and_fails_on_a_broken_limit(
    limit, status, monkeypatch, capsys
):
    module = importlib.import_module("benchmarks.training")
    monkeypatch.setattr(module, "rows", lambda: [Row("a thing", 1.0, limit, "ratio")])
    assert command.main(["training"]) == status
    assert "a thing" in capsys.readouterr().out


def test_an_unknown_benchmark_names_the_known_ones():
    with pytest.raises(SystemExit, match=r"'trainings'.*'training', 'processes', 'encoders'"):
        command.main(["trainings"])


def test_actions_take_turns_in_both_orders_and_warm_turns_do_not_count():
    seen = []
    times = turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, repeats=2, warm=1)
    assert seen == ["b", "a", "a", "b", "b", "a"]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}
    assert set(interleaved({"a": lambda: None}, repeats=1, warm=0)) == {"a"}


def test_the_ratio_is_the_median_of_the_turns():
    assert ratio({"a": [2.0, 30.0, 3.0], "b": [1.0, 10.0, 2.0]}, "a", "b") == 2.0
