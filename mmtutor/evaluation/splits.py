"""Which samples to learn from and which to ask: repeated, stratified, and with groups kept
whole.

Taught in chapter 1.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import (
    GroupShuffleSplit,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from mmtutor.checks import (
    Array,
    group_numbers,
    proper_fraction,
    require,
    whole_labels,
    whole_number,
)

Split = tuple[np.ndarray, np.ndarray]
"""Positions (n_train,), (n_test,) int64, ascending, no sample in both."""


def folds(
    labels: Array, groups: Array | None = None, splits: int = 5, repeats: int = 5, seed: int = 0
) -> Iterator[Split]:
    """Repeated cross-validation: splits · repeats pairs (train, test) of positions; a repeat tests
    each sample once.

    labels: (N,) classes, kept in like shares in every fold; groups: (N,) group of each sample
    (theme, speaker, patient), never cut by a fold. As many groups as splits means one group per
    fold, which can be done in one way
    only: say repeats=1. Raises ValueError, before the first fold, for unequal lengths, fewer groups
    than splits, a class with fewer samples than splits, a class that one single group holds, and a
    fold whose either side holds one class only.
    """
    y = whole_labels("labels", labels)
    group = group_numbers(groups, len(y))
    whole_number("splits", splits, 2)
    whole_number("repeats", repeats, 1)
    _check_classes(y, group, splits)
    require(
        repeats == 1 or group is None or group.max() + 1 > splits,
        f"{splits} groups in {splits} splits give the same folds in each of {repeats} repeats, "
        "which would look like more evidence than there is: use repeats=1",
    )
    # a list, so that every refusal comes before the first fold
    return iter([split for r in range(repeats) for split in _one_round(y, group, splits, seed + r)])


def grouped_split(
    labels: Array, groups: Array | None = None, fraction: float = 0.2, seed: int = 0
) -> Split:
    """Cut off one part, for validation: positions (the rest, the part), with whole groups and like
    shares of classes.

    fraction: wanted share of the samples in the part, in (0, 1); with groups it is met as nearly as
    the best of 64 random draws of groups meets it, class by class. Positions count within what was
    given: to cut a fold's training side, pass labels[train] and groups[train], and index train with
    the answer. Raises ValueError for unequal lengths, a fraction out of range, fewer than two
    groups, one class only on either side.
    """
    y = whole_labels("labels", labels)
    group = group_numbers(groups, len(y))
    proper_fraction("fraction", fraction)
    _check_classes(y, group, 2)
    if group is None:
        draws = StratifiedShuffleSplit(1, test_size=fraction, random_state=seed).split(y, y)
    else:
        draws = GroupShuffleSplit(64, test_size=fraction, random_state=seed).split(y, y, group)
    target = fraction * np.bincount(y)
    rest, part = min(
        draws, key=lambda d: np.abs(np.bincount(y[d[1]], minlength=len(target)) - target).sum()
    )
    return _checked_split(y, np.sort(rest), np.sort(part))


def _one_round(y: np.ndarray, group: np.ndarray | None, splits: int, seed: int) -> list[Split]:
    if group is None:
        cutter = StratifiedKFold(splits, shuffle=True, random_state=seed)
    elif group.max() + 1 == splits:
        cutter = LeaveOneGroupOut()
    else:
        cutter = StratifiedGroupKFold(splits, shuffle=True, random_state=seed)
    return [_checked_split(y, train, test) for train, test in cutter.split(y, y, group)]


def _checked_split(y: np.ndarray, train: np.ndarray, test: np.ndarray) -> Split:
    for side, rows in (("training", train), ("test", test)):
        present = np.unique(y[rows])
        holds = f"class {present[0]} only" if len(present) else "no sample"
        require(
            len(present) >= 2,
            f"the {side} side of a fold holds {holds}: use fewer splits, or coarser classes or"
            " groups",
        )
    return train, test


def _check_classes(y: np.ndarray, group: np.ndarray | None, splits: int) -> None:
    count = np.bincount(y)
    present = np.flatnonzero(count)
    require(
        len(present) >= 2,
        f"all {len(y)} samples have class {present[0]}: there is nothing to tell apart",
    )
    for label in present:
        require(
            count[label] >= splits,
            f"class {label} has {count[label]} samples, fewer than {splits} splits",
        )
    if group is None:
        return
    available = group.max() + 1
    require(
        available >= splits,
        f"{available} groups cannot fill {splits} splits: use at most {available} splits",
    )
    for label in present:
        require(
            len(np.unique(group[y == label])) >= 2,
            f"class {label} occurs in one group only: the fold that tests it could not have"
            " learnt it",
        )
