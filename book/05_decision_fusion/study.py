"""Decision rules on digits seen and heard, before and after calibration.

python book/05_decision_fusion/study.py        8 minutes in two processes
python book/05_decision_fusion/study.py PART   rules, leak or evidential

Each part trains its models from ten starts (evidential: five) and judges them
on accents that they never heard. Intervals redraw the forty speakers and the
starts.
Nothing is downloaded.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from mmtutor import data
from mmtutor.choosing.comparison import decisions
from mmtutor.evaluation import (
    accuracy,
    apply_temperature,
    expected_calibration_error,
    grouped_split,
    log_loss,
    pigeonhole_bootstrap,
    temperature_scale,
)
from mmtutor.fusion import ConcatFusion, FusionClassifier, decision
from mmtutor.report import save_results
from mmtutor.training import Loss, fit, predict
from mmtutor.types import Samples

RESULTS = Path(__file__).resolve().parent / "results"
ACCENTS, CLASSES = 4, 10
FLOOR = 1e-3  # a vote may give the truth 0: its log loss would be infinite
LEARNT = ("stacking, linear", "stacking, trees")
WAYS = ("raw", "models", "result", "both")  # what is calibrated
MODALITIES = ("image", "audio")
PENALTIES = (0.01, 0.1, 1.0)


@lru_cache(maxsize=1)
def digits() -> data.Dataset:
    """Pictures with pixel noise, and voices under loud noise."""
    return data.load("digits", image_noise=0.5, snr_db=-16)


def parts_of(accent: int) -> dict[str, np.ndarray]:
    """The rows to learn from, to calibrate on and to judge by: one accent is
    judged, and some voice settings of the other three are held out."""
    voices, accents = digits().targets["voice"].numpy(), digits().groups
    known = np.flatnonzero(accents != accent)
    learn, held = grouped_split(
        digits().labels[known], voices[known] % 10, fraction=0.25, seed=0
    )
    return {
        "learn": known[learn],
        "held": known[held],
        "test": np.flatnonzero(accents == accent),
    }


def answers_of(
    x: Tensor, rows: dict, start: int, rest: Tensor | None = None, **options
) -> dict:
    """Train one model on x from one start; return part → its logits.

    rest: other features of all rows, for which "rest" holds the logits of the
    test rows. options: hidden, epochs, lr, weight_decay, loss, as `fit` takes
    them.
    """
    hidden = options.pop("hidden", 128)
    mean, deviation = x[rows["learn"]].mean(0), x[rows["learn"]].std()
    samples = Samples({"x": (x - mean) / deviation}, digits().labels)
    torch.manual_seed(start)
    model = FusionClassifier(
        ConcatFusion({"x": x.shape[1]}), CLASSES, hidden=hidden
    )
    settings = {"epochs": 25, "lr": 3e-3, "batch_size": 128} | options
    fit(model, samples[rows["learn"]], seed=start, device="cpu", **settings)
    logits = {part: predict(model, samples[i]) for part, i in rows.items()}
    if rest is not None:
        samples = Samples({"x": (rest - mean) / deviation}, digits().labels)
        logits["rest"] = predict(model, samples[rows["test"]])
    return logits


def fit_pool(held_out: dict[str, Tensor], y: Tensor) -> dict[str, float]:
    """The weights ≥ 0 of a log-linear pool with the lowest log loss."""
    logs = [p.double().clamp(min=1e-12).log() for p in held_out.values()]
    logs = torch.stack(logs)  # (M, N, C)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(weights, requires_grad=True)
        value = F.cross_entropy(torch.einsum("m,mnc->nc", w, logs), y)
        value.backward()
        return value.item(), w.grad.numpy()

    found = minimize(
        loss,
        np.ones(len(logs)),
        jac=True,
        bounds=[(0, None)] * len(logs),
    )
    return dict(zip(held_out, map(float, found.x), strict=True))


def safe(p: Tensor) -> Tensor:
    """Probabilities of which none is below FLOOR."""
    p = p.clamp(min=FLOOR)
    return p / p.sum(1, keepdim=True)


def logarithms(p: Tensor) -> Tensor:
    """Logits of an opinion that may hold zeros."""
    return p.clamp(min=1e-6).log()


def recalibrated(p: Tensor, held_out: Tensor, y: Tensor) -> Tensor:
    """p at the temperature that fits held_out, y."""
    temperature = temperature_scale(logarithms(held_out), y)
    return apply_temperature(logarithms(p), temperature)


def combined(probs: dict, held_out: dict, y: Tensor) -> dict[str, Tensor]:
    """Rule → probabilities: the single modalities, the package's rules and the
    pool. Everything learnt is learnt from held_out and y."""
    best = min(held_out, key=lambda m: log_loss(held_out[m], y))
    pool = fit_pool(held_out, y)
    return {
        "best single": probs[best],
        "picture": probs["image"],
        "sound": probs["audio"],
        "log-linear pool": decision.log_linear_pool(probs, pool),
    } | decisions(probs, held_out, y)


def one_accent(start: int, accent: int) -> tuple[dict, dict]:
    """way → rule → probabilities of the test rows, and facts about them."""
    rows, y = parts_of(accent), digits().labels
    logits = {
        m: answers_of(digits().modalities[m].flatten(1), rows, start)
        for m in MODALITIES
    }
    y_held = y[rows["held"]]
    temperature = {
        m: temperature_scale(logits[m]["held"], y_held) for m in MODALITIES
    }
    result = {}
    for first, then in (("raw", "result"), ("models", "both")):
        t = temperature if first == "models" else dict.fromkeys(MODALITIES, 1.0)
        test, held = (
            {m: apply_temperature(logits[m][part], t[m]) for m in MODALITIES}
            for part in ("test", "held")
        )
        result[first] = combined(test, held, y_held)
        again = combined(held, held, y_held)
        # what was fitted on the held-out opinions is not calibrated on them
        result[then] = {
            rule: p if rule in LEARNT else recalibrated(p, again[rule], y_held)
            for rule, p in result[first].items()
        }
    raw_held = {m: logits[m]["held"].softmax(1) for m in MODALITIES}
    facts = {
        "temperature": temperature,
        "weights": fit_pool(raw_held, y_held),
        "reliability": {
            m: (accuracy(p.argmax(1), y_held) - 1 / CLASSES) / (1 - 1 / CLASSES)
            for m, p in held.items()
        },
    }
    return result, facts


def rules_start(start: int) -> dict:
    """All accents judged from one start: scores of each sample, by way and
    rule, and what was fitted."""
    y, scores, facts, pooled = digits().labels, {}, [], {}
    for accent in range(ACCENTS):
        test = parts_of(accent)["test"]
        result, fact = one_accent(start, accent)
        facts.append(fact)
        for way, rules in result.items():
            for rule, p in rules.items():
                whole = pooled.setdefault((way, rule), torch.empty(len(y), 10))
                whole[test] = p.float()
    for (way, rule), p in pooled.items():
        nats = -safe(p)[torch.arange(len(y)), y].log()
        scores[f"{rule} | {way}"] = {
            "hit": (p.argmax(1) == y).numpy(),
            "nats": nats.numpy(),
            "ece": expected_calibration_error(p, y),
        }
    favourite = [
        pooled["models", m].argmax(1).numpy() for m in ("picture", "sound")
    ]
    return {
        "scores": scores,
        "facts": facts,
        "tie": float((favourite[0] != favourite[1]).mean()),
    }


def over_speakers_and_starts(values: np.ndarray) -> dict:
    """values: (starts, N) → their mean, and the interval of 95 % over redrawn
    speakers and redrawn starts; starts: the mean of each."""
    found = pigeonhole_bootstrap(values, digits().targets["voice"])
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "starts": [round(float(v), 4) for v in values.mean(1)],
    }


def rules_rows(found: list[dict]) -> dict:
    """rule | way → accuracy, log loss, and differences with their intervals."""
    keys = list(found[0]["scores"])

    def stacked(key: str, score: str) -> np.ndarray:
        return np.stack([f["scores"][key][score] for f in found]).astype(float)

    rows = {}
    for key in keys:
        rule, way = key.split(" | ")
        hit, nats = stacked(key, "hit"), stacked(key, "nats")
        row = {
            "accuracy": over_speakers_and_starts(hit),
            "log loss": over_speakers_and_starts(nats),
            "calibration error": float(
                np.mean([f["scores"][key]["ece"] for f in found])
            ),
        }
        best = stacked(f"best single | {way}", "hit")
        product = stacked(f"product | {way}", "hit")
        row["minus best single"] = over_speakers_and_starts(hit - best)
        row["minus product"] = over_speakers_and_starts(hit - product)
        raw = f"{rule} | {WAYS[0]}"
        for score in ("hit", "nats"):
            row[f"{score} minus raw"] = over_speakers_and_starts(
                stacked(key, score) - stacked(raw, score)
            )
        rows[key] = row
    rows["facts"] = {
        "fitted": [f["facts"] for f in found],
        "favourites differ": [f["tie"] for f in found],
    }
    return rows


def leak_start(start: int) -> dict:
    """Stacking learnt from held-out opinions, and from opinions about the
    models' own training samples. The sound is drowned and learnt by heart."""
    y = digits().labels
    drowned = data.load("digits", image_noise=0.5, snr_db=-24)
    kinds = {
        "picture": (
            digits().modalities["image"].flatten(1),
            {"hidden": None, "epochs": 3, "lr": 6e-3, "weight_decay": 1.0},
        ),
        "sound": (
            drowned.modalities["audio"].flatten(1),
            {"epochs": 25, "lr": 6e-3},
        ),
    }
    answer, heart = {}, {name: [] for name in kinds}
    for accent in range(ACCENTS):
        rows = parts_of(accent)
        p = {part: {} for part in rows}
        for name, (x, options) in kinds.items():
            logits = answers_of(x, rows, start, **options)
            for part in rows:
                p[part][name] = logits[part].softmax(1)
            right = accuracy(p["learn"][name].argmax(1), y[rows["learn"]])
            heart[name].append(right)
        told = dict(p["test"])
        for part in ("held", "learn"):
            stacking = decision.Stacking().fit(p[part], y[rows[part]])
            told[part] = stacking.predict_proba(p["test"])
        for name, q in told.items():
            whole = answer.setdefault(name, np.empty(len(y), bool))
            whole[rows["test"]] = (q.argmax(1) == y[rows["test"]]).numpy()
    return {"hit": answer, "own": {m: np.mean(v) for m, v in heart.items()}}


