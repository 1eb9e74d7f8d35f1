"""Decision rules against brute force from the definitions: all subsets, exact fractions, joint
tables, peers."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import skfuzzy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mmtutor.fusion import decision

NAMES = ["image", "text", "audio", "lidar"]
ranges = settings(max_examples=60, deadline=None)


def rows(values) -> torch.Tensor:
    return torch.as_tensor(
        values if isinstance(values, torch.Tensor) else np.asarray(values), dtype=torch.float64
    )


def some(
    modalities: int, classes: int, samples: int = 6, seed: int = 0, zeros: bool = False
) -> dict[str, torch.Tensor]:
    """Random opinions in float64; with `zeros`, some classes are excluded and some rows are
    one-hot."""
    rng = np.random.default_rng([seed, modalities, classes])
    probs = {}
    for m in [f"m{i}" for i in range(modalities)] if modalities > 4 else NAMES[:modalities]:
        p = rng.dirichlet(np.ones(classes), samples)
        if zeros:
            p *= rng.random(p.shape) < 0.6
            p[p.sum(1) == 0, rng.integers(classes)] = 1.0
        probs[m] = rows(p / p.sum(1, keepdims=True))
    return probs


def some_absent(probs: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Everybody is there in the first sample, nobody in the last."""
    rng = np.random.default_rng(seed)
    there = {m: torch.tensor(rng.random(len(p)) < 0.6) for m, p in probs.items()}
    for mask in there.values():
        mask[0], mask[-1] = True, False
    return there


def samples_of(probs, present=None):
    """Sample by sample: modality → list of numbers, of those who are there."""
    for b in range(len(next(iter(probs.values())))):
        yield {m: p[b].tolist() for m, p in probs.items() if present is None or bool(present[m][b])}


def close(ours: torch.Tensor, theirs, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(ours.double(), rows(theirs), rtol=rtol, atol=1e-12)


# Dempster and Shafer


def dempster(
    first: dict[frozenset, float], second: dict[frozenset, float]
) -> tuple[dict[frozenset, float], float]:
    """m(A) = Σ_{B∩C=A} m_1(B) m_2(C) / (1 - K), K = Σ_{B∩C=∅} m_1(B) m_2(C), over whatever sets
    have mass."""
    joint: dict[frozenset, float] = {}
    for (b, x), (c, y) in itertools.product(first.items(), second.items()):
        joint[b & c] = joint.get(b & c, 0.0) + x * y
    clash = joint.pop(frozenset(), 0.0)
    return {a: mass / (1 - clash) for a, mass in joint.items()}, clash


def pignistic(masses: dict[frozenset, float], classes: int) -> list[float]:
    return [sum(mass / len(a) for a, mass in masses.items() if c in a) for c in range(classes)]


def by_dempster(
    opinions: dict[str, list], reliability: dict[str, float], classes: int
) -> tuple[list[float], float]:
    """Combine one sample's opinions one after another; return the pignistic probabilities and the
    conflict of all."""
    frame = frozenset(range(classes))
    everything: dict[frozenset, float] = {frame: 1.0}  # nobody has said anything
    kept = 1.0
    for m, p in opinions.items():
        witness = {frozenset([c]): reliability[m] * p[c] for c in range(classes)}
        witness[frame] = witness.get(frame, 0.0) + 1 - reliability[m]
        everything, clash = dempster(everything, witness)
        kept *= 1 - clash
    return pignistic(everything, classes), 1 - kept


def test_the_brute_force_rule_on_sets_of_any_size_is_shafers():
    """m_1: {a,b} .6, frame .4; m_2: {b,c} .7, {a} .3. Then ∅ 0, b .42, a .18 + .12, {b,c} .28;
    nothing is lost."""
    a, b, c = "abc"
    first = {frozenset([a, b]): 0.6, frozenset("abc"): 0.4}
    out, clash = dempster(first, {frozenset([b, c]): 0.7, frozenset([a]): 0.3})
    assert clash == 0
    assert out == pytest.approx(
        {frozenset([b]): 0.42, frozenset([a]): 0.3, frozenset([b, c]): 0.28}
    )


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    ("modalities", "classes"), list(itertools.product([1, 2, 3, 4], [2, 3, 4]))
)
def test_dempster_shafer_is_the_rule_over_all_intersections(modalities, classes, zeros):
    probs = some(modalities, classes, samples=12, zeros=zeros)
    reliability = dict(zip(NAMES[:modalities], (0.9, 0.35, 0.0, 0.999), strict=False))
    for present in (None, some_absent(probs)):
        expected = [
            by_dempster(opinion, reliability, classes) for opinion in samples_of(probs, present)
        ]
        close(decision.dempster_shafer(probs, reliability, present), [p for p, _ in expected])
        close(decision.conflict(probs, reliability, present), [k for _, k in expected])


