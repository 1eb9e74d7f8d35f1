import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from mmtutor.alignment import Span, ctc_score, forced_align

ranges = settings(max_examples=60, deadline=None)


def sure(labeling: list[int], classes: int, p: float = 0.9) -> np.ndarray:
    """Log-probabilities that give p to the labeling and share the rest."""
    probs = np.full((len(labeling), classes), (1 - p) / (classes - 1))
    probs[range(len(labeling)), labeling] = p
    return np.log(probs)


def uniform(frames: int, classes: int) -> np.ndarray:
    return np.full((frames, classes), -math.log(classes))


def frames_of(spans: list[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans]


def test_spans_by_hand():
    log_probs = sure([0, 2, 2, 0, 0, 1, 1, 1, 2], 3, p=0.8)
    log_probs[2] = np.log([0.2, 0.3, 0.5])
    spans = forced_align(log_probs, [2, 1, 2])
    assert frames_of(spans) == [(1, 3), (5, 8), (8, 9)]
    assert [s.score for s in spans] == pytest.approx(
        [np.log([0.8, 0.5]).mean(), math.log(0.8), math.log(0.8)]
    )
    assert forced_align(torch.tensor(log_probs), torch.tensor([2, 1, 2])) == spans


def test_between_equal_neighbours_stands_a_blank_even_where_none_was_seen():
    log_probs = sure([1, 1, 1, 1, 1], 2)
    log_probs[3] = np.log([0.4, 0.6])  # the cheapest place for the blank
    assert frames_of(forced_align(log_probs, [1, 1])) == [(0, 3), (4, 5)]
    assert frames_of(forced_align(log_probs, [1])) == [(0, 5)]
    assert frames_of(forced_align(sure([1, 2, 1, 2], 3), [1, 2, 1, 2])) == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
    ]


def test_what_the_network_saw_besides_the_targets_is_overruled():
    """The transcript is believed: the network heard 1 3 2, the targets are 1 2, and frame 2 goes to
    what fits best."""
    log_probs = sure([1, 1, 3, 2, 2], 4, p=0.7)
    log_probs[2] = np.log([0.05, 0.15, 0.1, 0.7])
    assert frames_of(forced_align(log_probs, [1, 2])) == [(0, 3), (3, 5)]


@pytest.mark.parametrize("blank", [0, 2])
def test_the_blank_may_be_any_token(blank):
    order = [0, 1, 2] if blank == 0 else [2, 0, 1]  # blank, first, second
    log_probs = sure([order[0], order[1], order[0], order[2], order[2]], 3)
    assert frames_of(forced_align(log_probs, order[1:], blank)) == [(1, 2), (3, 5)]


def test_of_equally_good_labelings_the_later_states_keep_the_frames():
    assert frames_of(forced_align(uniform(5, 3), [1, 2])) == [(0, 1), (1, 2)]
    assert frames_of(forced_align(uniform(5, 3), [1, 2], blank=None)) == [(0, 1), (1, 5)]
    assert frames_of(forced_align(uniform(3, 2), [1, 1])) == [(0, 1), (2, 3)]


def test_without_a_blank_silence_belongs_to_somebody_and_scores_need_not_be_probabilities():
    scores = np.array([[5.0, 0, 0], [0, 5, 0], [0, 5, 0], [0, 2, 3], [0, 0, 9]])
    spans = forced_align(scores, [0, 1, 2], blank=None)
    assert spans == [Span(0, 1, 5.0), Span(1, 3, 5.0), Span(3, 5, 6.0)]
    assert frames_of(forced_align(scores, [1, 1], blank=None))[-1][1] == 5
    assert frames_of(forced_align(scores[:3], [0, 0, 0], blank=None)) == [(0, 1), (1, 2), (2, 3)]


def test_more_than_a_hundred_states_are_counted_rightly():
    """Step codes are small integers, state numbers are not."""
    labeling = [s for token in range(1, 301) for s in (token, token, 0)]
    expected = [(3 * i, 3 * i + 2) for i in range(300)]
    assert frames_of(forced_align(sure(labeling, 301), range(1, 301))) == expected


def test_a_probability_of_zero_forbids_and_an_impossible_sentence_is_an_error():
    log_probs = uniform(4, 3)
    log_probs[1] = [0.0, -math.inf, -math.inf]
    assert frames_of(forced_align(log_probs, [1, 2])) == [(0, 1), (2, 3)]
    log_probs[:] = [math.log(0.5), math.log(0.5), -math.inf]
    with pytest.raises(ValueError, match="probability 0"):
        forced_align(log_probs, [1, 2])
    assert ctc_score(log_probs, [1, 2]) == -math.inf
    with pytest.raises(ValueError, match="probability 0"):
        forced_align(log_probs, [1, 2], blank=None)


