"""Choosing on made-up features: who wins, what is called real, and that nobody is judged on what he
learnt from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmtutor.choosing import nested as choosing
from mmtutor.choosing.grouped import GroupedSamples, TooFewSamples
from mmtutor.choosing.heads import calibrate, fit_head
from mmtutor.choosing.nested import choose
from mmtutor.evaluation import expected_calibration_error, folds, grouped_split, log_loss, macro_f1

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")

METHODS = ("text", "image", "early", "late")
COMPLEMENTARY = ((-1, -1), (-1, 1), (1, -1), (1, 1))
"""Four classes: the text tells the first bit, the picture the second."""


def quick(table, **options):
    return choose(
        table, **{"splits": 3, "repeats": 1, "device": "cpu", "progress": False, **options}
    )


@pytest.fixture(scope="module")
def both_needed(synthetic):
    return quick(synthetic(n=160, where=COMPLEMENTARY, noise=0.7), repeats=2)


def test_fusion_wins_where_each_modality_knows_half(both_needed):
    assert both_needed.methods == METHODS and both_needed.winner in ("early", "late")
    comparison = both_needed.against(both_needed.winner, both_needed.best_single)
    assert comparison.low > 0 and comparison.difference > 0.2
    assert both_needed.scores["text"].mean() < 0.5 < both_needed.scores[both_needed.winner].mean()


def test_the_one_modality_that_knows_wins(synthetic):
    for k, m in enumerate(("text", "image")):
        where = [[0, 0], [0, 0]]
        where[0][k], where[1][k] = -2, 2
        choice = quick(synthetic(n=60, where=where))
        assert choice.best_single == m
        assert (
            choice.scores[m].mean() > 0.9 > choice.scores["image" if m == "text" else "text"].mean()
        )


def test_of_equal_methods_the_simpler_wins(both_needed):
    equal = replace(both_needed, scores=dict.fromkeys(METHODS, np.array([0.5, 0.6])))
    assert equal.winner == "text" and equal.best_single == "text"
    better = replace(equal, scores={**equal.scores, "late": np.array([0.6, 0.6])})
    assert better.winner == "late"


def test_a_decision_that_is_none_is_refused(synthetic):
    with pytest.raises(ValueError, match="unknown decision 'likelyest'; known: balanced"):
        quick(synthetic(n=30), decision="likelyest")


def test_nothing_is_real_in_noise(synthetic):
    """Of eight tables of noise hardly one may show a gain of fusion whose interval lies above 0."""
    real = 0
    for seed in range(8):
        choice = quick(synthetic(n=60, where=((0, 0), (0, 0)), seed=seed), repeats=2)
        if choice.winner not in ("text", "image"):
            real += choice.against(choice.winner, choice.best_single).low > 0
    assert real <= 1


def test_answers_scores_and_sizes_belong_together(both_needed):
    c = both_needed
    assert c.compared.tolist() == list(range(160)) and c.n_test == pytest.approx(160 / 3)
    assert c.n_train == pytest.approx(320 / 3)
    y = torch.arange(160) % 4
    for m in METHODS:
        assert c.answers[m].shape == (2, 160, 4) and not c.answers[m].isnan().any()
        assert torch.allclose(c.answers[m].sum(2), torch.ones(2, 160), atol=1e-5)
        assert len(c.scores[m]) == 6
        # folds are nearly equal in size and classes, so the mean over them is nearly the score of
        # all answers
        whole = np.mean([macro_f1(a.argmax(1), y) for a in c.answers[m]])
        assert c.scores[m].mean() == pytest.approx(whole, abs=0.05)
    assert set(c.strengths) == {"text", "image", "early"}
    assert c.interval("late").low < c.scores["late"].mean() < c.interval("late").high


def test_quality_is_of_answers_calibrated_on_the_other_folds(both_needed):
    """The first repeat, fold by fold."""
    y = torch.arange(160) % 4
    for m in METHODS:
        q = both_needed.answers[m][0]
        probs = torch.zeros(160, 4, dtype=torch.float64)
        for train, test in list(folds(y, np.arange(160), splits=3, repeats=2, seed=0))[:3]:
            probs[test] = calibrate(q[train], y[train])(q[test])
        assert both_needed.quality[m]["log_loss"] == pytest.approx(log_loss(probs, y))
        assert both_needed.quality[m]["ece"] == pytest.approx(expected_calibration_error(probs, y))
    assert both_needed.quality["early"]["log_loss"] < 0.9 * np.log(4), (
        "better than the frequencies of the classes"
    )


def test_a_likeliest_decision_is_scored_by_calibrated_probabilities(synthetic):
    """Four of five posts are of one class: what they say for the other must outweigh that, so it is
    said less often."""
    table = synthetic(n=200, where=((-1, -1), (-1, -1), (-1, -1), (-1, -1), (1, 1)), noise=2.0)
    table = replace(table, labels=(table.labels == 4).long(), classes=("a", "b"))
    balanced, likeliest = quick(table, repeats=2), quick(table, repeats=2, decision="likeliest")
    for m in METHODS:
        assert torch.equal(balanced.answers[m], likeliest.answers[m])
        assert torch.equal(balanced.guesses[m], balanced.answers[m].argmax(2))
        assert likeliest.guesses[m].shape == (2, 200)
        assert likeliest.guesses[m].sum() < balanced.guesses[m].sum()
        hits = [(c.guesses[m] == table.labels).double().mean() for c in (balanced, likeliest)]
        assert hits[1] > hits[0]
    test = list(folds(table.labels, table.groups, splits=3, repeats=2, seed=0))[4][1]
    guess = likeliest.guesses["early"][1, test]
    assert likeliest.scores["early"][4] == pytest.approx(macro_f1(guess, table.labels[test]))


def test_same_seed_same_choice(synthetic):
    table = synthetic(n=48)
    one, two, other = quick(table), quick(table), quick(table, seed=1)
    for m in METHODS:
        assert torch.equal(one.answers[m], two.answers[m])
    assert one.calibrations == two.calibrations and one.strengths == two.strengths
    assert not torch.equal(one.answers["text"], other.answers["text"])


def watched(table: GroupedSamples, monkeypatch) -> list[tuple[str, set[int]]]:
    """Record what each fit and each prediction sees, as ("fit" or "predict", positions)."""
    known = {
        (m, x.numpy().tobytes()): i
        for m, table_of_m in table.features.items()
        for i, x in enumerate(table_of_m)
        if table.present[m][i]
    }
    seen = []

    def rows(samples) -> set[int]:
        m = next(iter(samples.features))
        return {known[m, x.numpy().tobytes()] for x in samples.features[m]}

    fit_head, predict = choosing.fit_head, choosing.predict

    def fit(samples, *others):
        seen.append(("fit", rows(samples)))
        return fit_head(samples, *others)

    def answer(model, samples):
        seen.append(("predict", rows(samples)))
        return predict(model, samples)

    monkeypatch.setattr(choosing, "fit_head", fit)
    monkeypatch.setattr(choosing, "predict", answer)
    return seen


def test_nothing_is_fitted_or_chosen_on_a_group_that_is_tested(synthetic, monkeypatch):
    """Groups of two or three posts of mixed kinds: a text of a tested group must not be learnt from
    either."""
    n = 90
    groups = np.arange(n) // 5 * 2 + (np.arange(n) % 5 > 2)
    lacking = [("image", i) for i in range(0, n, 4)] + [
        ("text", i) for i in range(2, n, 9) if i % 4
    ]
    table = synthetic(n=n, groups=groups, lacking=lacking)
    seen = watched(table, monkeypatch)
    choice = quick(table)
    rows = table.having(("text", "image")).nonzero().flatten()
    assert torch.equal(rows, choice.compared) and len(rows) < n
    plan = [
        set(rows[test].tolist())
        for _, test in folds(table.labels[rows], table.groups[rows], 3, 1, 0)
    ]
    assert set.union(*plan) == set(rows.tolist())
    alone = 0
    for test in plan:
        tested = set(groups[list(test)])
        for head in (("text",), ("image",), ("text", "image")):
            learnt, here = set(), seen[: seen.index(("predict", test)) + 1]
            del seen[: len(here)]
            for kind, posts in here[:-1]:
                assert not tested & set(groups[list(posts)]), "fitted or chosen on a tested group"
                if kind == "fit":
                    learnt = posts
                else:
                    assert not set(groups[list(posts)]) & set(groups[list(learnt)]), (
                        "chosen on what was learnt"
                    )
            able = set((table.having(head)).nonzero().flatten().tolist())
            assert learnt == {i for i in able if groups[i] not in tested}, (
                "the head learns from all others that it can"
            )
            alone += len(learnt - set(rows.tolist()))
    assert seen == [] and alone > 0, "singles learnt from posts that have nothing else"


def test_without_posts_that_have_both_the_commoner_modality_is_scored_alone(synthetic):
    lacking = [("image", i) for i in range(40)] + [("text", i) for i in range(40, 60)]
    choice = quick(synthetic(n=60, lacking=lacking))
    assert choice.methods == ("text",) == (choice.winner,) == (choice.best_single,)
    assert choice.compared.tolist() == list(range(40)) and set(choice.strengths) == {"text"}
    only_pictures = quick(synthetic(n=40, lacking=[("text", i) for i in range(40)]))
    assert only_pictures.methods == ("image",)


def test_ten_posts_are_too_few_and_the_scarce_classes_are_named(synthetic):
    with pytest.raises(
        TooFewSamples,
        match=r"8 samples are too few .*of \{'a': 4, 'b': 4\}.* at least 5 ",
    ):
        quick(synthetic(n=8), splits=5)
    groups = np.arange(60)
    groups[1::2] = 1  # all of class b are reposts of each other
    with pytest.raises(TooFewSamples, match=r"of \{'b': 1\}"):
        quick(synthetic(n=60, groups=groups))
    assert quick(synthetic(n=20), splits=2).scores["text"].shape == (2,)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"splits": 1}, "splits must be a whole number of 2 or more"), ({"repeats": 0}, "repeats")],
)
def test_impossible_plans_are_told(synthetic, options, words):
    with pytest.raises(
        TooFewSamples, match=f"cannot be cut into {options.get('splits', 3)} folds: .*{words}"
    ):
        quick(synthetic(n=20), **options)


def test_a_fold_that_takes_a_whole_class_away_is_told(synthetic, monkeypatch):
    """Stratified grouped folds can do that where groups are few and mixed."""
    test = np.arange(1, 20, 2)
    monkeypatch.setattr(choosing, "folds", lambda *a, **k: [(np.arange(0, 20, 2), test)])
    with pytest.raises(TooFewSamples, match=r"a fold holds all samples of \['b'\]"):
        quick(synthetic(n=20))


def test_of_many_posts_a_sample_of_whole_groups_takes_part(synthetic):
    groups = np.arange(300) // 3
    table = synthetic(n=300, groups=groups)
    choice = quick(table, most=60)
    chosen = groups[choice.compared.numpy()]
    assert len(choice.compared) == 60 and all((chosen == g).sum() == 3 for g in np.unique(chosen))
    assert not np.array_equal(choice.compared, quick(table, most=60, seed=1).compared)
    assert chosen.max() > 60, "drawn from everywhere"
    assert len(quick(table, most=300).compared) == 300


def test_a_rare_class_still_fills_the_folds_of_a_sample(synthetic):
    """Every 50th post is of class c: a sample of 40 would hold about one, three are needed."""
    table = synthetic(n=300)
    labels = table.labels.clone()
    labels[::50] = 2
    rare = replace(table, labels=labels, classes=("a", "b", "c"))
    for seed in range(3):
        choice = quick(rare, most=40, seed=seed)
        assert (labels[choice.compared] == 2).sum() >= 3 and len(choice.compared) < 300


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_strength_is_the_one_of_the_lowest_balanced_loss_on_a_quarter_of_the_groups(
    synthetic, noise
):
    """By brute force, each head trained afresh. Class b is three times as frequent and must not
    count more."""
    table = synthetic(n=120, where=((-1, -1), (1, 1), (1, 1), (1, 1)), dims=(20, 3), noise=noise)
    table = replace(
        table, labels=table.labels.clamp(max=1), groups=table.groups // 2, classes=("a", "b")
    )
    rest, part = grouped_split(table.labels, table.groups, fraction=0.25, seed=3)
    train, held = (table.samples(torch.from_numpy(rows), ("text",)) for rows in (rest, part))
    losses = {}
    for strength in choosing.STRENGTHS:
        p = fit_head(train, 2, strength, "cpu")(held.features).log_softmax(1).detach()
        losses[strength] = -np.mean([p[held.labels == c, c].mean() for c in range(2)])
    chosen, head = choosing._strength(table, torch.arange(120), ("text",), 3, "cpu")
    assert losses[chosen] == pytest.approx(min(losses.values()), abs=1e-3)
    assert chosen == (min if noise < 1 else max)(choosing.STRENGTHS), (
        "clear classes want little of it, noise much"
    )
    assert torch.allclose(
        head(held.features), fit_head(train, 2, chosen, "cpu")(held.features), atol=1e-2
    )


def test_where_no_group_can_be_held_out_the_strongest_is_taken(synthetic):
    """One group for each class: a quarter of them would take a class away."""
    table = synthetic(n=8, where=((-1, -1), (1, 1)), dims=(3, 3))
    table = replace(table, groups=table.labels.numpy())
    chosen = choosing._strength(table, torch.arange(8), ("text",), 0, "cpu")
    assert chosen == (max(choosing.STRENGTHS), None)


def test_a_rare_class_counts_in_full_when_strength_is_chosen(synthetic):
    """Where classes weigh alike the best strength is often another one than where posts do, and
    that one is taken."""
    differ = 0
    for seed in range(8):
        table = synthetic(
            n=120, where=((1, 1), *[(-1, -1)] * 5), dims=(40, 3), noise=0.7, seed=seed
        )
        table = replace(table, labels=table.labels.clamp(max=1), classes=("a", "b"))
        rest, part = grouped_split(table.labels, table.groups, fraction=0.25, seed=seed)
        train, held = (table.samples(torch.from_numpy(rows), ("text",)) for rows in (rest, part))
        alike, plain = {}, {}
        for strength in choosing.STRENGTHS:
            right = fit_head(train, 2, strength, "cpu")(held.features).log_softmax(1).detach()
            right = right[torch.arange(len(held)), held.labels]
            alike[strength] = -np.mean([right[held.labels == c].mean() for c in range(2)])
            plain[strength] = -float(right.mean())
        chosen, _ = choosing._strength(table, torch.arange(120), ("text",), seed, "cpu")
        assert alike[chosen] == pytest.approx(min(alike.values()), abs=1e-3)
        other = min(plain, key=plain.get)
        differ += alike[other] > alike[chosen] + 5e-3
    assert differ > 0


def test_too_few_to_choose_a_strength_means_the_strongest(synthetic):
    table = synthetic(n=4)
    for groups in (np.arange(4), np.zeros(4)):  # a class lost from one side; one group only
        learnt = torch.arange(1) if groups.any() else torch.arange(4)
        few = replace(table, groups=groups)
        strongest = (max(choosing.STRENGTHS), None)
        assert choosing._strength(few, learnt, ("text",), 0, "cpu") == strongest


@pytest.mark.parametrize(
    ("tried", "typical"), [((0.5, 0.5, 15.0), 0.5), ((0.5, 15.0, 15.0, 0.5), 7.5**0.5)]
)
def test_the_strength_of_the_final_head_is_the_median_over_the_folds(
    synthetic, monkeypatch, tried, typical
):
    """Of the logarithms; one odd fold does not move it."""
    left = list(tried)
    monkeypatch.setattr(choosing, "_strength", lambda *a: (left.pop(0), None))
    choice = quick(synthetic(n=40).only(["text"]), splits=len(tried))
    assert left == [] and choice.strengths == {"text": pytest.approx(typical)}


THREE = {"names": ("audio", "text", "touch"), "dims": (3, 4, 2), "noise": 0.7}
CORNERS = [(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]


def test_three_modalities_each_with_a_bit_are_best_together(synthetic):
    lacking = [("audio", 3), ("text", 9), ("touch", 9), ("touch", 11)]
    table = synthetic(n=240, where=CORNERS, lacking=lacking, **THREE)
    choice = quick(table)
    assert choice.methods == ("audio", "text", "touch", "early", "late")
    assert choice.singles == ("audio", "text", "touch")
    assert set(choice.strengths) == {"audio", "text", "touch", "early"}
    assert len(choice.compared) == 237 and not set(choice.compared.tolist()) & {3, 9, 11}
    assert choice.scores["early"].mean() > choice.scores[choice.best_single].mean() + 0.3
    mean = sum(choice.answers[m] for m in choice.singles) / 3
    torch.testing.assert_close(choice.answers["late"], mean, atol=1e-6, rtol=0)


def test_a_modality_that_no_sample_has_is_left_out_and_the_others_are_compared(synthetic):
    absent = [("touch", i) for i in range(80)]
    three = synthetic(n=80, where=CORNERS[::2], lacking=absent, **THREE)
    choice = quick(three)
    assert choice.methods == ("audio", "text", "early", "late")
    alone = quick(three.only(["audio", "text"]))
    assert all(torch.equal(choice.answers[m], alone.answers[m]) for m in choice.methods)
