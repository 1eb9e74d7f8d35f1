"""What a comparison says: which methods there are, who wins, and what each modality is worth."""

import numpy as np
import pytest
import torch

from mmtutor.choosing.choice import Choice, Method, methods_of
from mmtutor.evaluation import corrected_interval, paired_comparison

NOISE = np.array([0.01, -0.01, 0.02, -0.02, 0.0])


def made(modalities: str, means: dict[str, float], numbers=False, **scores) -> Choice:
    """Return a choice among the methods for modalities, one letter each: of mean scores that do
    not waver from one another, or as `scores` tells; 0 where neither does."""
    methods = methods_of(modalities, numbers)
    assert means.keys() | scores.keys() <= methods.keys()
    told = {m: np.asarray(scores.get(m, means.get(m, 0.0) + NOISE)) for m in methods}
    nothing = torch.zeros(0)
    return Choice(methods, told, [], 80.0, 20.0, {}, {}, {}, {}, {}, {}, nothing)


def test_one_modality_is_read_in_one_way():
    assert methods_of(["text"]) == {"text": Method("alone", ("text",))}
    assert methods_of(["text"], numbers=True) == methods_of(["text"])


@pytest.mark.parametrize("numbers", [False, True])
def test_two_modalities_are_read_alone_and_together(numbers):
    """Simpler ways first; numbers have no product."""
    both = ("text", "image")
    levels = ["early", "late"] + ["product"] * (not numbers)
    expected = [
        ("text", Method("alone", ("text",))),
        ("image", Method("alone", ("image",))),
        *((level, Method(level, both)) for level in levels),
    ]
    assert list(methods_of(both, numbers).items()) == expected
    assert list(methods_of(iter(both), numbers).items()) == expected


@pytest.mark.parametrize("numbers", [False, True])
def test_three_modalities_are_also_read_without_each(numbers):
    found = methods_of("abc", numbers)
    levels = ["early", "late"] + ["product"] * (not numbers)
    pairs = {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
    expected = [*"abc", *levels, *(f"{level} without {m}" for level in levels for m in "abc")]
    assert list(found) == expected
    for level in levels:
        assert found[level] == Method(level, ("a", "b", "c"))
        for m, rest in pairs.items():
            assert found[f"{level} without {m}"] == Method(level, rest)
    heads = {name for name, method in found.items() if method.head}
    assert heads == {"a", "b", "c", "early"} | {f"early without {m}" for m in "abc"}


def test_the_simplest_that_is_not_worse_wins():
    """Early is above text by 0.02 in the mean, but not in each fold; above the picture always."""
    wavering = 0.7 + np.array([0.1, -0.1, 0.08, -0.06, 0.08])
    choice = made("ti", {"t": 0.68, "i": 0.3}, early=wavering)
    assert choice.best() == "early" and choice.against("early", "t").low < 0
    assert choice.winner == "t" == choice.best_single
    assert made("ti", {"t": 0.68, "i": 0.3, "early": 0.7}).winner == "early"


def test_of_equal_methods_the_simpler_wins():
    equal = made("ti", dict.fromkeys(("t", "i", "early", "late", "product"), 0.5))
    assert equal.winner == equal.best() == equal.best_single == "t"
    assert equal.full == "early"
    assert made("ti", {"t": 0.4, "late": 0.6, "product": 0.6}).winner == "late"


def test_of_two_fusions_of_as_many_the_better_wins_though_not_by_much():
    close = 0.7 + np.array([0.1, -0.1, 0.08, -0.06, 0.08])
    choice = made("ti", {"t": 0.3, "early": 0.7}, product=close)
    assert choice.winner == choice.best() == "product"


def test_two_modalities_win_over_three_that_are_not_better():
    choice = made("abc", {"early": 0.8, "late without b": 0.8, "a": 0.5})
    assert choice.best() == "early" and choice.winner == "late without b"
    assert choice.full == "early"
    among = made("abc", {"late": 0.8, "early without a": 0.79, "late without b": 0.7})
    assert among.winner == "late"


def test_the_full_method_is_the_best_of_those_that_read_everything():
    choice = made("abc", {"a": 0.9, "early": 0.5, "product": 0.6, "late without a": 0.8})
    assert choice.full == "product" and choice.best() == choice.best_single == "a"
    assert choice.best(["early", "late without a"]) == "late without a"
    assert made("a", {"a": 0.5}).full == "a"


@pytest.mark.parametrize("level", ["early", "late", "product"])
def test_what_is_left_without_a_modality_is_read_at_the_same_level(level):
    three = made("abc", {level: 0.9, "a": 0.95})
    for m in "abc":
        assert three.without(m) == f"{level} without {m}"
    two = made("ti", {level: 0.9})
    assert (two.without("t"), two.without("i")) == ("i", "t")
    assert made("t", {"t": 0.5}).without("t") is None


def test_intervals_and_differences_are_the_corrected_ones():
    rng = np.random.default_rng(0)
    a, b = rng.random(5), rng.random(5)
    choice = made("ti", {}, t=a, i=b)
    assert choice.interval("t") == corrected_interval(a, n_train=80, n_test=20)
    assert choice.against("i", "t") == paired_comparison(b, a, n_train=80, n_test=20)
    assert choice.singles == ("t", "i")
