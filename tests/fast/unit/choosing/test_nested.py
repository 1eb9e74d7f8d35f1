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

METHODS = ("text", "image", "early", "late", "product")
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
    assert tuple(both_needed.methods) == METHODS
    assert both_needed.winner in ("early", "late", "product")
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


def test_a_decision_that_is_none_is_refused(synthetic):
    with pytest.raises(ValueError, match="unknown decision 'likelyest'; known: balanced"):
        quick(synthetic(n=30), decision="likelyest")


def test_nothing_is_real_in_noise(synthetic):
    """Of eight tables of noise hardly one may show a gain of fusion whose interval lies above 0."""
    real = 0
    for seed in range(8):
        choice = quick(synthetic(n=60, where=((0, 0), (0, 0)), seed=seed), repeats=2)
        if (best := choice.best()) not in choice.singles:
            real += choice.against(best, choice.best_single).low > 0
    assert real <= 1


def test_answers_scores_and_sizes_belong_together(both_needed):
    c = both_needed
    assert c.compared.tolist() == list(range(160)) and c.n_test == pytest.approx(160 / 3)
    assert c.n_train == pytest.approx(320 / 3)
    y = torch.arange(160) % 4
    for m in METHODS:
        assert c.answers[m].shape == (2, 160, 4) and not c.answers[m].isnan().any()
        assert torch.allclose(c.answers[m].double().sum(2), torch.ones(2, 160).double(), atol=1e-5)
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
    """Four of five samples are of one class: what they say for the other must outweigh that, so it
    is said less often."""
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
        for m in table.modalities
        for i, x in enumerate(table.features[m])
        if table.present[m][i]
    }
    seen = []

    def rows(samples) -> set[int]:
        """Return who these samples are, by whichever modality each of them has."""
        everyone = torch.ones(len(samples), dtype=torch.bool)
        found: list[set[int]] = [set() for _ in range(len(samples))]
        for m, x in samples.features.items():
            for k in (samples.present or {}).get(m, everyone).nonzero().flatten().tolist():
                found[k].add(known[m, x[k].numpy().tobytes()])
        assert all(len(who) == 1 for who in found), "each has something, all of it its own"
        return set().union(*found)

    fit_head, predict = choosing.fit_head, choosing.predict

    def fit(samples, *others, **options):
        seen.append(("fit", rows(samples)))
        return fit_head(samples, *others, **options)

    def answer(model, samples):
        seen.append(("predict", rows(samples)))
        return predict(model, samples)

    monkeypatch.setattr(choosing, "fit_head", fit)
    monkeypatch.setattr(choosing, "predict", answer)
    return seen


@pytest.mark.parametrize("names", [("text", "image"), ("text", "image", "sound")])
def test_nothing_is_fitted_or_chosen_on_a_group_that_is_tested(synthetic, monkeypatch, names):
    """Groups of two or three samples of mixed kinds: a text of a tested group must not be learnt
    from either, nor by a head that hears all modalities or all but one."""
    n = 90
    groups = np.arange(n) // 5 * 2 + (np.arange(n) % 5 > 2)
    lacking = [("image", i) for i in range(0, n, 4)] + [
        ("text", i) for i in range(2, n, 9) if i % 4
    ]
    if "sound" in names:
        lacking += [("sound", i) for i in range(1, n, 11)]
    where = [[-1] * len(names), [1] * len(names)]
    options = {"names": names, "dims": (4, 3, 2)[: len(names)], "where": where}
    table = synthetic(n=n, groups=groups, lacking=lacking, **options)
    seen = watched(table, monkeypatch)
    choice = quick(table)
    rows = table.having(names).nonzero().flatten()
    assert torch.equal(rows, choice.compared) and len(rows) < n
    plan = [
        set(rows[test].tolist())
        for _, test in folds(table.labels[rows], table.groups[rows], 3, 1, 0)
    ]
    assert set.union(*plan) == set(rows.tolist())
    heads = [method.reads for method in choice.methods.values() if method.head]
    assert len(heads) == {2: 3, 3: 7}[len(names)]
    partly = 0
    for test in plan:
        tested = set(groups[list(test)])
        for reads in heads:
            learnt, here = set(), seen[: seen.index(("predict", test)) + 1]
            del seen[: len(here)]
            for kind, samples in here[:-1]:
                assert not tested & set(groups[list(samples)]), "fitted or chosen on a tested group"
                if kind == "fit":
                    learnt = samples
                else:
                    assert not set(groups[list(samples)]) & set(groups[list(learnt)]), (
                        "chosen on what was learnt"
                    )
            able = set(table.having_any(reads).nonzero().flatten().tolist())
            assert learnt == {i for i in able if groups[i] not in tested}, (
                "the head learns from all others that it can"
            )
            whole = set(table.having(reads).nonzero().flatten().tolist())
            partly += len(reads) > 1 and len(learnt - whole)
    assert seen == [] and partly > 0, "early fusion learnt from samples that lack something"


