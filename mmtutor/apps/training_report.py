"""What a training run found, as JSON: the data, the comparison with its intervals, the choice, in
figures and words."""

import numpy as np
from sklearn.metrics import confusion_matrix

from mmtutor.apps.classifier import SentimentModel
from mmtutor.apps.faults import Faults
from mmtutor.apps.posts import PostTable
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.nested import Choice
from mmtutor.evaluation import macro_f1

NAMES = {
    "text": "text alone",
    "image": "picture alone",
    "early": "early fusion (one head on both)",
    "late": "late fusion (average of two opinions)",
}
FEW = 10
"""Groups of a class below which its scores are hardly more than chance; the report says so."""


def training_report(
    table: GroupedSamples,
    choice: Choice,
    model: SentimentModel,
    faults: Faults,
    posts: PostTable,
    **settings: int,
) -> dict:
    """Return all findings for JSON. No entry holds a time or a path: equal runs, equal reports.

    methods[m]: macro_f1 {"value", "interval"}, its folds, calibrated ece and log_loss. comparison:
    winner minus the best single modality, null where a single one won. words: the findings as
    sentences.
    """
    y = table.labels.numpy()
    methods = {}
    for m in choice.methods:
        i = choice.interval(m)
        methods[m] = {
            "name": NAMES[m],
            "macro_f1": {"value": i.estimate, "interval": [i.low, i.high], "level": i.level},
            "folds": [round(float(s), 6) for s in choice.scores[m]],
            **choice.quality[m],
        }
    comparison = None
    if choice.winner not in choice.singles:
        c = choice.against(choice.winner, choice.best_single)
        comparison = {
            "against": choice.best_single,
            "difference": c.difference,
            "interval": [c.low, c.high],
            "p": c.p,
            "wins": c.wins,
            "folds": c.n,
            "real": bool(c.low > 0),
        }
    return {
        "data": {
            "table": posts.path.name,
            "posts": len(table),
            "compared_on": len(choice.compared),
            "with_text": int(table.having(["text"]).sum()),
            "with_image": int(table.having(["image"]).sum()),
            "groups": len(np.unique(table.groups)),
            "classes": {name: int((y == c).sum()) for c, name in enumerate(table.classes)},
            "encodings": dict(sorted(posts.encodings.items())),
            "first_line_of_other_encodings": dict(sorted(posts.odd_lines.items())),
        },
        "problems": faults.as_json(),
        "methods": methods,
        "winner": choice.winner,
        "comparison": comparison,
        "per_class": _per_class(table, choice),
        "words": _words(table, choice, comparison),
        "decision": model.decision,
        "strengths": choice.strengths,
        "settings": settings,
    }


def _per_class(table: GroupedSamples, choice: Choice) -> dict:
    """Return precision, recall and the confusion counts of the winner's answers in the first
    repeat."""
    y, guess = table.labels[choice.compared], choice.guesses[choice.winner][0]
    counts = confusion_matrix(y, guess, labels=range(len(table.classes)))
    columns = counts.diagonal(), counts.sum(0), counts.sum(1)
    classes = {
        name: {
            "precision": float(hits / guessed) if guessed else None,
            "recall": float(hits / true),
        }
        for name, hits, guessed, true in zip(table.classes, *columns, strict=True)
    }
    return {"classes": classes, "confusion": counts.tolist(), "macro_f1": macro_f1(guess, y)}


def _words(table: GroupedSamples, choice: Choice, comparison: dict | None) -> list[str]:
    """Return the findings as sentences, with what they do not say."""
    winner, words = choice.winner, []
    i = choice.interval(winner)
    words.append(
        f"{NAMES[winner].capitalize()} won with macro-F1 {i:.3f} (corrected 95 % interval) in"
        " cross-validation."
    )
    if len(choice.methods) == 1:
        words.append(
            "No post has both a text and a picture, so nothing was compared: this is the only way"
            " to read them."
        )
    elif comparison is None:
        rivals = [m for m in choice.methods if m not in choice.singles]
        best = max(rivals, key=lambda m: choice.scores[m].mean())
        words.append(
            f"Fusion did not help: {NAMES[best]} minus {NAMES[winner]} is"
            f" {choice.against(best, winner)}."
        )
    else:
        c = choice.against(winner, choice.best_single)
        verdict = (
            "The difference is real: its interval, corrected for overlapping folds, lies above 0."
            if comparison["real"]
            else (
                "That is no evidence of a gain: the interval, corrected for overlapping folds,"
                f" holds 0. {NAMES[choice.best_single].capitalize()} may do as well."
            )
        )
        words += [
            f"It beat the best single modality, {NAMES[choice.best_single]}, by {c}.",
            verdict,
        ]
    if len(choice.methods) > 1:
        words.append(
            "The winner is the best of several, so expect slightly less than its score on new"
            " posts."
        )
    y, groups = table.labels.numpy(), table.groups
    few = [name for c, name in enumerate(table.classes) if len(np.unique(groups[y == c])) < FEW]
    if few:
        words.append(
            f"Of {', '.join(few)} there are fewer than {FEW} posts that are not reposts: no score"
            " says much."
        )
    return words