def leak_rows(found: list[dict]) -> dict:
    """name → accuracy on new accents; what the training opinions cost."""
    hits = {
        name: np.stack([f["hit"][name] for f in found]).astype(float)
        for name in found[0]["hit"]
    }
    rows = {n: over_speakers_and_starts(v) for n, v in hits.items()}
    rows["learn minus held"] = over_speakers_and_starts(
        hits["learn"] - hits["held"]
    )
    for name in ("picture", "sound"):
        own = [float(f["own"][name]) for f in found]
        rows[f"{name}, own training samples"] = {
            "estimate": float(np.mean(own)),
            "starts": [round(v, 4) for v in own],
        }
    return rows


def evidential(kl: float) -> Loss:
    """Expected cross-entropy under a Dirichlet of evidence softplus(logits),
    plus kl times its divergence from no evidence, the true class left out."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        alpha = F.softplus(logits) + 1
        truth = F.one_hot(y, alpha.shape[1])
        misses = torch.digamma(alpha.sum(1)) - torch.digamma(
            (truth * alpha).sum(1)
        )
        wrong = Dirichlet(truth + (1 - truth) * alpha)
        none = Dirichlet(torch.ones_like(alpha))
        return misses + kl * kl_divergence(wrong, none)

    return loss


def opinion(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Beliefs (B, C) and uncertainty (B, 1) of the evidence."""
    evidence = F.softplus(logits)
    strength = evidence.sum(1, keepdim=True) + evidence.shape[1]
    return evidence / strength, evidence.shape[1] / strength