def test_without_samples_that_have_both_the_commoner_modality_is_scored_alone(synthetic):
    lacking = [("image", i) for i in range(40)] + [("text", i) for i in range(40, 60)]
    choice = quick(synthetic(n=60, lacking=lacking))
    assert (*choice.methods,) == ("text",) == (choice.winner,) == (choice.best_single,)
    assert choice.left_out == ("image",)
    assert choice.compared.tolist() == list(range(40)) and set(choice.strengths) == {"text"}
    only_pictures = quick(synthetic(n=40, lacking=[("text", i) for i in range(40)]))
    assert tuple(only_pictures.methods) == ("image",) and only_pictures.left_out == ("text",)


def test_eight_samples_are_too_few_and_the_scarce_classes_are_named(synthetic):
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


def test_of_many_samples_a_part_of_whole_groups_takes_part(synthetic):
    groups = np.arange(300) // 3
    table = synthetic(n=300, groups=groups)
    choice = quick(table, most=60)
    chosen = groups[choice.compared.numpy()]
    assert len(choice.compared) == 60 and all((chosen == g).sum() == 3 for g in np.unique(chosen))
    assert not np.array_equal(choice.compared, quick(table, most=60, seed=1).compared)
    assert chosen.max() > 60, "drawn from everywhere"
    assert len(quick(table, most=300).compared) == 300


