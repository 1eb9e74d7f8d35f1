import inspect
import math
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmtutor.fusion import decision

CONFIDENT = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
DOUBTFUL = torch.tensor([[0.5, 0.5], [0.6, 0.4]])
PROBS = {"image": CONFIDENT, "text": DOUBTFUL}
NOBODY = {m: torch.zeros(2, dtype=torch.bool) for m in PROBS}
ADDITIVE = {
    frozenset(): 0.0,
    frozenset(["image"]): 0.7,
    frozenset(["text"]): 0.3,
    frozenset(PROBS): 1.0,
}

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def ask(name: str, probs: dict[str, torch.Tensor], present=None):
    """Call a rule with further arguments for whatever modalities there are."""
    weights = {m: 1 / (i + 2) for i, m in enumerate(probs)}
    known = {
        "weights": weights,
        "reliability": weights,
        "measure": decision.lambda_measure(weights),
    }
    rule = getattr(decision, name)
    named = [p for p in inspect.signature(rule).parameters if p in known]
    return rule(probs, **{n: known[n] for n in named}, present=present)


RULES = [
    "average",
    "weighted_vote",
    "majority_vote",
    "product_rule",
    "log_linear_pool",
    "dempster_shafer",
    "choquet",
    "sugeno",
]
RULES += ["fuzzy_rules", "conflict", "trust"]


def test_average_is_the_mean_opinion_by_hand():
    out = decision.average({"image": CONFIDENT, "text": DOUBTFUL})
    torch.testing.assert_close(out, torch.tensor([[0.7, 0.3], [0.4, 0.6]]))


def test_average_asks_only_those_who_are_there():
    present = {"image": torch.tensor([True, False]), "text": torch.tensor([False, False])}
    out = decision.average({"image": CONFIDENT, "text": DOUBTFUL}, present)
    torch.testing.assert_close(out, torch.tensor([[0.9, 0.1], [0.5, 0.5]]))


def test_average_keeps_half_precision():
    out = decision.average({"image": CONFIDENT.bfloat16(), "text": DOUBTFUL.bfloat16()})
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(
        out.float(), torch.tensor([[0.7, 0.3], [0.4, 0.6]]), atol=5e-3, rtol=0
    )


def test_weights_have_any_scale_and_count_only_for_those_present():
    expected = torch.tensor([[0.8, 0.2], [0.3, 0.7]])  # (3 p + q) / 4
    torch.testing.assert_close(decision.weighted_vote(PROBS, {"image": 3, "text": 1}), expected)
    torch.testing.assert_close(
        decision.weighted_vote(PROBS, {"image": 30.0, "text": 10.0}), expected
    )
    only_text = {"image": torch.tensor([True, False])}
    out = decision.weighted_vote(PROBS, {"image": 1.0, "text": 0.0}, only_text)
    # text has no weight: uniform
    torch.testing.assert_close(out, torch.tensor([[0.9, 0.1], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({"image": 0.0, "text": 0.0}, ValueError, "all zero"),
        ({"image": 1.0, "text": -0.1}, ValueError, r"weights\['text'\] is -0.1.*0 or more"),
        ({"image": math.nan, "text": 1.0}, ValueError, r"weights\['image'\] is nan"),
        ({"image": math.inf, "text": 1.0}, ValueError, r"weights\['image'\] is inf.*finite"),
        ({"image": 1.0}, KeyError, r"weights lacks \['text'\]"),
        ({"image": 1.0, "text": 1.0, "lidar": 1.0}, KeyError, r"weights names unknown \['lidar'\]"),
    ],
)
def test_weights_that_cannot_be_are_named(weights, error, words):
    with pytest.raises(error, match=words):
        decision.weighted_vote(PROBS, weights)


@pytest.mark.parametrize("rule", [decision.dempster_shafer, decision.conflict])
@pytest.mark.parametrize(
    ("reliability", "error", "words"),
    [
        ({"image": 1.1, "text": 0.5}, ValueError, r"reliability\['image'\] is 1.1.*from 0 to 1"),
        ({"image": 0.5, "text": -1e-9}, ValueError, r"reliability\['text'\]"),
        ({"image": 0.5, "text": math.nan}, ValueError, r"reliability\['text'\] is nan"),
        ({"text": 0.5}, KeyError, r"reliability lacks \['image'\]"),
        ({"image": 0.5, "text": 0.5, "lidar": 0.5}, KeyError, r"unknown \['lidar'\]"),
    ],
)
def test_reliability_that_cannot_be_is_named(rule, reliability, error, words):
    with pytest.raises(error, match=words):
        rule(PROBS, reliability)


@pytest.mark.parametrize(
    ("densities", "words"),
    [
        ({}, "densities is empty"),
        ({"image": 0.0, "text": 0.0}, "admit no λ-measure"),
        ({"image": 0.5}, "admit no λ-measure"),
        ({"image": 0.5, "text": 0.0}, "expected two positive ones, or one equal to 1"),
        ({"image": 1.2, "text": 0.1}, r"densities\['image'\] is 1.2"),
        ({"image": -0.2, "text": 0.1}, r"densities\['image'\] is -0.2"),
        ({"image": math.nan, "text": 0.1}, r"densities\['image'\] is nan"),
        ({"image": 1e-300, "text": 1e-300}, "too near 0"),
    ],
)
def test_densities_without_a_lambda_measure_are_refused(densities, words):
    for function in (decision.lambda_measure, decision.sugeno_lambda):
        with pytest.raises(ValueError, match=words):
            function(densities)


@pytest.mark.parametrize("rule", [decision.choquet, decision.sugeno])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({frozenset(["text"]): None}, ValueError, r"measure lacks the set \['text'\].*4 subsets"),
        ({frozenset(PROBS): None}, ValueError, r"measure lacks the set \['image', 'text'\]"),
        ({frozenset(["text"]): 1.1}, ValueError, r"numbers in \[0, 1\] that never fall"),
        ({frozenset(PROBS): 0.6}, ValueError, "never fall when a set grows"),
        ({frozenset(["text"]): math.nan}, ValueError, "measure is none"),
        ({frozenset(["text"]): -0.1}, ValueError, "measure is none"),
        ({frozenset(PROBS): 0.9}, ValueError, r"everybody 0.9, expected 0 and 1"),
        ({frozenset(): 0.1}, ValueError, r"nobody 0.1"),
        ({frozenset(["lidar"]): 0.1}, KeyError, r"unknown \['lidar'\]"),
    ],
)
def test_what_is_no_measure_is_refused(rule, change, error, words):
    assert torch.isfinite(rule(PROBS, ADDITIVE)).all()
    measure = {s: worth for s, worth in {**ADDITIVE, **change}.items() if worth is not None}
    with pytest.raises(error, match=words):
        rule(PROBS, measure)


