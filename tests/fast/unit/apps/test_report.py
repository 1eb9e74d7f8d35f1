"""What the report says of made-up findings: real or not, worth, for whom, with how many rows; that
its page escapes all and asks no other host."""

import json
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmtutor.apps import report as reporting
from mmtutor.apps.faults import Faults, Problem
from mmtutor.apps.report import FEW, SHARES, findings, learning_curve, page, spoken, title
from mmtutor.apps.rows import Roles, Survey
from mmtutor.apps.scores import class_scores
from mmtutor.choosing.choice import methods_of
from mmtutor.choosing.nested import choose

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")

NAMES = ("text", "image", "audio")
QUICK = {"splits": 2, "repeats": 2, "device": "cpu", "progress": False}
CURVE = [{"rows": 10.0, "score": 0.5}, {"rows": 20.0, "score": 0.75}]
STEADY = dict.fromkeys(methods_of(NAMES), 0.5) | {"image": 0.6, "early": 0.8, "late": 0.7}
WOBBLE = np.array([0.01, -0.01, 0.02, -0.02])


@pytest.fixture(scope="module")
def table(synthetic):
    where = ((-1, -1, 0), (1, 1, 0))
    return synthetic(40, where, (4, 3, 2), NAMES, lacking=[("audio", 3)])


@pytest.fixture(scope="module")
def choice(table):
    return choose(table, **QUICK)


@pytest.fixture(scope="module")
def priced(synthetic):
    """Return a table of a number, and what choosing found of it."""
    table = synthetic(60, ((0, 0),), names=("text", "numbers"), dims=(4, 3))
    y = table.features["text"][:, 0] + table.features["numbers"][:, 0]
    table = replace(table, labels=(y - y.mean()) / y.std(), classes=())
    return table, choose(table, **QUICK)


def scored(choice, scores):
    """Return the choice with these mean scores, which waver a little, each its own way."""
    steps = {m: 1 + k / 4 for k, m in enumerate(scores)}
    return replace(choice, scores={m: s + WOBBLE * steps[m] for m, s in scores.items()})


def report_of(table, choice, faults=None, slices=None, name="p.csv", positive=(), **settings):
    """Return findings; slices: column → its values."""
    slices = slices or {}
    target = (0.0, 1.0) if table.classes else (250.0, 40.0)
    found = Survey(table.classes, {}, Counter(), target, (), [])
    columns = [np.array(v, object) for v in slices.values()] or [np.empty(len(table), object)]
    return findings(
        table,
        np.stack(columns, 1),
        choice,
        found,
        SimpleNamespace(name=name, roles=Roles(slices=tuple(slices))),
        faults or Faults(),
        positive=positive,
        curve=CURVE,
        **{"decision": "balanced", **settings},
    )


def told(report, start) -> list[str]:
    """Return the sentences that begin like this."""
    return [s for s in report["words"] if s.startswith(start)]


def test_a_gain_that_is_real_is_called_so(table, choice):
    c = scored(choice, STEADY)
    report = report_of(table, c)
    assert report["winner"] == report["best"] == report["full"] == "early"
    found = report["comparison"]
    assert found["method"] == "early" and found["against"] == "image" == report["best_single"]
    assert found["difference"] == pytest.approx(0.2) and found["real"] is True
    assert found["interval"] == [c.against("early", "image").low, c.against("early", "image").high]
    assert found["interval"][0] > 0 and (found["wins"], found["folds"]) == (4, 4)
    assert told(report, "Early fusion (one head) is chosen: macro-F1 0.800 [0.")
    assert told(report, "It beats the best single modality, picture alone: +0.200 [+0.1")
    assert "in 4 of 4 folds." in told(report, "It beats")[0]
    assert not told(report, "No gain from fusion") and not told(
        report, "Early fusion (one head) sc"
    )


def test_a_single_modality_that_is_not_clearly_worse_is_chosen_and_fusion_did_not_help(
    table, choice
):
    wild = np.array([0.3, -0.3, 0.2, -0.2])
    scores = {m: np.full(4, s) + wild * (m == "early") for m, s in STEADY.items()}
    scores["image"] = np.array([0.69, 0.71, 0.7, 0.7])
    report = report_of(table, replace(choice, scores=scores))
    assert report["winner"] == "image" == report["best_single"] and report["best"] == "early"
    assert report["comparison"] is None and report["lead"]["real"] is False
    assert report["lead"]["difference"] == pytest.approx(0.1)
    assert told(report, "No gain from fusion") and not told(report, "It beats")
    # a minus, not a hyphen, before numbers
    assert re.search(r"not clearly higher: \+0\.100 \[−\d\.\d{3}, \+\d", " ".join(report["words"]))


