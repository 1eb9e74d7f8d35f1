"""What a training run found, as JSON and as a page: the data, the comparison with its intervals,
what each modality adds, and for whom."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmtutor.apps.faults import Faults
from mmtutor.apps.rows import Roles, Rows, Survey
from mmtutor.apps.scores import class_scores, cut, ratios, threshold
from mmtutor.choosing.choice import Choice, Method
from mmtutor.choosing.grouped import GroupedSamples
from mmtutor.choosing.nested import answers_about, score_of
from mmtutor.evaluation import Interval

FEW = 10
"""Groups of a class below which its scores are hardly more than chance; the report says so."""
SHARES = (0.125, 0.25, 0.5)
"""Of the training groups, at which the learning curve is measured."""
LEVELS = {
    "early": "early fusion (one head)",
    "late": "late fusion (average of opinions)",
    "product": "late fusion (product of opinions)",
}


def title(name: str, method: Method) -> str:
    """Return what the report calls a method."""
    level, _, rest = name.partition(" without ")
    end = f" without {spoken(rest)}" if rest else ""
    return f"{spoken(name)} alone" if method.level == "alone" else LEVELS[level] + end


def spoken(modality: str) -> str:
    """Return what a person calls a modality."""
    return {"image": "picture", "audio": "sound"}.get(modality, modality)


def findings(
    table: GroupedSamples,
    slices: np.ndarray,
    choice: Choice,
    found: Survey,
    rows: Rows,
    faults: Faults,
    *,
    positive: tuple[str, ...] = (),
    curve: list[dict],
    **settings: Any,
) -> dict:
    """Return all findings for JSON. No entry holds a time or a path: equal runs, equal reports.

    methods[m]: score with its corrected interval, its folds, quality of the calibrated answers.
    worth[m]: what the best method that reads all loses without modality m. comparison: the winner
    minus the best single modality, null where a single one won. slices: for whom the best single
    and the best full method are right, and what of the `positive` classes they find. words: the
    findings as sentences. curve: see `learning_curve`.
    """
    y, w, best = table.labels[choice.compared], choice.winner, choice.best_single
    groups = table.groups[choice.compared.numpy()]
    unit, unit_of = "macro_f1" if table.classes else "r2", {"mae": found.target[1]}
    without = {m: name for m in choice.singles if (name := choice.without(m))}
    members = {c: table.labels.numpy() == k for k, c in enumerate(table.classes)}
    said = choice.guesses[w][0].numpy(), choice.calibrated[w][0].numpy(), y.numpy(), groups
    report = {
        "data": {
            "table": rows.name,
            "rows": len(table),
            "compared_on": len(choice.compared),
            "with": {m: int(table.having([m]).sum()) for m in table.modalities},
            "groups": len(np.unique(table.groups)),
            "classes": {name: int(mask.sum()) for name, mask in members.items()},
            "target": dict(zip(("mean", "deviation"), found.target, strict=True)),
        },
        "problems": faults.as_json(),
        "score": unit,
        "methods": {
            m: {
                "name": title(m, method),
                unit: _bounded(choice.interval(m), 0.0 if table.classes else -np.inf),
                "folds": [round(float(s), 6) for s in choice.scores[m]],
                **{k: v * unit_of.get(k, 1.0) for k, v in choice.quality[m].items()},
            }
            for m, method in choice.methods.items()
        },
        "winner": w,
        "best": choice.best(),
        "best_single": best,
        "full": choice.full,
        "lead": _difference(choice, choice.best(), w),
        "comparison": None if w == best else _difference(choice, w, best),
        "comparisons": len(choice.methods) - 1 + len(without),
        "worth": {m: _difference(choice, name, choice.full) for m, name in without.items()},
        "left_out": list(choice.left_out),
        "judged": class_scores(*said) if table.classes else {},
        "slices": _slices(table, slices, choice, rows.roles, positive, found.target[1]),
        "curve": curve,
        "scarce": [c for c, mask in members.items() if len(np.unique(table.groups[mask])) < FEW],
        "few": FEW,
        "strengths": choice.strengths,
        "settings": settings,
    }
    return report | {"words": _rendered("report_words.txt", report).splitlines()}


def learning_curve(
    table: GroupedSamples, choice: Choice, seed: int = 0, device: str | None = None
) -> list[dict]:
    """Return the winner's mean score over the folds of one repeat when it learns from SHARES of the
    training groups, then from all; shares at which a class would be missing are passed over."""
    table, w = table.only(choice.singles), choice.winner
    y = table.labels[choice.compared]
    _, group = np.unique(table.groups, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(group.max() + 1)[group] / (group.max() + 1)
    compared = np.isin(group, group[choice.compared.numpy()])
    points = []
    for share in SHARES:
        scores, sizes = [], []
        for _, test in choice.plan[: len(choice.plan) // len(choice.answers[w])]:
            rows = choice.compared[test]
            learnt = compared & (drawn < share) & ~np.isin(group, group[rows.numpy()])
            try:
                said, _ = answers_about(table, torch.from_numpy(learnt), rows, [w], 0, device)
            except ValueError:  # a class is missing
                break
            guess = said[w].argmax(1) if table.classes else said[w][:, 0]
            scores.append(score_of(guess, y[test]))
            sizes.append(learnt.sum())
        else:
            points.append({"rows": float(np.mean(sizes)), "score": float(np.mean(scores))})
    return [*points, {"rows": choice.n_train, "score": float(choice.scores[w].mean())}]


def page(report: dict) -> str:
    """Return a training report as an HTML page that asks no other file and no host, readable in
    light and dark, on a phone and on paper."""
    return _rendered("report_page.html", report)


def _rendered(name: str, report: dict) -> str:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=name.endswith("html"),
        undefined=StrictUndefined,
    )
    pages.filters |= {"spoken": spoken, "minus": lambda text: text.replace("-", "−")}
    return pages.get_template(name).render(report)


def _bounded(i: Interval, least: float) -> dict[str, Any]:
    return {
        "value": i.estimate,
        "interval": [max(i.low, least), min(i.high, 1.0)],
        "level": i.level,
    }


def _difference(choice: Choice, method: str, other: str) -> dict[str, Any]:
    c = choice.against(method, other)
    return {
        "method": method,
        "against": other,
        "difference": c.difference,
        "interval": [c.low, c.high],
        "p": c.p,
        "wins": c.wins,
        "folds": c.n,
        "real": bool(c.low > 0 or c.high < 0),
    }


def _slices(
    table: GroupedSamples,
    slices: np.ndarray,
    choice: Choice,
    roles: Roles,
    positive: tuple[str, ...],
    unit: float,
) -> list[dict]:
    """Return for all rows and for each slice: n, groups, and accuracy, sensitivity or absolute
    error of the best single and the best full method, and their differences."""
    y, rows = table.labels[choice.compared].numpy(), choice.compared.numpy()
    pair = list(dict.fromkeys([choice.best_single, choice.full]))
    which = [k for k, name in enumerate(table.classes) if name in positive]
    true, one = np.isin(y, which), np.ones(len(y))
    parts: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for m in pair:
        guesses = choice.guesses[m].numpy()
        if table.classes:
            parts[m] = {"accuracy": ((guesses == y).mean(0), one)}
        else:
            parts[m] = {"error": (np.abs(guesses - y).mean(0) * unit, one)}
        if true.any():
            risk = choice.calibrated[m][..., which].sum(2).numpy()
            flagged = np.mean([p > threshold(p, true) for p in risk], axis=0)
            parts[m]["sensitivity"] = (flagged * true, true)
    first, last = parts[pair[0]], parts[pair[-1]]
    if len(pair) > 1:
        parts["difference"] = {k: (last[k][0] - first[k][0], last[k][1]) for k in first}
    masks = [("all", np.ones(len(y), bool))]
    for k, column in enumerate(roles.slices):
        masks += cut(column, slices[rows][:, k])
    found = []
    for name, mask in masks:
        if mask.any():
            groups = table.groups[rows][mask]
            flat = {(m, k): tuple(p[mask] for p in parts[m][k]) for m in parts for k in first}
            scored = ratios(flat, groups)
            each = {m: {k: scored[m, k] for k in first} for m in parts}
            sizes = {"n": int(mask.sum()), "groups": len(np.unique(groups))}
            rare = {"positive": int(true[mask].sum())} if positive else {}
            found.append({"slice": name, **sizes, **rare, "scores": each})
    return found