def reduced_dempster(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The fused opinion, and the conflict (B, 1)."""
    (b, u), (c, v) = first, second
    agree = (b * c).sum(1, keepdim=True)
    clash = b.sum(1, keepdim=True) * c.sum(1, keepdim=True) - agree
    fused = (b * c + b * v + c * u) / (1 - clash), u * v / (1 - clash)
    return fused, clash


def expected(opinion: tuple[Tensor, Tensor]) -> Tensor:
    """Beliefs, and the uncertainty in equal shares: (B, C)."""
    belief, uncertainty = opinion
    return belief + uncertainty / belief.shape[1]


def swapped(rows: np.ndarray, y: Tensor, seed: int) -> np.ndarray:
    """For each row another row of another digit."""
    rng, labels = np.random.default_rng(seed), y[rows].numpy()
    return np.array(
        [rng.choice(np.flatnonzero(labels != label)) for label in labels]
    )


def evidential_start(start: int) -> dict:
    """Two evidential models, fused by the reduced rule, beside two calibrated
    ones, multiplied: on pairs as they are, on pairs of two digits, and with a
    voice that cannot be heard."""
    y, found = digits().labels, {}
    silence = data.load("digits", image_noise=0.5, snr_db=-60)
    silence = silence.modalities["audio"].flatten(1)
    chosen = []

    def note(name: str, rows: np.ndarray, values: Tensor) -> None:
        whole = found.setdefault(name, np.empty(len(y)))
        whole[rows] = values.flatten().numpy()

    for accent in range(ACCENTS):
        rows = parts_of(accent)
        test, held, other = rows["test"], rows["held"], {}
        evidence, plain = {}, {}
        for m in MODALITIES:
            x = digits().modalities[m].flatten(1)
            rest = silence if m == "audio" else x
            kinds = {kl: evidential(kl) for kl in PENALTIES} | {None: None}
            told = {}
            for kl, loss in kinds.items():
                options = {} if loss is None else {"loss": loss}
                told[kl] = answers_of(x, rows, start, rest=rest, **options)
            best = min(
                PENALTIES,
                key=lambda kl, told=told: log_loss(
                    expected(opinion(told[kl]["held"])), y[held]
                ),
            )
            chosen.append(best)
            evidence[m], plain[m] = told[best], told[None]
            other[m] = temperature_scale(plain[m]["held"], y[held])
        shuffle = swapped(test, y, start)
        cases = {
            "pairs": ("test", slice(None)),
            "two digits": ("test", shuffle),
            "silence": ("rest", slice(None)),
        }
        for case, (part, order) in cases.items():
            seen = opinion(evidence["image"]["test"])
            heard = tuple(v[order] for v in opinion(evidence["audio"][part]))
            fused, clash = reduced_dempster(seen, heard)
            probs = {
                "image": apply_temperature(
                    plain["image"]["test"], other["image"]
                ),
                "audio": apply_temperature(
                    plain["audio"][part][order], other["audio"]
                ),
            }
            product = decision.product_rule(probs)
            note(f"{case} | conflict", test, clash)
            for name, o in (
                ("picture", seen),
                ("sound", heard),
                ("fused", fused),
            ):
                note(f"{case} | uncertainty, {name}", test, o[1])
            answers = {
                "evidential": expected(fused),
                "evidential, picture": expected(seen),
                "evidential, sound": expected(heard),
                "product": product,
                "picture": probs["image"],
                "sound": probs["audio"],
            }
            for name, p in answers.items():
                note(f"{case} | {name} | sure", test, p.amax(1))
                note(f"{case} | {name} | hit", test, p.argmax(1) == y[test])
                nats = -safe(p)[torch.arange(len(test)), y[test]].log()
                note(f"{case} | {name} | nats", test, nats)
    return {"scores": found, "chosen": chosen}


def evidential_rows(found: list[dict]) -> dict:
    """What was noted → mean and interval; the two fusions' difference."""
    scores = {
        key: np.stack([f["scores"][key] for f in found])
        for key in found[0]["scores"]
    }
    for case in ("pairs", "silence"):
        for score in ("hit", "nats"):
            one = scores[f"{case} | evidential | {score}"]
            for name in ("product", "evidential, picture"):
                scores[f"{case} | evidential minus {name} | {score}"] = (
                    one - scores[f"{case} | {name} | {score}"]
                )
    # there is no right answer about two digits
    rows = {
        key: over_speakers_and_starts(values)
        for key, values in scores.items()
        if not (key.startswith("two") and key.endswith(("hit", "nats")))
    }
    return rows | {"penalties": [f["chosen"] for f in found]}


PLANS = {
    "rules": (rules_start, rules_rows, 10),
    "leak": (leak_start, leak_rows, 10),
    "evidential": (evidential_start, evidential_rows, 5),
}


def _task(job: tuple[str, int]) -> dict:
    torch.set_num_threads(1)
    return PLANS[job[0]][0](job[1])


def main(names: list[str]) -> None:
    """Measure the named files (default: all) and write each when it is
    whole."""
    for name in names:
        if name not in PLANS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PLANS)}")
    for name in names or PLANS:
        _, summary, starts = PLANS[name]
        found = []
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for one in pool.imap(_task, [(name, s) for s in range(starts)]):
                found.append(one)
                print(f"{name} {len(found)}/{starts}", flush=True)
            pool.close()
            # an orderly end: killed workers leave semaphores and a warning
            pool.join()
        machine = (
            f"{platform.machine()}, {os.cpu_count()} cores, 2 processes, torch"
            f" {torch.__version__.split('+')[0]}"
        )
        save_results(
            RESULTS / f"{name}.json",
            command=f"python book/05_decision_fusion/study.py {name}",
            machine=machine,
            rows=summary(found),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