def test_nobody_need_not_be_listed_in_a_measure():
    without = {s: worth for s, worth in ADDITIVE.items() if s}
    torch.testing.assert_close(
        decision.choquet(PROBS, without), decision.choquet(PROBS, ADDITIVE), rtol=0, atol=0
    )


def test_more_than_sixteen_modalities_have_too_many_coalitions():
    many = {f"m{i}": CONFIDENT for i in range(17)}
    with pytest.raises(ValueError, match="17 modalities have 131072 subsets, expected at most 16"):
        decision.lambda_measure(dict.fromkeys(many, 0.1))
    for rule in (decision.choquet, decision.sugeno):
        with pytest.raises(ValueError, match=r"17 modalities.*at most 16"):
            rule(many, {})
    sixteen = decision.lambda_measure({f"m{i}": 0.1 for i in range(16)})
    assert len(sixteen) == 2**16
    torch.testing.assert_close(
        decision.choquet({f"m{i}": CONFIDENT for i in range(16)}, sixteen), CONFIDENT
    )


@pytest.mark.parametrize(
    "prior",
    [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], [0.3, 0.3, 0.4], [[0.5, 0.5]], [0.0, 0.0]],
    ids=str,
)
def test_a_prior_that_is_no_distribution_is_refused(prior):
    with pytest.raises(ValueError, match=r"prior, of shape .*, is not 2 numbers ≥ 0 with sum 1"):
        decision.product_rule(PROBS, torch.tensor(prior))


def test_nobody_present_leaves_the_prior_or_nothing_known():
    prior = torch.tensor([0.8, 0.2])
    torch.testing.assert_close(decision.product_rule(PROBS, prior, NOBODY), prior.expand(2, 2))
    impossible = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(
        decision.product_rule(PROBS, impossible, NOBODY), impossible.expand(2, 2)
    )
    for name in RULES[:8]:
        torch.testing.assert_close(ask(name, PROBS, NOBODY), torch.full((2, 2), 0.5))
    assert (ask("conflict", PROBS, NOBODY) == 0).all()
    assert all((t == 0).all() for t in ask("trust", PROBS, NOBODY).values())


def test_a_prior_of_one_witness_changes_nothing_and_of_two_is_counted_once():
    prior = torch.tensor([0.8, 0.2])
    torch.testing.assert_close(decision.product_rule({"image": CONFIDENT}, prior), CONFIDENT)
    both = torch.tensor([[0.45 / 0.8, 0.05 / 0.2], [0.12 / 0.8, 0.32 / 0.2]])
    torch.testing.assert_close(
        decision.product_rule(PROBS, prior), both / both.sum(1, keepdim=True)
    )


def test_one_witness_has_no_conflict_and_two_that_exclude_each_other_nothing_else():
    one_hot = {"image": torch.tensor([[1.0, 0.0]]), "text": torch.tensor([[0.0, 1.0]])}
    sure = {"image": 1.0, "text": 1.0}
    assert decision.conflict(one_hot, sure).tolist() == [1.0]
    assert decision.conflict(one_hot, sure, {"text": torch.tensor([False])}).tolist() == [0.0]
    torch.testing.assert_close(
        decision.conflict(one_hot, {"image": 0.5, "text": 0.5}), torch.tensor([0.25])
    )


