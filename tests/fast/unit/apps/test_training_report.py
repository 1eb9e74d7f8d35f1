"""What the report says of made-up findings: real or not, few posts, odd encodings; and that the
page escapes all."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmtutor.apps.classifier import train_final
from mmtutor.apps.faults import Faults, Problem
from mmtutor.apps.report_page import page
from mmtutor.apps.training_report import FEW, training_report
from mmtutor.choosing.nested import choose

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

STEADY = {"text": 0.50, "image": 0.60, "early": 0.80, "late": 0.70}


@pytest.fixture(scope="module")
def found(synthetic):
    table = synthetic(n=40)
    choice = choose(table, splits=2, repeats=2, device="cpu", progress=False)
    return table, choice, train_final(table, choice, device="cpu")


def report_of(found, scores=None, faults=None, table=None, **posts):
    made, choice, model = found
    if scores is not None:
        wobble = np.array([0.01, -0.01, 0.02, -0.02])
        choice = replace(
            choice, scores={m: s + wobble * (k + 1) / 4 for k, (m, s) in enumerate(scores.items())}
        )
    facts = {
        "path": SimpleNamespace(name="p.csv"),
        "encodings": Counter({"utf-8": 41}),
        "odd_lines": {},
        **posts,
    }
    return training_report(
        table or made, choice, model, faults or Faults(), SimpleNamespace(**facts), seed=0
    )


def test_a_gain_that_is_real_is_called_so(found):
    report = report_of(found, STEADY)
    assert report["winner"] == "early" and report["comparison"]["against"] == "image"
    assert (
        report["comparison"]["difference"] == pytest.approx(0.2)
        and report["comparison"]["real"] is True
    )
    assert report["comparison"]["interval"][0] > 0 and report["comparison"]["wins"] == 4
    assert any("The difference is real" in s for s in report["words"])
    assert any("best of several" in s for s in report["words"])


def test_a_gain_that_may_be_chance_is_called_so(found):
    table, choice, model = found
    scores = {m: np.array([0.6, 0.6, 0.6, 0.6]) for m in STEADY}
    scores["late"] = np.array([0.8, 0.5, 0.7, 0.6])
    report = report_of((table, replace(choice, scores=scores), model))
    assert report["winner"] == "late" and report["comparison"]["real"] is False
    assert any(
        "no evidence of a gain" in s and "Text alone may do as well" in s for s in report["words"]
    )


def test_a_single_modality_that_wins_is_no_gain_of_fusion(found):
    report = report_of(found, {**STEADY, "text": 0.9})
    assert report["winner"] == "text" and report["comparison"] is None
    assert any(
        s.startswith(
            "Fusion did not help: early fusion (one head on both) minus text alone is -0.1"
        )
        for s in report["words"]
    )


def test_classes_with_few_groups_are_named(found):
    table = found[0]
    groups = np.where(table.labels.numpy() == 1, table.groups % (2 * (FEW - 1)), table.groups)
    report = report_of(found, table=replace(table, groups=groups))
    assert any(s.startswith(f"Of b there are fewer than {FEW}") for s in report["words"])
    assert not any("fewer than" in s for s in report_of(found)["words"])


def test_per_class_figures_are_those_of_the_first_repeat(found):
    table, choice, _ = found
    report = report_of(found)
    guess, y = choice.answers[choice.winner][0].argmax(1), table.labels
    for c, name in enumerate("ab"):
        right = int(((guess == c) & (y == c)).sum())
        assert report["per_class"]["classes"][name]["precision"] == pytest.approx(
            right / int((guess == c).sum())
        )
        assert report["per_class"]["classes"][name]["recall"] == pytest.approx(
            right / int((y == c).sum())
        )
    assert report["per_class"]["confusion"][0][1] == int(((guess == 1) & (y == 0)).sum())


def test_a_class_that_was_never_said_has_no_precision(found):
    table, choice, model = found
    guesses = {m: torch.zeros_like(g) for m, g in choice.guesses.items()}
    report = report_of((table, replace(choice, guesses=guesses), model))
    assert report["per_class"]["classes"]["b"] == {"precision": None, "recall": 0}
    json.dumps(report, allow_nan=False)


def test_the_page_escapes_names_and_details(found):
    table, choice, model = found
    evil = "<img src=x onerror=alert(1)>"
    faults = Faults()
    faults.add(Problem(2, evil, "missing picture", f"{evil}.jpg & more"))
    table = replace(table, classes=(evil, "b"))
    text = page(
        report_of(
            (table, choice, model), faults=faults, table=table, path=SimpleNamespace(name=evil)
        )
    )
    assert "<img src=x" not in text and text.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    assert "&amp; more" in text


def test_the_page_tells_odd_encodings_with_the_first_line(found):
    told = page(
        report_of(found, encodings=Counter({"utf-8": 5, "gb18030": 2}), odd_lines={"gb18030": 7})
    )
    assert (
        "Lines that are no UTF-8 were read 2 as gb18030 (first: line 7). If that is wrong, say"
        " --encoding." in told
    )
    assert "Lines that are no UTF-8" not in page(report_of(found))


def test_the_page_shows_a_hundred_faults_and_counts_the_rest(found):
    faults = Faults()
    for row in range(130):
        faults.add(Problem(row + 2, "image", "missing picture", f"{row}.jpg"))
    text = page(report_of(found, faults=faults))
    assert "130 faulty rows were left out" in text and "… and 30 more." in text
    assert (
        ">99.jpg<" in text
        and ">100.jpg<" not in text
        and "No row was faulty" in page(report_of(found))
    )


def test_the_page_says_which_decision_its_labels_follow(found):
    table, choice, model = found
    assert "share, so that rare classes" in page(report_of(found))
    likeliest = page(report_of((table, choice, replace(model, decision="likeliest"))))
    assert "The label is the class of the highest probability." in likeliest


def test_equal_reports_give_equal_pages(found):
    assert page(report_of(found)) == page(report_of(found))