def test_zadehs_paradox():
    """Two doctors, .99 and .01: both hold b for nearly impossible, and the rule makes it certain;
    conflict .9999."""
    probs = {"a": rows([[0.99, 0.01, 0.0]]), "b": rows([[0.0, 0.01, 0.99]])}
    close(decision.dempster_shafer(probs, {"a": 1.0, "b": 1.0}), [[0.0, 1.0, 0.0]])
    close(decision.conflict(probs, {"a": 1.0, "b": 1.0}), [0.9999])
    doubted = decision.dempster_shafer(probs, {"a": 0.9, "b": 0.9})
    close(
        doubted,
        [by_dempster({m: p[0].tolist() for m, p in probs.items()}, {"a": 0.9, "b": 0.9}, 3)[0]],
    )
    assert doubted[0, 1] < 0.1


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("modalities", [1, 2, 4, 7])
def test_full_reliability_is_the_product_rule(modalities, zeros):
    probs = some(modalities, 4, samples=60, zeros=zeros)
    sure = dict.fromkeys(probs, 1.0)
    for present in (None, some_absent(probs)):
        close(
            decision.dempster_shafer(probs, sure, present),
            decision.product_rule(probs, present=present),
        )
        agreed = [
            sum(math.prod(p) for p in zip(*o.values(), strict=True))
            for o in samples_of(probs, present)
        ]
        agreed = [k if o else 1.0 for k, o in zip(agreed, samples_of(probs, present), strict=True)]
        close(decision.conflict(probs, sure, present), [1 - k for k in agreed])