def test_a_gain_that_may_be_nothing_is_not_called_one(table, choice):
    """Clearly worse than the best is each single modality; but not than what is chosen in place of
    the best, since that reads less."""
    steady = {m: np.full(4, s) for m, s in (STEADY | {"early": 0.9}).items()}
    wild = np.array([0.18, -0.18, 0.15, -0.15])
    scores = steady | {"early without text": 0.75 + wild, "image": np.full(4, 0.7)}
    report = report_of(table, replace(choice, scores=scores))
    assert report["winner"] == "early without text" and report["comparison"]["real"] is False
    (said,) = told(report, "It is not clearly better than the best single modality, picture alone:")
    assert "+0.050 [−0." in said and not told(report, "It beats")


def test_a_single_modality_that_is_best_leads_nobody(table, choice):
    report = report_of(table, scored(choice, {**STEADY, "text": 0.95}))
    assert report["winner"] == report["best"] == "text" and report["comparison"] is None
    assert report["full"] == "early" and not any("scored highest" in s for s in report["words"])


def test_worth_is_what_the_best_full_method_loses_without_a_modality(table, choice):
    c = scored(choice, STEADY | {"early without text": 0.55, "early without audio": 0.801})
    report = report_of(table, c)
    assert set(report["worth"]) == {*NAMES}
    for m, loss in report["worth"].items():
        assert (loss["method"], loss["against"]) == (f"early without {m}", "early")
        fall = c.scores[loss["method"]] - c.scores["early"]
        assert loss["difference"] == pytest.approx(fall.mean())
    assert report["worth"]["text"]["real"] is True and report["worth"]["audio"]["real"] is False
    text, sound = (told(report, f"Without the {m}: ")[0] for m in ("text", "sound"))
    assert "−0.250 [−0." in text and text.endswith("against early fusion (one head).")
    assert "+0.001 [" in sound and sound.endswith("which may as well be nothing.")
    # all methods against the best, and what is lost without each
    assert report["comparisons"] == len(c.methods) - 1 + 3
    assert told(report, f"{report['comparisons']} comparisons were made")


def test_of_two_modalities_worth_is_the_other_one_alone(priced):
    table, choice = priced
    report = report_of(table, choice)
    assert {m: w["method"] for m, w in report["worth"].items()} == {
        "text": "numbers",
        "numbers": "text",
    }


def test_one_modality_leaves_nothing_to_compare(table):
    alone = table.only(["text"])
    report = report_of(alone, choose(alone, **QUICK))
    assert report["worth"] == {} and report["comparison"] is None and report["comparisons"] == 0
    assert told(report, "Nothing was compared")
    assert not any("comparisons" in s for s in report["words"])
    assert "What does each modality add?" not in page(report)


def test_what_was_left_out_is_told(table, choice):
    report = report_of(table, replace(choice, left_out=("numbers",)))
    assert report["left_out"] == ["numbers"]
    assert told(report, "Left out, since too few rows have it beside the others: numbers.")