@pytest.mark.parametrize("align", [forced_align, ctc_score])
@pytest.mark.parametrize(
    ("log_probs", "targets", "blank", "words"),
    [
        (
            uniform(4, 3),
            [1, 2, 1, 2, 1],
            0,
            "5 targets and 0 blanks between repeated ones need 5 frames.*has 4",
        ),
        (
            uniform(4, 3),
            [1, 1, 1],
            0,
            "3 targets and 2 blanks between repeated ones need 5 frames.*has 4",
        ),
        (uniform(4, 3), [], 0, "targets must be a non-empty"),
        (uniform(4, 3), [[1]], 0, "targets must be"),
        (uniform(4, 3), [1.0], 0, "whole numbers"),
        (uniform(4, 3), [3], 0, r"targets must be in 0\.\.2"),
        (uniform(4, 3), [-1], 0, r"targets must be in 0\.\.2"),
        (uniform(4, 3), [2, 0], 0, "targets hold the blank, 0, at 1"),
        (uniform(4, 3), [1], 3, r"blank must be a whole number from 0 to 2, not 3"),
        (uniform(4, 3), [1], -1, "blank must be a whole number from 0 to 2, not -1"),
        (np.zeros((4, 3)), [1], 0, r"logsumexp of frame 0 is 1.099.*log_softmax"),
        (np.exp(uniform(4, 3)), [1], 0, "log_softmax"),
        (np.full((4, 3), 1000.0), [1], 0, "log_softmax"),
        (np.vstack([uniform(3, 3), uniform(1, 3) - 0.1]), [1], 0, "frame 3"),
        (np.full((4, 3), math.nan), [1], 0, r"NaN or \+inf"),
        (np.full((4, 3), math.inf), [1], 0, r"NaN or \+inf"),
        (np.zeros((4, 3), int), [1], 0, "log_probs are none"),
        (np.zeros((0, 3)), [1], 0, "non-empty"),
        (uniform(4, 3)[None], [1], 0, "2 dimension"),
    ],
)
def test_what_cannot_be_aligned_is_refused(align, log_probs, targets, blank, words):
    with pytest.raises(ValueError, match=words):
        align(log_probs, targets, blank)


def test_without_a_blank_limits_are_those_of_the_frames():
    with pytest.raises(ValueError, match="5 targets and 0 blanks"):
        forced_align(np.zeros((4, 3)), [1, 1, 1, 1, 1], blank=None)
    with pytest.raises(ValueError, match="NaN"):
        forced_align(np.full((4, 3), math.nan), [1], blank=None)
    with pytest.raises(ValueError, match="targets must be in"):
        forced_align(np.zeros((4, 3)), [3], blank=None)
    with pytest.raises(ValueError, match="number of the blank"):
        ctc_score(uniform(4, 3), [1], blank=None)


def test_half_precision_probabilities_pass():
    log_probs = torch.randn(200, 60, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    exact, rough = (ctc_score(x, [3, 4, 4, 5]) for x in (log_probs, log_probs.bfloat16()))
    assert rough == pytest.approx(exact, rel=1e-2)


@ranges
@given(st.integers(1, 9), st.integers(0, 10**6), st.integers(0, 12), st.sampled_from([0, 3, None]))
def test_laws_of_spans(length, seed, spare, blank):
    rng = np.random.default_rng(seed)
    tokens = rng.choice([c for c in range(4) if c != blank], length)
    repeats = 0 if blank is None else int((tokens[1:] == tokens[:-1]).sum())
    logits = rng.normal(size=(length + repeats + spare, 4))
    log_probs = logits - logsumexp(logits, axis=1, keepdims=True)
    spans = forced_align(log_probs, tokens, blank)
    assert len(spans) == length
    assert all(span.start < span.end for span in spans)
    gaps = np.array([after.start - before.end for before, after in itertools.pairwise(spans)])
    assert (gaps >= ((tokens[1:] == tokens[:-1]) & (blank is not None))).all()
    for span, token in zip(spans, tokens, strict=True):
        assert span.score == pytest.approx(log_probs[span.start : span.end, token].mean())
    if blank is None:
        assert (spans[0].start, spans[-1].end, gaps.any()) == (0, len(log_probs), False)
        return
    silent = np.ones(len(log_probs), bool)
    for span in spans:
        silent[span.start : span.end] = False
    best = log_probs[silent, blank].sum() + sum(s.score * (s.end - s.start) for s in spans)
    assert best <= ctc_score(log_probs, tokens, blank) + 1e-9 <= 2e-9


@ranges
@given(st.integers(0, 10**6))
def test_probabilities_of_all_sentences_sum_to_one(seed):
    """Three frames, tokens 1 and 2: the empty sentence is the blank thrice, the longest has three
    tokens."""
    logits = 2 * np.random.default_rng(seed).normal(size=(3, 3))
    log_probs = logits - logsumexp(logits, axis=1, keepdims=True)
    sentences = (
        [[a] for a in (1, 2)] + [[a, b] for a in (1, 2) for b in (1, 2)] + [[1, 2, 1], [2, 1, 2]]
    )
    total = math.exp(log_probs[:, 0].sum()) + sum(
        math.exp(ctc_score(log_probs, s)) for s in sentences
    )
    assert total == pytest.approx(1.0)