def test_total_conflict_is_the_limit_of_nearly_total_conflict():
    probs = {
        "a": rows([[1.0, 0.0, 0.0]]),
        "b": rows([[0.0, 1.0, 0.0]]),
        "c": rows([[0.2, 0.3, 0.5]]),
    }
    for sure in ({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": 0.5}):
        assert decision.conflict(probs, sure).item() == 1.0
        nearly = {m: (p + 1e-9) / (1 + 3e-9) for m, p in probs.items()}
        expected, _ = by_dempster({m: p[0].tolist() for m, p in nearly.items()}, sure, 3)
        torch.testing.assert_close(
            decision.dempster_shafer(probs, sure), rows([expected]), rtol=0, atol=1e-7
        )


def test_little_reliability_keeps_its_digits():
    """For r → 0 the answer is 1/C + Σ_m r_m (p_m - 1/C): differences of 1e-9 are still right to six
    digits."""
    probs, r = some(3, 4), 1e-9
    expected = 0.25 + sum(r * (p - 0.25) for p in probs.values())
    out = decision.dempster_shafer(probs, dict.fromkeys(probs, r))
    torch.testing.assert_close((out - 0.25) / r, (expected - 0.25) / r, rtol=0, atol=1e-6)


# The product rule


@pytest.mark.parametrize(("modalities", "classes"), [(2, 2), (3, 3), (4, 2)])
def test_product_rule_is_bayes_on_a_joint_table(modalities, classes):
    """A table p(c, x_1, ..., x_M) with features independent given the class, three values each, and
    uneven classes."""
    rng = np.random.default_rng(1)
    prior, names = rng.dirichlet(np.full(classes, 2.0)), NAMES[:modalities]
    tables = {m: rng.dirichlet(np.ones(3), classes) for m in names}  # p(x_m | c): (C, 3)
    joint = prior.reshape(-1, *[1] * modalities)
    for i, m in enumerate(names):
        joint = joint * tables[m].reshape(classes, *[3 if j == i else 1 for j in range(modalities)])
    assert joint.sum() == pytest.approx(1)
    cells = list(itertools.product(range(3), repeat=modalities))
    # p(c, x_m)
    alone = {
        m: joint.sum(tuple(j + 1 for j in range(modalities) if j != i)) for i, m in enumerate(names)
    }
    probs = {
        m: rows([(alone[m] / alone[m].sum(0))[:, x[i]] for x in cells]) for i, m in enumerate(names)
    }
    for here in itertools.product([True, False], repeat=modalities):
        seen = joint.sum(tuple(i + 1 for i in range(modalities) if not here[i]), keepdims=True)
        full = np.broadcast_to(seen / seen.sum(0), joint.shape)  # p(c | those who are there)
        present = {m: torch.full((len(cells),), h) for m, h in zip(names, here, strict=True)}
        close(
            decision.product_rule(probs, rows(prior), present),
            [full[(slice(None), *x)] for x in cells],
        )


def exact_product(opinion: dict[str, list], prior: list[float], zero: Fraction) -> list[float]:
    """Π p / prior^(M-1) in fractions, each exact zero of an opinion replaced by `zero`."""
    scores = []
    for c, base in enumerate(prior):
        score = Fraction(base) if base else Fraction(0)
        for p in opinion.values():
            score *= (Fraction(p[c]) or zero) / Fraction(base) if base else 0
        scores.append(score)
    return [float(s / sum(scores)) for s in scores]


@pytest.mark.parametrize("prior", [None, [0.5, 0.25, 0.125, 0.125, 0.0]])
def test_forty_modalities_with_tiny_and_zero_probabilities_against_exact_fractions(prior):
    rng = np.random.default_rng(2)
    probs = {}
    for i in range(40):
        p = 10.0 ** rng.uniform(-40, 0, (30, 5))
        p[15:] *= rng.random((15, 5)) < 0.97  # the last samples have vetoes, some in every class
        p[p.sum(1) == 0] = 1.0
        probs[f"m{i}"] = rows(p / p.sum(1, keepdims=True))
    present, base = some_absent(probs), None if prior is None else rows(prior)
    zero = Fraction(1, 10**400)
    expected = [
        exact_product(opinion, prior or [0.2] * 5, zero) for opinion in samples_of(probs, present)
    ]
    close(decision.product_rule(probs, base, present), expected)
    close(
        decision.product_rule({m: p.float() for m, p in probs.items()}, base, present),
        expected,
        rtol=2e-4,
    )
    vetoes = sum(((p == 0) & present[m][:, None]).int() for m, p in probs.items())
    assert vetoes.amin(1).max() > 0, "no sample in which every class is vetoed"


@pytest.mark.parametrize("witnesses", [1, 2, 3])
def test_what_the_prior_excludes_stays_excluded_against_any_number_of_witnesses(witnesses):
    """All name class 2, which cannot be: ε each for 0 and 1, hence ε^M / prior^(M-1)."""
    probs = {m: rows([[0.0, 0.0, 1.0]]) for m in NAMES[:witnesses]}
    left = [0.6 ** (1 - witnesses), 0.4 ** (1 - witnesses)]
    out = decision.product_rule(probs, rows([0.6, 0.4, 0.0]))
    close(out, [[left[0] / sum(left), left[1] / sum(left), 0.0]])


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_a_veto_is_a_number_on_its_way_to_zero(modalities):
    probs = some(modalities, 3, samples=80, zeros=True)
    prior = rows([0.5, 0.3, 0.2])
    out = decision.product_rule(probs, prior)
    errors = []
    for exponent in (3, 6, 12, 30):
        near = [
            exact_product(o, prior.tolist(), Fraction(1, 10**exponent)) for o in samples_of(probs)
        ]
        errors.append(float((out - rows(near)).abs().max()))
    assert errors[0] > errors[1] > errors[2] and errors[-1] < 1e-12
    product = math.prod(probs.values())
    assert (product.sum(1) == 0).any(), "no sample in which every class is vetoed"


# The log-linear pool


def exact_pool(opinion: dict[str, list], weights: dict[str, float], zero: float) -> list[float]:
    """Π p^w in fifty digits, each exact zero of an opinion replaced by `zero`."""
    classes = range(len(next(iter(opinion.values()))))
    scores = [
        mpmath.fprod(mpmath.mpf(p[c] or zero) ** weights[m] for m, p in opinion.items())
        for c in classes
    ]
    return [float(s / mpmath.fsum(scores)) for s in scores]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("modalities", [1, 2, 4])
def test_log_linear_pool_is_the_weighted_geometric_mean_of_its_definition(modalities, zeros):
    """Weights whose sums are exact, so that classes with equal vetoes stay equal."""
    probs = some(modalities, 4, samples=40, zeros=zeros)
    weights = dict(zip(NAMES, (0.5, 2.0, 0.0, 1.25), strict=True))
    weights = {m: weights[m] for m in probs}
    present = some_absent(probs)
    with mpmath.workdps(50):
        zero = mpmath.mpf(10) ** -400
        for there in (None, present):
            expected = [
                exact_pool(o, weights, zero) if any(weights[m] for m in o) else [0.25] * 4
                for o in samples_of(probs, there)
            ]
            close(decision.log_linear_pool(probs, weights, there), expected)


@pytest.mark.parametrize("zeros", [False, True])
def test_log_linear_pool_between_product_and_temperature(zeros):
    """Weights 1 multiply; weights of sum 1 ignore a copy; one weight is one temperature."""
    probs = some(3, 4, samples=60, zeros=zeros)
    present = some_absent(probs)
    ones = dict.fromkeys(probs, 1.0)
    close(
        decision.log_linear_pool(probs, ones, present),
        decision.product_rule(probs, present=present),
    )
    copies = dict.fromkeys(probs, probs["image"])
    close(
        decision.log_linear_pool(copies, {"image": 0.25, "text": 0.25, "audio": 0.5}),
        probs["image"],
    )
    if not zeros:
        one = {"image": probs["image"]}
        close(
            decision.log_linear_pool(one, {"image": 1 / 3}),
            torch.softmax(probs["image"].log() / 3, 1),
        )


# Fuzzy integrals


def subsets(names) -> list[frozenset]:
    return [
        frozenset(s) for size in range(len(names) + 1) for s in itertools.combinations(names, size)
    ]


def some_measure(names, seed: int = 0) -> dict[frozenset, float]:
    """A measure that is neither additive nor a λ-measure: random worths, made to grow with the
    set."""
    rng, measure = np.random.default_rng([7, seed, len(names)]), {}
    for s in subsets(names):
        measure[s] = max([rng.random(), *(measure[s - {m}] for m in s)]) if s else 0.0
    whole = measure[frozenset(names)]
    return {s: worth / whole for s, worth in measure.items()}


def restricted(measure, opinion):
    """μ(A) / μ(present) on the sets of those who are there."""
    whole = measure[frozenset(opinion)]
    return {s: measure[s] / whole for s in subsets(list(opinion))}


def layer_cake(values: dict[str, float], measure) -> float:
    """∫_0^1 μ({m: p_m ≥ t}) dt, the midpoint rule on 20 000 slices."""
    t = (np.arange(20_000) + 0.5) / 20_000
    code = {frozenset(s): measure[frozenset(s)] for s in subsets(list(values))}
    worth = np.zeros_like(t)
    for s, mu in code.items():
        inside = np.all([values[m] >= t for m in s], axis=0) if s else np.ones_like(t, bool)
        outside = (
            np.all([values[m] < t for m in values if m not in s], axis=0)
            if len(s) < len(values)
            else True
        )
        worth += mu * (inside & outside)
    return float(worth.mean())


def thresholds(values: dict[str, float], measure) -> float:
    """Σ over the values v in rising order of (v - the one before) μ({m: p_m ≥ v})."""
    total, before = 0.0, 0.0
    for v in sorted(set(values.values())):
        total += (v - before) * measure[frozenset(m for m in values if values[m] >= v)]
        before = v
    return total


def best_coalition(values: dict[str, float], measure) -> float:
    """sup over all subsets A of min(min_{m∈A} p_m, μ(A))."""
    return max(min(*(values[m] for m in s), measure[s]) for s in subsets(list(values)) if s)


def integral(how, probs, measure, present=None) -> list[list[float]]:
    out, classes = [], next(iter(probs.values())).shape[1]
    for opinion in samples_of(probs, present):
        mu = restricted(measure, opinion) if opinion else {}
        scores = [
            how({m: p[c] for m, p in opinion.items()}, mu) if opinion else 1.0
            for c in range(classes)
        ]
        total = sum(scores)
        out.append([s / total if total else 1 / classes for s in scores])
    return out


@pytest.mark.parametrize(("modalities", "classes"), [(1, 3), (2, 2), (3, 4), (4, 3)])
@pytest.mark.parametrize("zeros", [False, True])
def test_choquet_and_sugeno_over_all_subsets(modalities, classes, zeros):
    probs = some(modalities, classes, samples=20, zeros=zeros)
    for seed in range(3):
        measure = some_measure(list(probs), seed)
        for present in (None, some_absent(probs, seed)):
            close(
                decision.choquet(probs, measure, present),
                integral(thresholds, probs, measure, present),
            )
            close(
                decision.sugeno(probs, measure, present),
                integral(best_coalition, probs, measure, present),
            )


def test_choquet_is_the_area_under_the_worth_of_those_above_a_threshold():
    probs = some(3, 3, samples=3)
    measure = some_measure(list(probs))
    close(decision.choquet(probs, measure), integral(layer_cake, probs, measure), rtol=3e-4)


def test_an_additive_measure_makes_choquet_the_weighted_vote():
    probs = some(4, 5, samples=40, zeros=True)
    weights = {"image": 0.4, "text": 0.1, "audio": 0.2, "lidar": 0.3}
    measure = {s: math.fsum(weights[m] for m in s) for s in subsets(NAMES)}
    for present in (None, some_absent(probs)):
        close(
            decision.choquet(probs, measure, present),
            decision.weighted_vote(probs, weights, present),
        )
    close(
        decision.choquet(probs, decision.lambda_measure(weights)),
        decision.weighted_vote(probs, weights),
    )


@pytest.mark.parametrize("rule", [decision.choquet, decision.sugeno])
def test_the_largest_and_the_smallest_measure_are_maximum_and_minimum(rule):
    probs = some(3, 4, samples=30)
    stacked, present = torch.stack(list(probs.values())), some_absent(probs)
    anybody = {s: float(bool(s)) for s in subsets(list(probs))}
    highest = stacked.amax(0)
    close(rule(probs, anybody), highest / highest.sum(1, keepdim=True))
    by_class = [
        [max(column) for column in zip(*o.values(), strict=True)]
        for o in samples_of(probs, present)
    ]
    expected = [[s / sum(scores) for s in scores] or [0.25] * 4 for scores in by_class]
    close(rule(probs, anybody, present), expected)
    everybody = {s: float(len(s) == 3) for s in subsets(list(probs))}
    lowest = stacked.amin(0)
    close(rule(probs, everybody), lowest / lowest.sum(1, keepdim=True))
    two = {
        **{m: torch.ones(30, dtype=torch.bool) for m in probs},
        "text": torch.zeros(30, dtype=torch.bool),
    }
    # worth 0 without text: no opinion counts
    close(rule(probs, everybody, two), torch.full((30, 4), 0.25))


def by_high_precision(densities: list[float]):
    """The root λ of (Π (1 + λ g) - 1) / λ = 1 by halving an interval, in 80 digits; it grows with
    λ: there is one."""
    with mpmath.workdps(80):
        g = [mpmath.mpf(x) for x in densities]

        def whole(lam):
            return mpmath.fsum(g) if lam == 0 else (mpmath.fprod(1 + lam * x for x in g) - 1) / lam

        low, high = mpmath.mpf(-1), mpmath.mpf(0)
        if whole(high) < 1:
            low, high = high, mpmath.mpf(1)
            while whole(high) < 1:
                low, high = high, high * 4
        for _ in range(240):
            middle = (low + high) / 2
            low, high = (middle, high) if whole(middle) < 1 else (low, middle)
        return (low + high) / 2


DENSITIES = [
    [0.2, 0.3],
    [0.7, 0.6],
    [0.1, 0.2, 0.3],
    [0.4, 0.5, 0.6, 0.7],
    [0.05] * 10,  # everyday ones
    [1e-8, 1e-8],
    [1e-8, 0.5, 0.1],
    [1e-8] * 5,
    [1e-8, 1 - 1e-9],
    [1 - 1e-9, 1 - 1e-9],
    [1 - 1e-9, 1e-3, 0.2],
    [0.9999] * 3,
    [1.0, 0.5],
    [1.0, 1.0, 0.2],
    [0.0, 0.5, 0.2],
    [1.0],
    [1.0, 0.0],
    [1.0, 1e-13],
    *([0.3, 0.5, 0.2 + sign * 10.0**-e] for e in (13, 12, 11, 10, 8, 6) for sign in (1, -1)),
]


@pytest.mark.parametrize("g", DENSITIES, ids=str)
def test_the_lambda_measure_keeps_its_defining_equation(g):
    densities = {f"m{i}": x for i, x in enumerate(g)}
    lam, measure = decision.sugeno_lambda(densities), decision.lambda_measure(densities)
    assert len(measure) == 2 ** len(g)
    assert measure[frozenset()] == 0 and measure[frozenset(densities)] == 1
    for m, x in densities.items():
        assert measure[frozenset([m])] == pytest.approx(x, rel=1e-9, abs=0)
    for a, b in itertools.combinations(measure, 2):
        if not a & b:
            joined = measure[a] + measure[b] + lam * measure[a] * measure[b]
            assert measure[a | b] == pytest.approx(joined, rel=1e-8, abs=0), (a, b)
    decision.choquet({m: rows([[0.3, 0.7]]) for m in densities}, measure)  # accepted as a measure


@pytest.mark.parametrize("g", [g for g in DENSITIES if max(g) < 1], ids=str)
def test_lambda_is_the_root_that_eighty_digits_find(g):
    ours = decision.sugeno_lambda({f"m{i}": x for i, x in enumerate(g)})
    theirs = by_high_precision(g)
    surplus = abs(math.fsum(g) - 1)
    # a sum of densities is known to 1e-16: so is λ where it is as small as that, and relative to it
    # elsewhere
    assert ours == pytest.approx(
        float(theirs), rel=1e-9 + min(4e-16 / max(surplus, 1e-16), 1e-3), abs=4e-12
    )
    assert math.copysign(1, ours) == math.copysign(1, theirs) or abs(ours) < 4e-12


def test_two_densities_have_lambda_in_closed_form():
    """(1 + λa)(1 + λb) = 1 + λ has the root (1 - a - b) / ab."""
    for a, b in [(0.2, 0.3), (0.8, 0.9), (1e-8, 1e-8), (0.5, 0.5 + 1e-9), (1e-30, 1e-20)]:
        expected = float((1 - Fraction(a) - Fraction(b)) / (Fraction(a) * Fraction(b)))
        assert decision.sugeno_lambda({"a": a, "b": b}) == pytest.approx(expected, rel=1e-7)


@ranges
@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=6))
def test_any_densities_have_a_lambda_measure(g):
    densities = {f"m{i}": x for i, x in enumerate(g)}
    lam, measure = decision.sugeno_lambda(densities), decision.lambda_measure(densities)
    assert lam >= -1 and (lam < 0) == (math.fsum(g) > 1 + 1e-12)
    for s in measure:
        assert 0 <= measure[s] <= 1 and all(measure[s - {m}] <= measure[s] * (1 + 1e-12) for m in s)
        if len(s) > 1:
            m = min(s)
            joined = measure[s - {m}] + densities[m] + lam * measure[s - {m}] * densities[m]
            assert measure[s] == pytest.approx(joined, rel=1e-7)