def test_counts_of_rows_classes_and_groups(table, choice):
    grouped = replace(table, groups=table.groups // 2)
    data = report_of(grouped, choice)["data"]
    assert data["rows"] == 40 and data["compared_on"] == 39 and data["groups"] == 20
    assert data["with"] == {"text": 40, "image": 40, "audio": 39}
    assert data["classes"] == {"a": 20, "b": 20} and data["table"] == "p.csv"


def test_classes_with_few_groups_are_named(table, choice):
    groups = np.where(table.labels.numpy() == 1, table.groups % (2 * (FEW - 1)), table.groups)
    report = report_of(replace(table, groups=groups), choice)
    assert report["scarce"] == ["b"]
    assert told(report, f"Of b there are fewer than {FEW} rows that do not repeat each other")
    assert report_of(table, choice)["scarce"] == []


def test_scores_of_classes_are_those_of_the_first_repeat(table, choice):
    report, w = report_of(table, choice), choice.winner
    rows = choice.compared
    assert report["judged"] == class_scores(
        choice.guesses[w][0].numpy(),
        choice.calibrated[w][0].numpy(),
        table.labels[rows].numpy(),
        table.groups[rows.numpy()],
    )
    assert np.sum(report["judged"]["confusion"]) == 39


def test_intervals_of_scores_do_not_leave_what_is_possible(table, choice):
    scores = {m: np.array([0.2, 1.0, 0.9, 1.0]) for m in choice.methods}
    report = report_of(table, replace(choice, scores=scores))
    found = report["methods"]["text"]
    assert found["macro_f1"]["interval"] == [pytest.approx(0, abs=0.5), 1.0]
    assert found["macro_f1"]["interval"][0] >= 0 and found["macro_f1"]["level"] == 0.95
    assert found["folds"] == [0.2, 1.0, 0.9, 1.0] and found["name"] == "text alone"
    assert set(found) == {"name", "macro_f1", "folds", "ece", "log_loss"}


def test_numbers_are_judged_by_what_is_explained_and_by_their_error(priced):
    table, choice = priced
    report = report_of(table, choice, slices={"site": ["x", "y"] * 30})
    assert report["score"] == "r2" and report["judged"] == {} == report["data"]["classes"]
    assert report["data"]["target"] == {"mean": 250.0, "deviation": 40.0}
    for m, found in report["methods"].items():
        said, y = choice.calibrated[m][0, :, 0], table.labels
        assert found["mae"] == pytest.approx(40 * float((said - y).abs().mean()), rel=1e-5)
        assert "macro_f1" not in found and set(found["r2"]) == {"value", "interval", "level"}
    m, y = report["full"], table.labels
    errors = 40 * (choice.guesses[m] - y).abs().mean(0)
    everyone, x, other = report["slices"]
    assert [s["slice"] for s in report["slices"]] == ["all", "site x", "site y"]
    assert everyone["scores"][m]["error"]["value"] == pytest.approx(float(errors.mean()), rel=1e-5)
    assert x["scores"][m]["error"]["value"] == pytest.approx(float(errors[::2].mean()), rel=1e-5)
    assert other["n"] == 30 == other["groups"] and "positive" not in other
    text = page(report)
    assert "Mean absolute error" in text and "mean 250 and standard deviation 40" in text
    assert "R²" in text and "macro-F1" not in text.lower()


# ten without the illness, of whom a threshold above 0.81 lets nine pass; ten with it: at site x
# five, of whom the text finds four and all modalities two; at site y five: two and all
HEALTHY = [k / 10 for k in range(10)]
SITES = ["x", "y"] * 10


@pytest.fixture(scope="module")
def ill(synthetic):
    """Return a table of twenty, and a choice with the probabilities worked out above."""
    table = synthetic(20, ((-1, -1), (1, 1)))
    table = replace(table, labels=(torch.arange(20) >= 10).long(), classes=("healthy", "ill"))
    choice = choose(table, **{**QUICK, "repeats": 1})
    found = {"text": ([1, 1, 1, 1, 0], [1, 1, 0, 0, 0]), "early": ([1, 1, 0, 0, 0], [1] * 5)}
    probs, guesses = {}, {}
    for m, (at_x, at_y) in found.items():
        hits = np.stack([at_x, at_y], 1).flatten()  # the sites in turn
        risk = torch.tensor([*HEALTHY, *np.where(hits, 0.85, 0.8)], dtype=torch.float64)
        probs[m] = torch.stack([1 - risk, risk], 1)[None]
        guesses[m] = (risk > 0.55).long()[None]
    means = dict.fromkeys(choice.methods, 0.5) | {"text": 0.6, "early": 0.7}
    scores = {m: np.array([s, s]) for m, s in means.items()}
    return table, replace(
        choice,
        scores=scores,
        calibrated=choice.calibrated | probs,
        guesses=choice.guesses | guesses,
    )


def test_sensitivity_of_slices_is_that_worked_out_by_hand(ill):
    report = report_of(*ill, slices={"site": SITES}, positive=("ill",))
    assert (report["best_single"], report["full"]) == ("text", "early")
    values = {
        s["slice"]: {m: s["scores"][m]["sensitivity"]["value"] for m in s["scores"]}
        for s in report["slices"]
    }
    assert values["all"] == pytest.approx({"text": 0.6, "early": 0.7, "difference": 0.1})
    assert values["site x"] == pytest.approx({"text": 0.8, "early": 0.4, "difference": -0.4})
    assert values["site y"] == pytest.approx({"text": 0.4, "early": 1.0, "difference": 0.6})
    assert [(s["n"], s["groups"], s["positive"]) for s in report["slices"]] == [
        (20, 20, 10),
        (10, 10, 5),
        (10, 10, 5),
    ]
    # of the healthy 0, .1, ... .5 are called so, of the ill all are: six of ten and ten of ten
    assert report["slices"][0]["scores"]["text"]["accuracy"]["value"] == pytest.approx(0.8)
    assert report["slices"][1]["scores"]["text"]["accuracy"]["value"] == pytest.approx(0.8)
    low, high = report["slices"][0]["scores"]["difference"]["sensitivity"]["interval"]
    assert -1 <= low < 0.1 < high <= 1
    assert "Sensitivity at a specificity of .9" in page(report)


def test_a_slice_that_pays_is_told_in_words(ill):
    """With ten like each of the twenty the loss at site x is no chance."""
    table, choice = ill

    def many(x):
        return x.repeat_interleave(10, -1 if x.ndim < 3 else 1)

    features = {m: x.repeat_interleave(10, 0) for m, x in table.features.items()}
    whole = replace(
        table, features=features, labels=many(table.labels), groups=np.arange(200), present=None
    )
    wide = replace(
        choice,
        compared=torch.arange(200),
        calibrated={m: many(v) for m, v in choice.calibrated.items()},
        guesses={m: many(v) for m, v in choice.guesses.items()},
    )
    report = report_of(whole, wide, slices={"site": np.repeat(SITES, 10)}, positive=("ill",))
    said = [s for s in report["words"] if s.startswith("For site")]
    assert len(said) == 1
    assert said[0].startswith(
        "For site x (100 rows) fewer of the positive are found with all modalities than with text"
        " alone: −0.400 [−0."
    )
    assert said[0].endswith("one of 2 slices looked at.")


def test_a_slice_without_anyone_positive_has_no_sensitivity(ill):
    sites = ["x"] * 10 + ["y"] * 10  # all the ill are at y
    report = report_of(*ill, slices={"site": sites}, positive=("ill",))
    x = report["slices"][1]
    assert x["slice"] == "site x" and x["positive"] == 0
    assert x["scores"]["text"]["sensitivity"] == {"value": None, "interval": None}
    json.dumps(report, allow_nan=False)
    assert "— (—)" in page(report)


def test_without_positive_classes_only_accuracy_is_told(ill):
    report = report_of(*ill, slices={"site": SITES})
    assert {*report["slices"][0]["scores"]["text"]} == {"accuracy"}
    assert "positive" not in report["slices"][0]
    assert "For whom?" not in page(report_of(*ill)) and "For whom?" in page(report)


def test_slices_speak_of_the_compared_rows_only(table, choice):
    """Row 3 has no sound, so it was not compared."""
    values = ["odd" if k == 3 else "even" for k in range(40)]
    report = report_of(table, choice, slices={"kind": values})
    assert [(s["slice"], s["n"]) for s in report["slices"]] == [("all", 39), ("kind even", 39)]


@pytest.fixture(scope="module")
def learner(synthetic):
    """Return a table that takes more than a few rows to learn, and what choosing found."""
    table = synthetic(400, ((-0.5, -0.5), (0.5, 0.5)), dims=(40, 40), groups=np.arange(400) // 2)
    table = replace(table, labels=torch.arange(400) // 2 % 2)
    features = {m: x.clone() for m, x in table.features.items()}
    for x in features.values():
        x[:, 0] += torch.where(table.labels == 1, 0.9, -0.9)
    table = replace(table, features=features)
    return table, choose(table, splits=4, repeats=1, device="cpu", progress=False)


def test_the_learning_curve_grows_with_rows(learner):
    table, choice = learner
    curve = learning_curve(table, choice, device="cpu")
    rows, scores = zip(*((p["rows"], p["score"]) for p in curve), strict=True)
    assert len(curve) == len(SHARES) + 1 and list(rows) == sorted(rows)
    # three quarters of each share are not tested
    assert rows[:3] == pytest.approx([300 * s for s in SHARES], rel=0.15) and rows[3] == 300
    assert scores[3] == pytest.approx(choice.scores[choice.winner].mean())
    assert scores[3] > scores[0] + 0.05 and 0.5 < scores[0] < 1
    assert curve == learning_curve(table, choice, device="cpu")


def test_the_learning_curve_learns_nothing_of_a_tested_group(learner, monkeypatch):
    table, choice = learner
    seen, real = [], reporting.answers_about

    def spy(part, learnt, test, methods, *rest):
        seen.append((learnt, test, methods))
        return real(part, learnt, test, methods, *rest)

    monkeypatch.setattr(reporting, "answers_about", spy)
    learning_curve(table, choice, device="cpu")
    assert len(seen) == 4 * len(SHARES)
    for learnt, test, methods in seen:
        assert not {*table.groups[learnt.numpy()]} & {*table.groups[test.numpy()]}
        assert methods == [choice.winner]
    for fold in range(4):  # a larger share holds the smaller ones
        small, middle, large = (seen[fold + 4 * k][0] for k in range(3))
        assert (small <= middle).all() and (middle <= large).all()


def test_shares_that_would_lose_a_class_are_passed_over(synthetic):
    table = synthetic(60, ((-1, -1),) * 14 + ((1, 1),))
    table = replace(table, labels=(table.labels == 14).long(), classes=("a", "b"))  # four are b
    choice = choose(table, **QUICK)
    curve = learning_curve(table, choice, device="cpu")
    assert 1 <= len(curve) < len(SHARES) + 1 and curve[-1]["rows"] == choice.n_train


def test_a_learning_curve_of_numbers(priced):
    table, choice = priced
    curve = learning_curve(table, choice, device="cpu")
    assert curve[-1]["score"] == pytest.approx(choice.scores[choice.winner].mean())
    assert curve[0]["score"] < curve[-1]["score"] <= 1


def test_a_report_holds_no_number_that_json_lacks(table, choice, priced):
    for part in ((table, choice), priced):
        ages = [str(k) if k % 3 else "" for k in range(len(part[0]))]
        report = report_of(*part, slices={"age": ages})
        assert json.loads(json.dumps(report, allow_nan=False))["winner"] == report["winner"]


def test_a_page_asks_no_other_host(table, choice):
    text = page(report_of(table, choice, slices={"site": ["x", "y"] * 20}))
    links = re.findall(r"""(?:https?:)?//[\w.-]+[^\s"'<>)]*""", text)
    assert {*links} <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}
    assert not re.search(r"<(script|iframe|object|embed|form|img)\b|@import|url\((?!.?data:)", text)
    assert re.findall(r'<link [^>]*href="([^"]*)"', text) == ["data:,"]


def test_the_page_escapes_names_and_details(table, choice):
    evil = "<img src=x onerror=alert(1)>"
    faults = Faults()
    faults.note([Problem(2, evil, "missing picture", f"{evil}.jpg & more")])
    faults.remarks.append(f"Columns not read: {evil}.")
    named = replace(table, classes=(evil, "b"))
    report = report_of(named, choice, faults, {evil: [evil, "y"] * 20}, evil, (evil,))
    text = page(report)
    assert "<img" not in text and text.count("&lt;img src=x onerror=alert(1)&gt;") >= 7
    assert "&amp; more" in text


def test_the_page_shows_a_hundred_faults_and_counts_the_rest(table, choice):
    faults = Faults()
    faults.note(Problem(r + 2, "image", "missing picture", f"{r}.jpg") for r in range(1130))
    report = report_of(table, choice, faults)
    text = page(report)
    assert "1,130 faulty rows were left out" in text and "… and 1,030 more." in text
    assert ">99.jpg<" in text and ">100.jpg<" not in text
    assert report["problems"]["total"] == 1130 and len(report["problems"]["first"]) == 1000
    assert "No row was faulty" in page(report_of(table, choice))


def test_the_page_says_which_decision_its_labels_follow(table, choice):
    assert "share, so that rare classes" in page(report_of(table, choice))
    likeliest = page(report_of(table, choice, decision="likeliest"))
    assert "The label is the class of the highest probability." in likeliest


def test_the_page_repeats_the_words_and_the_figures(table, choice):
    report = report_of(table, scored(choice, STEADY))
    text = page(report)
    for sentence in report["words"]:
        assert f"<p>{sentence}</p>" in text
    assert text.count('class="dot"') == len(choice.methods) + len(report["worth"])
    assert "<td>0.750</td>" in text  # the learning curve's end
    assert text.count("<h1>") == 1 and 'lang="en"' in text and "None" not in text
    assert text == page(report_of(table, scored(choice, STEADY)))


def test_settings_are_kept_and_nothing_of_the_machine(table, choice):
    report = report_of(table, choice, seed=3, splits=2)
    assert report["settings"] == {"decision": "balanced", "seed": 3, "splits": 2}
    assert report["strengths"] == choice.strengths and report["curve"] == CURVE


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("image", "picture alone"),
        ("audio", "sound alone"),
        ("early", "early fusion (one head)"),
        ("late without image", "late fusion (average of opinions) without picture"),
        ("product without text", "late fusion (product of opinions) without text"),
    ],
)
def test_methods_have_names_that_a_person_reads(name, called):
    assert title(name, methods_of(NAMES)[name]) == called


def test_modalities_have_names_that_a_person_reads():
    assert [spoken(m) for m in ("text", "image", "audio", "numbers")] == [
        "text",
        "picture",
        "sound",
        "numbers",
    ]