def test_a_rare_class_still_fills_the_folds_of_a_sample(synthetic):
    """Every 50th sample is of class c: a sample of 40 would hold about one, three are needed."""
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
    """Where classes weigh alike the best strength is often another one than where samples do, and
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
    assert len(choice.methods) == 3 + 3 + 9 and choice.left_out == ()
    assert choice.singles == ("audio", "text", "touch")
    assert set(choice.strengths) == {n for n, m in choice.methods.items() if m.head}
    assert len(choice.compared) == 237 and not set(choice.compared.tolist()) & {3, 9, 11}
    assert choice.scores["early"].mean() > choice.scores[choice.best_single].mean() + 0.3
    for m in choice.singles:
        assert choice.strengths[f"early without {m}"] == choice.strengths["early"]
        assert choice.without(m) == f"{choice.methods[choice.full].level} without {m}"
        lost = choice.against(choice.full, choice.without(m))
        assert lost.difference > 0.2 and lost.wins == 3, "each bit is missed"


def test_a_modality_that_no_sample_has_is_left_out_and_the_others_are_compared(synthetic):
    absent = [("touch", i) for i in range(80)]
    three = synthetic(n=80, where=CORNERS[::2], lacking=absent, **THREE)
    choice = quick(three)
    assert tuple(choice.methods) == ("audio", "text", "early", "late", "product")
    assert choice.left_out == ("touch",)
    alone = quick(three.only(["audio", "text"]))
    assert all(torch.equal(choice.answers[m], alone.answers[m]) for m in choice.methods)


@pytest.mark.parametrize("level", ["late", "product"])
def test_late_fusion_joins_opinions_brought_to_the_right_confidence_elsewhere(both_needed, level):
    """By brute force, fold by fold of both repeats: each single's opinions calibrated on the other
    folds, without the classes' frequencies, then averaged, or multiplied."""
    y = torch.arange(160) % 4
    plan = list(folds(y, np.arange(160), splits=3, repeats=2, seed=0))
    for number, (others, test) in enumerate(plan):
        parts = []
        for m in ("text", "image"):
            q = both_needed.answers[m][number // 3]
            temperature = calibrate(q[others], y[others]).temperature
            parts.append((q[test].double().log() / temperature).softmax(1))
        joined = parts[0] + parts[1] if level == "late" else parts[0] * parts[1]
        expected = joined / joined.sum(1, keepdim=True)
        found = both_needed.answers[level][number // 3, test].double()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def without_pictures(n: int, pictures: list[int]) -> list[tuple[str, int]]:
    return [("image", i) for i in range(n) if i not in pictures]


@pytest.mark.parametrize("pictures", [[0, 1], [0], [0, 1, 2, 3]])
def test_a_modality_too_rare_to_fill_the_folds_is_left_out_and_named(synthetic, pictures):
    table = synthetic(n=48, lacking=without_pictures(48, pictures))
    choice = quick(table)
    assert choice.left_out == ("image",) and tuple(choice.methods) == ("text",)
    assert choice.compared.tolist() == list(range(48))
    alone = quick(table.only(["text"]))
    assert torch.equal(choice.answers["text"], alone.answers["text"]) and alone.left_out == ()


def test_a_modality_that_just_fills_the_folds_takes_part(synthetic):
    choice = quick(synthetic(n=48, lacking=without_pictures(48, list(range(6)))))
    assert choice.left_out == () and tuple(choice.methods) == METHODS
    assert choice.compared.tolist() == list(range(6))


def test_a_rare_modality_may_stand_in_the_held_out_quarter_only(synthetic):
    """Four pictures, two of them in each fold: for one of these plans both that are left to learn
    from fall into the quarter that a strength is chosen on."""
    table = synthetic(n=24, lacking=without_pictures(24, list(range(4))))
    choice = quick(table, splits=2, seed=4)
    assert choice.left_out == () and not choice.answers["early"].isnan().any()


def test_reposts_do_not_make_a_rare_modality_common(synthetic):
    """Six pictures, but those of each class are reposts of each other."""
    groups = np.arange(48)
    groups[[0, 2, 4]], groups[[1, 3, 5]] = 0, 1
    lacking = without_pictures(48, list(range(6)))
    assert quick(synthetic(n=48, groups=groups, lacking=lacking)).left_out == ("image",)


def test_of_three_the_rare_modality_goes_and_the_common_ones_stay(synthetic):
    rare = [("text", i) for i in range(2, 80)]
    choice = quick(synthetic(n=80, where=CORNERS[::2], lacking=rare, **THREE))
    assert choice.left_out == ("text",)
    assert tuple(choice.methods) == ("audio", "touch", "early", "late", "product")


def test_a_strength_for_all_but_one_is_chosen_where_nobody_asks_for_all(synthetic):
    table = synthetic(n=60, where=CORNERS[::2], **THREE)
    learnt = torch.arange(60) < 45
    test = torch.arange(45, 60)
    method = "early without touch"
    opinions, strengths = choosing.answers_about(table, learnt, test, [method], device="cpu")
    part = table.only(["audio", "text"])
    same, chosen = choosing.answers_about(part, learnt, test, ["early"], device="cpu")
    assert strengths == {method: chosen["early"]}
    torch.testing.assert_close(opinions[method], same["early"], atol=2e-3, rtol=0)


def of_numbers(table: GroupedSamples, noise=0.3, seed=0) -> GroupedSamples:
    """Return the table with a number for a target: what text and picture say, added."""
    g = torch.Generator().manual_seed(seed)
    shown = [x[:, 0].nan_to_num() for x in table.features.values()]
    y = sum(shown) + noise * torch.randn(len(table), generator=g)
    return replace(table, labels=(y - y.mean()) / y.std(), classes=())


def test_numbers_are_learnt_fused_calibrated_and_scored_by_r2(synthetic):
    table = of_numbers(synthetic(n=150, where=((0, 0),), lacking=[("image", 5), ("text", 8)]))
    choice = quick(table, repeats=2)
    assert tuple(choice.methods) == ("text", "image", "early", "late")
    y, n = table.labels[choice.compared], 148
    plan = list(folds(table.strata[choice.compared], table.groups[choice.compared], 3, 2, 0))
    for m, answers in choice.answers.items():
        assert answers.shape == (2, n, 1) and not answers.isnan().any()
        for number, (others, test) in enumerate(plan):
            raw = answers[number // 3]
            line = calibrate(raw[others], y[others])
            guess = line.offset + line.slope * raw[test, 0].double()
            torch.testing.assert_close(choice.guesses[m][number // 3, test], guess)
            truth = y[test].double()
            r2 = 1 - (truth - guess).square().sum() / (truth - truth.mean()).square().sum()
            assert choice.scores[m][number] == pytest.approx(float(r2))
        error = (choice.calibrated[m][0, :, 0] - y).abs().mean()
        assert choice.quality[m] == {"mae": pytest.approx(float(error))}
    assert choice.winner == "early" and choice.scores["early"].mean() > 0.8
    assert choice.scores["text"].mean() < 0.6 and choice.scores["image"].mean() < 0.6
    within = (choice.calibrated["early"][..., 0] - y).abs() < choice.calibrations["early"].spread
    assert within.double().mean() == pytest.approx(0.8, abs=0.02)


def test_late_fusion_of_numbers_is_the_mean_of_calibrated_ones(synthetic):
    table = of_numbers(synthetic(n=60, where=((0, 0),)))
    choice = quick(table)
    mean = (choice.calibrated["text"] + choice.calibrated["image"]) / 2
    torch.testing.assert_close(choice.answers["late"].double(), mean, atol=1e-6, rtol=0)


def test_numbers_of_few_values_can_be_judged_too(synthetic):
    """Stars from one to three: there are no five fifths of them."""
    table = of_numbers(synthetic(n=90, where=((0, 0),)))
    stars = torch.bucketize(table.labels, torch.tensor([-0.4, 0.4])).float() - 1
    choice = quick(replace(table, labels=stars))
    assert choice.left_out == () and choice.scores["early"].mean() > 0.5


def test_too_few_numbers_are_told(synthetic):
    table = of_numbers(synthetic(n=10, where=((0, 0),)))
    with pytest.raises(TooFewSamples, match=r"10 samples are too few .* of the numbers': 2"):
        quick(table)


def test_columns_are_read_as_hats_in_every_head(synthetic):
    """A number that speaks for the class at both its ends: no straight line sees that, hats do."""
    table, g = synthetic(n=160, where=((0, 0), (0, 0))), torch.Generator().manual_seed(1)
    age = torch.randn(160, generator=g) + 3 * (table.labels * (1 - torch.arange(160) // 2 % 2 * 2))
    columns = torch.stack([age, torch.ones(160)], 1)
    features = {"text": table.features["text"], "columns": columns}
    present = {m: torch.ones(160, dtype=torch.bool) for m in features}
    table = GroupedSamples(features, table.labels, table.groups, table.classes, present)
    bent = quick(replace(table, knots={"columns": 5}))
    straight = quick(table)
    for m in ("columns", "early"):
        assert bent.scores[m].mean() > 0.85 > 0.65 > straight.scores[m].mean()
    assert bent.winner == "columns"