# Votes


def by_counter(opinion: dict[str, list], classes: int) -> tuple[list[float], int]:
    """Each modality's vote shared among its favourites, in fractions, and the winner."""
    votes: Counter = Counter()
    for p in opinion.values():
        favourites = [c for c in range(classes) if p[c] == max(p)]
        votes.update({c: Fraction(1, len(favourites)) for c in favourites})
    leaders = [c for c in range(classes) if votes[c] == max(votes.values())]
    winner = max(leaders, key=lambda c: (sum(Fraction(p[c]) for p in opinion.values()), -c))
    return [float(votes[c] / len(opinion)) for c in range(classes)], winner


@pytest.mark.parametrize(
    ("modalities", "classes"), [(1, 3), (2, 3), (3, 3), (4, 2), (9, 5), (40, 6)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_majority_vote_counts_favourites(modalities, classes, dtype):
    """Opinions in sixteenths, so that equal favourites, tied votes and tied means all occur."""
    rng, probs = np.random.default_rng(modalities), {}
    for i in range(modalities):
        p = rng.multinomial(16, np.full(classes, 1 / classes), 200) / 16
        probs[f"m{i}"] = rows(p).to(dtype)
    present = some_absent(probs)
    out = decision.majority_vote(probs, present)
    tied = 0
    for row, opinion in zip(out, samples_of(probs, present), strict=True):
        if opinion:
            share, winner = by_counter(opinion, classes)
            close(row, share, rtol=2 * torch.finfo(dtype).eps / min(s for s in share if s) + 1e-6)
            assert row.argmax() == winner
            tied += share.count(max(share)) > 1
    assert tied > 5, "no ties were tried"


def test_a_tied_vote_by_hand():
    """Two votes for 0, two for 1, which has the higher mean of the two; that of 2 is highest, but
    it has no vote."""
    a, b = [0.5, 0.1, 0.4], [0.05, 0.49, 0.46]
    probs = {m: rows([p]) for m, p in zip(NAMES, (a, a, b, b), strict=True)}
    out = decision.majority_vote(probs)
    assert out.argmax() == 1 and out[0, 1] > out[0, 0]  # means .275, .295 and .43
    torch.testing.assert_close(out, rows([[0.5, 0.5, 0.0]]))
    even = decision.majority_vote({"image": rows([[0.6, 0.4]]), "text": rows([[0.4, 0.6]])})
    assert even.argmax() == 0, "the lowest index"
    torch.testing.assert_close(even, rows([[0.5, 0.5]]))


def test_shared_favourites_by_hand():
    out = decision.majority_vote(
        {"image": rows([[0.4, 0.4, 0.2]]), "text": rows([[0.1, 0.8, 0.1]])}
    )
    close(out, [[0.25, 0.75, 0.0]])


def test_a_third_of_a_vote_has_the_digits_of_double_precision():
    out = decision.majority_vote(
        {"image": rows([[0.3, 0.3, 0.3, 0.1]]), "text": rows([[0.1, 0.1, 0.1, 0.7]])}
    )
    close(out, [[1 / 6, 1 / 6, 1 / 6, 1 / 2]], rtol=1e-12)


def test_weighted_vote_is_the_loop():
    probs, weights = some(3, 4), {"image": 3.0, "text": 0.0, "audio": 0.5}
    present = some_absent(probs)
    expected = []
    for opinion in samples_of(probs, present):
        total = sum(weights[m] for m in opinion)
        mean = [sum(weights[m] * opinion[m][c] for m in opinion) / (total or 1) for c in range(4)]
        expected.append(mean if total else [0.25] * 4)
    close(decision.weighted_vote(probs, weights, present), expected)


@pytest.mark.parametrize("scale", [1e-300, 1e-46, 1.0, 1e39, 1e300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_weights_of_any_scale_make_the_same_vote(scale, dtype):
    """Also where a weight is no number that float32 can hold."""
    probs = {m: p.to(dtype) for m, p in some(2, 3).items()}
    expected = (3 * probs["image"] + probs["text"]) / 4
    torch.testing.assert_close(
        decision.weighted_vote(probs, {"image": 3 * scale, "text": scale}), expected
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("k", range(2, 12))
def test_a_tie_is_a_tie_also_where_fractions_do_not_add_up_in_floating_point(k, dtype):
    """k modalities with the same k favourites give each k/k votes, as many as one modality gives
    its only one."""
    shared = rows([[0.99 / k] * k + [0.01]]).to(dtype)
    for strength, winner in ((0.999, k), (1.02 / (k + 1), 0)):
        single = rows([[(1 - strength) / k] * k + [strength]]).to(dtype)
        probs = {**{f"m{i}": shared for i in range(k)}, "single": single}
        opinion = next(samples_of(probs))
        assert by_counter(opinion, k + 1)[1] == winner
        out = decision.majority_vote(probs)
        assert out.argmax() == winner
        torch.testing.assert_close(
            out, torch.full_like(out, 1 / (k + 1)), rtol=0, atol=16 * torch.finfo(dtype).eps
        )


# Rules


def by_scikit_fuzzy(opinion: dict[str, list]) -> dict[str, float]:
    """The three rules with scikit-fuzzy's membership, "and" and "not", as a weighted mean of their
    conclusions."""
    classes = len(next(iter(opinion.values())))
    # "and" of two degrees, written as memberships on a universe of one point
    universe = np.array([0.0])

    def both(a: float, b: float) -> float:
        _, degree = skfuzzy.fuzzy_and(universe, np.array([a]), universe, np.array([b]))
        return degree.item()

    certainty = {m: (max(p) - 1 / classes) / (1 - 1 / classes) for m, p in opinion.items()}
    sure = {
        m: skfuzzy.trapmf(np.array([s]), [0.2, 0.6, 1.0, 1.0]).item() for m, s in certainty.items()
    }
    answer = {}
    for m in opinion:
        other = max((sure[n] for n in opinion if n != m), default=0.0)
        unsure, no_other = skfuzzy.fuzzy_not(sure[m]), skfuzzy.fuzzy_not(other)
        degrees = [sure[m], both(unsure, other), both(unsure, no_other)]
        answer[m] = float(np.average([1.0, 0.0, 0.5], weights=degrees))
    return answer


@pytest.mark.parametrize(("modalities", "classes"), [(1, 2), (2, 3), (3, 4), (4, 2)])
def test_trust_and_fuzzy_rules_agree_with_scikit_fuzzy(modalities, classes):
    probs = some(modalities, classes, samples=60, zeros=True)
    mild = some(modalities, classes, samples=60)
    probs = {m: torch.cat([p, (mild[m] + 0.5) / (1 + 0.5 * classes)]) for m, p in probs.items()}
    present = some_absent(probs)
    trusted, out = decision.trust(probs, present), decision.fuzzy_rules(probs, present)
    for b, opinion in enumerate(samples_of(probs, present)):
        expected = by_scikit_fuzzy(opinion) if opinion else {}
        for m in probs:
            assert trusted[m][b].item() == pytest.approx(expected.get(m, 0.0), abs=1e-9)
        if opinion:
            close(
                out[b],
                np.average(list(opinion.values()), axis=0, weights=[expected[m] for m in opinion]),
            )
    assert (out[-1] == 1 / classes).all()


def test_three_rules_by_hand():
    """Two classes, certainty 2 max p - 1: .8 is sure; .4 is sure by half; 0 is not sure at all.

    Beside one that is sure (1), half-sure: 1·.5 + 0·.5 over 1 = .5; unsure: 0. Alone, unsure: .5;
    half-sure: (.5 + .5·.5) / 1 = .75.
    """
    sure, half, not_sure = [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]
    trusted = decision.trust(
        {"a": rows([sure, sure, not_sure, half]), "b": rows([half, not_sure, not_sure, not_sure])}
    )
    close(trusted["a"], [1.0, 1.0, 0.5, 0.75])
    # the last: not sure 1 and other .5 → 0 by .5, and ½ by .5
    close(trusted["b"], [0.5, 0.0, 0.5, 0.25])


# Stacking


def documented_columns(probs, present=None) -> np.ndarray:
    """[ln p - mean over classes of ln p, present] per modality; zeros where absent."""
    parts = []
    for m, p in probs.items():
        log = np.log(np.maximum(p.numpy(), 1e-6))
        there = np.ones(len(p), bool) if present is None else present[m].numpy()
        parts += [(log - log.mean(1, keepdims=True)) * there[:, None], there[:, None].astype(float)]
    return np.hstack(parts)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("absentees", [False, True])
@pytest.mark.parametrize("estimator", [None, LogisticRegression(C=0.05, tol=1e-8)])
def test_stacking_is_a_logistic_regression_on_the_documented_columns(classes, absentees, estimator):
    train, test = some(3, classes, 150), some(3, classes, 40, seed=1, zeros=True)
    y = (train["image"] + train["text"] ** 2).argmax(1).numpy()
    present, later = (some_absent(train), some_absent(test)) if absentees else (None, None)
    ours = decision.Stacking(estimator).fit(train, y, present).predict_proba(test, later)
    somebody = (
        np.ones(150, bool) if present is None else np.any([t.numpy() for t in present.values()], 0)
    )
    columns = documented_columns(train, present)[somebody]
    peer = (estimator or LogisticRegression(max_iter=1000)).fit(columns, y[somebody])
    theirs = peer.predict_proba(documented_columns(test, later))
    if later is not None:
        assert not somebody[-1]
        nobody = ~np.any([t.numpy() for t in later.values()], 0)
        theirs[nobody] = np.bincount(y, minlength=classes) / 150
    torch.testing.assert_close(ours, rows(theirs), rtol=0, atol=1e-5)
    assert (np.abs(theirs - 1 / classes) > 0.1).any(), "nothing was learnt"


def test_stacking_does_not_listen_to_a_modality_that_training_never_had():
    train, test = some(3, 3, 100), some(3, 3, 30, seed=1)
    y = train["image"].argmax(1)
    never = {"audio": torch.zeros(100, dtype=torch.bool)}
    model = decision.Stacking().fit(train, y, never)
    without = {"audio": torch.zeros(30, dtype=torch.bool)}
    torch.testing.assert_close(
        model.predict_proba(test), model.predict_proba(test, without), rtol=0, atol=0
    )
    two = {m: train[m] for m in ("image", "text")}
    alone = decision.Stacking().fit(two, y).predict_proba({m: test[m] for m in two})
    torch.testing.assert_close(model.predict_proba(test), alone, rtol=0, atol=2e-3)


# All rules, over whatever probabilities there are

RULES = {
    "average": lambda p, w, there: decision.average(p, there),
    "weighted_vote": lambda p, w, there: decision.weighted_vote(p, w, there),
    "majority_vote": lambda p, w, there: decision.majority_vote(p, there),
    "product_rule": lambda p, w, there: decision.product_rule(p, present=there),
    "log_linear_pool": lambda p, w, there: decision.log_linear_pool(p, w, there),
    "dempster_shafer": lambda p, w, there: decision.dempster_shafer(p, w, there),
    "choquet": lambda p, w, there: decision.choquet(p, some_measure(list(p)), there),
    "sugeno": lambda p, w, there: decision.sugeno(p, some_measure(list(p)), there),
    "fuzzy_rules": lambda p, w, there: decision.fuzzy_rules(p, there),
}


@st.composite
def situations(draw):
    """Opinions with exact zeros and one-hots in any of four precisions, weights in [0, 1], and who
    is there."""
    modalities, classes, samples = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 3)),
    )
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]))
    number = st.sampled_from([0.0, 0.0, 1.0, 1e-300, 1e-30, 1e-6]) | st.floats(0, 1)
    probs, weights, present = {}, {}, {}
    for m in NAMES[:modalities]:
        p = np.array([[draw(number) for _ in range(classes)] for _ in range(samples)]).reshape(
            samples, classes
        )
        p[p.sum(1) == 0] = 1.0
        probs[m] = rows(p / p.sum(1, keepdims=True)).to(dtype)
        weights[m] = draw(st.sampled_from([0.0, 1.0, 1e-12, 1 - 1e-12]) | st.floats(0, 1))
        present[m] = torch.tensor([draw(st.booleans()) for _ in range(samples)], dtype=torch.bool)
    weights[NAMES[0]] = weights[NAMES[0]] or 1.0
    return probs, weights, draw(st.none() | st.just(present))


@pytest.mark.parametrize("rule", RULES)
@ranges
@given(situations())
def test_every_answer_is_a_probability(rule, situation):
    probs, weights, present = situation
    like = next(iter(probs.values()))
    out = RULES[rule](probs, weights, present)
    assert out.shape == like.shape and out.dtype == like.dtype and torch.isfinite(out).all()
    assert (out >= 0).all() and (out <= 1 + torch.finfo(out.dtype).eps).all()
    tolerance = 4 * torch.finfo(out.dtype).eps + 1e-9
    torch.testing.assert_close(
        out.double().sum(1), torch.ones(len(out), dtype=torch.float64), rtol=0, atol=tolerance
    )


@ranges
@given(situations())
def test_conflict_and_trust_are_shares(situation):
    probs, weights, present = situation
    for values in (
        decision.conflict(probs, weights, present),
        *decision.trust(probs, present).values(),
    ):
        assert ((values >= 0) & (values <= 1)).all()
