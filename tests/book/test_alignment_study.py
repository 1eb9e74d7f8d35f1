"""What chapter 7's study computes for its pages: the interval over starts and speakers, and when a
character is written."""

from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from mmtutor.speech import Mark, Utterance

PATH = Path(__file__).resolve().parents[2] / "book/07_alignment/study.py"


@pytest.fixture(scope="module")
def study() -> dict:
    """The study's names; nothing is measured."""
    return runpy.run_path(str(PATH))


@pytest.mark.parametrize("axis", [0, 1])
def test_with_one_source_of_variation_it_is_the_t_interval_over_that_one(study, axis):
    means = np.random.default_rng(axis).normal(3, 2, (10, 6)[axis])
    values = np.repeat(np.expand_dims(means, 1 - axis), (6, 10)[axis], 1 - axis)
    assert values.shape == (10, 6)
    found = study["crossed_interval"](values, level=0.9)
    expected = stats.t.interval(0.9, len(means) - 1, means.mean(), stats.sem(means))
    np.testing.assert_allclose([found.low, found.high], expected)
    assert found.estimate == pytest.approx(means.mean()) and found.level == 0.9


def test_it_covers_the_mean_of_starts_and_speakers_that_were_not_drawn(study):
    rng, draws = np.random.default_rng(0), 1000
    hits = 0
    for _ in range(draws):
        values = rng.normal(0, 2, (10, 1)) + rng.normal(0, 2, 6) + rng.normal(0, 1, (10, 6))
        found = study["crossed_interval"](values)
        hits += found.low < 0 < found.high
    assert 0.93 < hits / draws < 0.99  # a t interval over starts alone .80, over speakers .90


def test_a_character_is_early_in_time_or_late(study):
    """Syllables from 0.2 to 0.5 s and, after a pause, from 0.8 to 1 s."""
    words = (Mark(0.2, 0.5, "朋"), Mark(0.8, 1.0, "友"))
    spoken = Utterance("朋友", torch.zeros(22050), 22050, words, ())
    when = study["when"]
    assert when([np.array([0.1, 0.6])], [spoken]) == [100, 0, 0]
    assert when([np.array([0.2, 0.9])], [spoken]) == [0, 100, 0]
    assert when([np.array([0.5, 0.79])], [spoken]) == [50, 0, 50]
    assert study["one_by_one"](spoken)
    assert not study["one_by_one"](Utterance("朋友", spoken.waveform, 22050, words[:1], ()))


def test_a_shuffled_copy_is_spoken_in_the_manner_of_its_sentence(study):
    mandarin = object.__new__(study["Mandarin"])
    mandarin.rng = np.random.default_rng(3)
    texts = [mandarin.sentence() for _ in range(4)]
    copies = [text[::-1] for text in texts]
    (first, second), who = mandarin.speak([texts, copies], study["OLD"])
    assert who.tolist() == [0, 1, 2, 3] and [u.text for u in second] == copies
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if study["one_by_one"](b)]
    assert len(pairs) >= 3
    gaps = [
        [[round(b.start - a.end, 3) for a, b in pairwise(utterance.words)] for utterance in pair]
        for pair in pairs
    ]
    assert all(sentence == copy for sentence, copy in gaps)
    assert max(gap for pair in gaps for row in pair for gap in row) > 0.099  # some pause
