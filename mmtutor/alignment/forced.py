"""Forced alignment: what was said is known, when each token was said is not. The best path through
a CTC network.

Log-probabilities (T, C) come from any recogniser, the targets from the transcript. All states are
taken a step further at once, so the loops run over frames only. Taught in chapter 7.
"""

from dataclasses import dataclass

import numpy as np

from mmtutor.checks import Array, finite, require, whole_labels, whole_number

# by how much the logarithm of a frame's sum of probabilities may miss 0: bfloat16 keeps eight
# bits
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Span:
    """Frames start ≤ t < end of one target token; score: mean log-probability that those frames
    give to it."""

    start: int
    end: int
    score: float


def forced_align(log_probs: Array, targets: Array, blank: int | None = 0) -> list[Span]:
    """argmax over labelings π that read `targets` of Σ_t log_probs[t, π_t]: CTC Viterbi, one span
    per target, in order.

    log_probs: (T, C) log-softmax, -inf for an impossible token; targets: (L,) tokens. A labeling
    reads as the targets once repeats are merged and blanks dropped: 2L + 1 states, a blank before,
    between and after. A span holds the frames that emit its token; those of blanks lie between
    spans. A blank must stand between equal neighbours in targets, elsewhere it may. A network
    trained with CTC emits a token in few frames, late in its sound. blank=None: no blank state;
    each frame belongs to one target, in order, so spans touch. log_probs are then any scores, such
    as posterior / prior in logarithms, and where equal neighbours part is arbitrary. Of equally
    good labelings: read from the end, the one that stays in its state. Computed in float64.
    Raises ValueError for NaN, +inf, rows that are no log-softmax, unknown tokens, blank among the
    targets, targets that do not fit into T frames or have probability 0. Graves et al., CTC, ICML
    2006; states as Rabiner 1989.
    """
    emit, states, skip = _network(log_probs, targets, blank)
    score, moves = _start(emit, states, blank), np.zeros((len(emit), len(states)), np.int8)
    for t in range(1, len(emit)):
        ways = _ways(score, skip)
        best = ways.max(0)
        moves[t] = ways[0] < best  # 0: stay, which goes first among equals
        moves[t] += ways[:2].max(0) < best  # ways.argmax(0), but three times as fast
        score = best + emit[t].take(states)
    last = len(states) - 1
    if blank is not None and score[last - 1] > score[last]:
        last -= 1
    require(
        score[last] > -np.inf,
        "log_probs give the targets probability 0: each labeling meets -inf; check the token"
        " numbers",
    )
    visited = np.empty(len(emit), np.int64)
    for t in range(len(emit) - 1, -1, -1):
        visited[t] = last
        last -= int(moves[t, last])
    tokens = range(len(states)) if blank is None else range(1, len(states), 2)
    return _spans(emit, states, visited, tokens)


def ctc_score(log_probs: Array, targets: Array, blank: int = 0) -> float:
    """ln Σ_π Π_t exp(log_probs[t, π_t]) over all labelings π that read `targets`: minus the CTC
    loss of one sentence.

    Arguments and errors as `forced_align` with a blank; targets of probability 0 give -inf.
    Graves et al., CTC, ICML 2006, the forward algorithm.
    """
    require(
        blank is not None,
        "ctc_score needs the number of the blank token; without a blank only `forced_align` works",
    )
    emit, states, skip = _network(log_probs, targets, blank)
    score = _start(emit, states, blank)
    for t in range(1, len(emit)):
        score = np.logaddexp.reduce(_ways(score, skip), axis=0) + emit[t].take(states)
    return float(np.logaddexp(score[-1], score[-2]))


def _network(
    log_probs: Array, targets: Array, blank: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return emissions (T, C), the token of each state (S,), and what a jump over the state before
    it costs (S,)."""
    emit = finite("log_probs", log_probs, 2, besides=-np.inf)
    frames, classes = emit.shape
    tokens = whole_labels("targets", targets, classes=classes)
    repeats = 0 if blank is None else int((tokens[1:] == tokens[:-1]).sum())
    require(
        len(tokens) + repeats <= frames,
        f"{len(tokens)} targets and {repeats} blanks between repeated ones need"
        f" {len(tokens) + repeats} frames, log_probs has {frames}: check that both are of the"
        " same sentence, or use a shorter hop",
    )
    if blank is None:
        return emit, tokens, np.full(len(tokens), -np.inf)
    sums = np.logaddexp.reduce(emit, axis=1)
    worst = int(np.abs(sums).argmax())
    require(
        abs(sums[worst]) <= TOLERANCE,
        f"log_probs are none: logsumexp of frame {worst} is {sums[worst]:.4g}, expected 0. Take"
        " log_softmax over the tokens first, or blank=None for scores that need not sum to 1",
    )
    whole_number("blank", blank, 0, classes - 1)
    require(
        (tokens != blank).all(),
        f"targets hold the blank, {blank}, at {int(np.argmax(tokens == blank))}: drop blanks first",
    )
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    skip = np.full(len(states), -np.inf)
    skip[3::2][tokens[1:] != tokens[:-1]] = 0.0
    return emit, states, skip


def _start(emit: np.ndarray, states: np.ndarray, blank: int | None) -> np.ndarray:
    """Return the scores of the states after the first frame: a labeling begins with the first blank
    or token."""
    begins = np.arange(len(states)) < (1 if blank is None else 2)
    return np.where(begins, emit[0, states], -np.inf)


def _ways(score: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """Return (3, S): what each state gets by staying, from the state before, and from the one
    before that."""
    ways = np.full((3, len(score)), -np.inf)
    ways[0], ways[1, 1:] = score, score[:-1]
    ways[2, 2:] = score[:-2] + skip[2:]
    return ways


def _spans(
    emit: np.ndarray, states: np.ndarray, visited: np.ndarray, emitting: range
) -> list[Span]:
    """Return the frames of each emitting state; a path never returns to a state, so they are one
    run."""
    starts = np.searchsorted(visited, emitting, side="left")
    ends = np.searchsorted(visited, emitting, side="right")
    own = emit[np.arange(len(visited)), states[visited]]
    return [Span(int(s), int(e), float(own[s:e].mean())) for s, e in zip(starts, ends, strict=True)]