@pytest.mark.parametrize("name", RULES)
def test_opinions_of_another_shape_or_kind_are_named(name):
    with pytest.raises(ValueError, match=r"text.*\(2, 3\).*\(2, 2\)"):
        ask(name, {"image": CONFIDENT, "text": torch.full((2, 3), 1 / 3)})
    with pytest.raises(ValueError, match=r"image.*\(2,\)"):
        ask(name, {"image": torch.ones(2), "text": torch.ones(2)})
    with pytest.raises(TypeError, match=r"text.*int64.*floating point"):
        ask(name, {"image": CONFIDENT, "text": torch.tensor([[1, 0], [0, 1]])})
    with pytest.raises(ValueError, match=r"text.*no probabilities"):
        ask(name, {"image": CONFIDENT, "text": CONFIDENT + 0.01})
    with pytest.raises(KeyError, match="lidar"):
        ask(name, PROBS, {"lidar": torch.ones(2, dtype=torch.bool)})


@pytest.mark.parametrize("name", RULES)
def test_an_empty_batch_has_an_empty_answer(name):
    out = ask(name, {m: p[:0] for m, p in PROBS.items()})
    out = out if isinstance(out, dict) else {"all": out}
    assert all(len(rows) == 0 for rows in out.values())


class Counting(TorchDispatchMode):
    """Counts the operations that reach torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func] += 1
        return func(*args, **(kwargs or {}))


def operations(name: str, samples: int, classes: int) -> Counter:
    generator = torch.Generator().manual_seed(samples)
    probs = {
        f"m{i}": torch.rand(samples, classes, generator=generator).softmax(1) for i in range(5)
    }
    present = {f"m{i}": torch.rand(samples, generator=generator) < 0.8 for i in range(5)}
    with Counting() as counting:
        ask(name, probs, present)
    return counting.calls


@pytest.mark.parametrize("name", RULES)
def test_the_work_is_done_by_as_many_operations_for_ten_samples_as_for_a_thousand(name):
    few, many = operations(name, 10, 3), operations(name, 1000, 10)
    assert sum(few.values()) > 5
    assert few == many, {str(f): (few[f], many[f]) for f in few | many if few[f] != many[f]}


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_half_precision_on_cuda_is_near_single_precision_on_the_cpu(name, dtype):
    generator = torch.Generator().manual_seed(0)
    probs = {
        f"m{i}": torch.randn(64, 10, generator=generator).mul(2).softmax(1).to(dtype)
        for i in range(5)
    }
    present = {f"m{i}": torch.rand(64, generator=generator) < 0.7 for i in range(5)}
    exact = {m: p.float() / p.float().sum(1, keepdim=True) for m, p in probs.items()}
    ours = ask(
        name, {m: p.cuda() for m, p in probs.items()}, {m: t.cuda() for m, t in present.items()}
    )
    theirs = ask(name, exact, present)
    pairs = (
        zip(ours.values(), theirs.values(), strict=True)
        if isinstance(ours, dict)
        else [(ours, theirs)]
    )
    for a, b in pairs:
        assert a.is_cuda and torch.isfinite(a).all()
        torch.testing.assert_close(a.float().cpu(), b, rtol=0, atol=6 * torch.finfo(dtype).eps)


def test_coalitions_are_looked_up_by_name_not_by_place():
    """Three modalities in another order than the measure's: p = .2, .5, .9 with worths set by hand
    for class 0."""
    worth = {"a": 0.1, "b": 0.2, "c": 0.3, "ab": 0.4, "ac": 0.5, "bc": 0.8, "abc": 1.0}
    measure = {frozenset(s): w for s, w in worth.items()}
    p = {"c": 0.9, "a": 0.2, "b": 0.5}
    probs = {m: torch.tensor([[x, 1 - x]], dtype=torch.float64) for m, x in p.items()}
    one = (0.9 - 0.5) * 0.3 + (0.5 - 0.2) * 0.8 + 0.2  # c, then bc, then all
    other = (0.8 - 0.5) * 0.1 + (0.5 - 0.1) * 0.4 + 0.1  # a, then ab, then all
    expected = torch.tensor([[one, other]], dtype=torch.float64) / (one + other)
    torch.testing.assert_close(decision.choquet(probs, measure), expected)
    most = torch.tensor(
        [[max(0.3, min(0.5, 0.8), 0.2), max(0.1, min(0.5, 0.4), 0.1)]], dtype=torch.float64
    )
    torch.testing.assert_close(decision.sugeno(probs, measure), most / most.sum())


def test_equal_support_of_many_modalities_is_a_tie_though_their_sums_round_apart():
    """Half of 200 modalities say of class 0 what the other half, in another order, say of class 1:
    one vote each, one mean each, and the sums differ in their last digits."""
    generator = torch.Generator().manual_seed(0)
    sure = 0.5 + 0.5 * torch.rand(100, 50, generator=generator)
    mirrored = sure[torch.randperm(100, generator=generator)]
    first = torch.cat([sure, 1 - mirrored])
    probs = {str(m): torch.stack([p, 1 - p], 1) for m, p in enumerate(first)}
    support = torch.stack(list(probs.values())).sum(0)
    assert (support[:, 1] > support[:, 0]).any()
    assert bool((decision.majority_vote(probs).argmax(1) == 0).all())
