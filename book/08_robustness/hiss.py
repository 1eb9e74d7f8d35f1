"""Digits seen and heard: trained in one noise or in many, then tested in other
noise, in other damage and with a modality missing.

`study.py hiss` runs it. Five training starts; each accent is judged by models
that never heard it. Intervals redraw the forty voices and the starts, not the
noise, of which there is one draw. Nothing is downloaded.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmtutor import data
from mmtutor.choosing.comparison import Split, joint_models, tuned
from mmtutor.encoders import AudioEncoder
from mmtutor.evaluation import (
    accuracy,
    apply_temperature,
    expected_calibration_error,
    grouped_split,
    pigeonhole_bootstrap,
    temperature_scale,
)
from mmtutor.fusion import decision
from mmtutor.robustness import CrossModalImputer, ModalityDropout, corrupt
from mmtutor.training import predict
from mmtutor.types import Samples

STARTS, ACCENTS = 5, 4
LEVELS = (0.0, 0.3, 0.6, 0.85, 0.95, 1.0)
REGIMES = {"usual": (0.85,), "many": (0.0, 0.6, 0.85, 1.0)}
DAMAGE = {
    "image": ("blur", "occlusion", "brightness", "jpeg"),
    "audio": ("clipping", "dropouts"),
}
OTHER = {"image": "audio", "audio": "image"}
TRAINING = {"lr": 3e-3, "decays": (0.1, 10.0)}
FUSIONS = ("concat", "product")


def seeded(seed: int) -> torch.Generator:
    """A generator in a known state."""
    return torch.Generator().manual_seed(seed)


@lru_cache(maxsize=1)
def world() -> dict:
    """Features of all digits in all conditions: (N, 64) and (N, 768)."""
    raw = data.load("digits", waveforms=True)
    ear = AudioEncoder(sample_rate=raw.card["sample_rate"])
    waves = raw.modalities["waveform"]
    hissing = {
        s: corrupt(waves, "audio", "noise", s, seeded(1)) for s in LEVELS
    }
    noisy = corrupt(raw.modalities["image"], "image", "noise", 0.5, seeded(0))
    damaged = {
        kind: corrupt(noisy, "image", kind, 0.5, seeded(2)).flatten(1)
        for kind in DAMAGE["image"]
    }
    for kind in DAMAGE["audio"]:
        worse = corrupt(hissing[0.85], "audio", kind, 0.5, seeded(2))
        damaged[kind] = ear.encode(worse)
    return {
        "y": raw.labels,
        "voices": raw.targets["voice"].numpy(),
        "accents": np.asarray(raw.groups),
        "picture": noisy.flatten(1),
        "sound": {s: ear.encode(waves) for s, waves in hissing.items()},
        "damaged": damaged,
    }


def gather(levels: tuple, rows: np.ndarray) -> Samples:
    """One copy of the digits `rows` per level of noise in the sound."""
    w = world()
    audio = torch.cat([w["sound"][s][rows] for s in levels])
    picture = w["picture"][rows].repeat(len(levels), 1)
    labels = w["y"][rows].repeat(len(levels))
    return Samples({"image": picture, "audio": audio}, labels)


def standardiser(train: Samples):
    """Mean 0 and deviation 1 for each feature, as measured on `train`."""
    mean = {m: x.mean(0) for m, x in train.features.items()}
    scale = {m: x.std(0).clamp(min=1e-6) for m, x in train.features.items()}

    def standardised(s: Samples) -> Samples:
        x = {m: (v - mean[m]) / scale[m] for m, v in s.features.items()}
        return Samples(x, s.labels, s.present)

    return standardised


def train_fold(levels: tuple, accent: int, start: int) -> dict:
    """Three models and their temperatures, for one accent held out."""
    w = world()
    test = np.flatnonzero(w["accents"] == accent)
    train = np.flatnonzero(w["accents"] != accent)
    rest, held = grouped_split(
        w["y"][train], w["voices"][train] % 10, fraction=0.25, seed=0
    )
    learn = gather(levels, train[rest])
    standardised = standardiser(learn)
    held_out = standardised(gather(levels, train[held]))
    split = Split(standardised(learn), held_out, held_out)
    fold = {"test": test, "standardised": standardised, "split": split}
    views = {
        "concat": split,
        "image": split.only(["image"]),
        "audio": split.only(["audio"]),
    }
    build = {"MLP": joint_models()["concat MLP"]}
    fold["models"] = {
        name: tuned(build, view, 10, seed=start, **TRAINING)
        for name, view in views.items()
    }
    fold["temperature"] = {
        name: temperature_scale(
            predict(model, views[name].validation),
            views[name].validation.labels,
        )
        for name, model in fold["models"].items()
    }
    return fold


def opinions(fold: dict, samples: Samples) -> dict[str, Tensor]:
    """Method → probabilities of the accent that the fold holds out."""
    s = fold["standardised"](samples[fold["test"]])
    p = {}
    for name, model in fold["models"].items():
        view = s if name == "concat" else s.only([name])
        t = fold["temperature"][name]
        p[name] = apply_temperature(predict(model, view), t)
    singles = {m: p[m] for m in OTHER}
    p["product"] = decision.product_rule(singles, present=s.present)
    return p


def conditions() -> dict[str, Samples]:
    """Name → all digits, the sound in another noise or one modality damaged."""
    w = world()
    found = {
        f"noise {s}": Samples({"image": w["picture"], "audio": x}, w["y"])
        for s, x in w["sound"].items()
    }
    usual = {"image": w["picture"], "audio": w["sound"][0.85]}
    for modality, kinds in DAMAGE.items():
        for kind in kinds:
            x = usual | {modality: w["damaged"][kind]}
            found[kind] = Samples(x, w["y"])
    return found


def absences() -> dict[str, Samples]:
    """Name → all digits in usual noise, complete or with one modality gone."""
    w = world()
    x = {"image": w["picture"], "audio": w["sound"][0.85]}
    none = torch.zeros(len(w["y"]), dtype=torch.bool)
    gone = {
        "complete": None,
        "no sound": {"audio": none},
        "no picture": {"image": none},
    }
    return {name: Samples(x, w["y"], mask) for name, mask in gone.items()}


def best_imputer(fold: dict) -> CrossModalImputer:
    """The penalty that serves the network best on held-out samples whose sound
    is hidden."""
    held_out, train = fold["split"].validation, fold["split"].train
    none = torch.zeros(len(held_out), dtype=torch.bool)
    mute = Samples(held_out.features, held_out.labels, {"audio": none})
    trials = [CrossModalImputer(a).fit(train) for a in (100.0, 10_000.0)]

    def right(imputer: CrossModalImputer) -> float:
        logits = predict(fold["models"]["concat"], imputer.transform(mute))
        return accuracy(logits.argmax(1), mute.labels)

    return max(trials, key=right)


def missing(fold: dict, start: int) -> dict[str, dict[str, Tensor]]:
    """Absence → method → probabilities of the accent held out."""
    build = {"MLP": joint_models()["concat MLP"]}
    dropout = tuned(
        build,
        fold["split"],
        10,
        seed=start,
        augment=ModalityDropout(0.3),
        **TRAINING,
    )
    imputer, found = best_imputer(fold), {}
    for name, samples in absences().items():
        s = fold["standardised"](samples[fold["test"]])
        p = opinions(fold, samples)
        p["concat, mask only"] = p.pop("concat")
        p["concat, dropout"] = predict(dropout, s)
        guess = imputer.transform(s)
        p["concat, imputed"] = predict(fold["models"]["concat"], guess)
        found[name] = p
    return found


def one_start(start: int) -> dict[str, np.ndarray]:
    """ "regime | condition | method" → (N,) right or wrong, and for the levels
    of noise "ece" and "sure" with one number each."""
    w = world()
    y, whole = w["y"], {}
    for regime, levels in REGIMES.items():
        for accent in range(ACCENTS):
            fold = train_fold(levels, accent, start)
            told = {n: opinions(fold, s) for n, s in conditions().items()}
            if regime == "many":
                told |= missing(fold, start)
            for name, methods in told.items():
                for method, p in methods.items():
                    key = f"{regime} | {name} | {method}"
                    whole.setdefault(key, torch.empty(len(y), 10))
                    whole[key][fold["test"]] = p.float()
    found = {}
    for key, p in whole.items():
        found[key] = (p.argmax(1) == y).double().numpy()
        if " | noise " in key:
            found[f"ece | {key}"] = expected_calibration_error(p, y)
            found[f"sure | {key}"] = float(p.amax(1).mean())
    return found


def interval(values: np.ndarray) -> dict:
    """values: (starts, N) → their mean, and the interval of 95 % over redrawn
    voices and redrawn starts; starts: the mean of each."""
    found = pigeonhole_bootstrap(values, world()["voices"])
    return {
        "estimate": round(found.estimate, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "starts": [round(float(v), 4) for v in values.mean(1)],
    }


def rows_of(found: list[dict]) -> dict:
    """Accuracies, and differences over the same samples, with intervals."""
    hits = {
        key: np.stack([f[key] for f in found])
        for key in found[0]
        if not key.startswith(("ece", "sure"))
    }
    rows = {f"accuracy | {key}": interval(v) for key, v in hits.items()}
    first = np.flatnonzero(world()["accents"] == 0)
    for key, v in hits.items():
        right = round(float(v[0, first].mean()), 4)
        rows[f"accuracy | {key}"]["first accent, first start"] = right
    for key in found[0]:
        if key.startswith(("ece", "sure")):
            values = [float(f[key]) for f in found]
            rows[key] = {
                "estimate": round(float(np.mean(values)), 4),
                "starts": [round(v, 4) for v in values],
            }
    lost = {f"noise {s}": "audio" for s in LEVELS} | {
        kind: m for m, kinds in DAMAGE.items() for kind in kinds
    }
    for regime in REGIMES:
        for m in FUSIONS:
            for name, modality in lost.items():
                fused = hits[f"{regime} | {name} | {m}"]
                alone = hits[f"{regime} | {name} | {OTHER[modality]}"]
                rows[f"gain | {regime} | {name} | {m}"] = interval(
                    fused - alone
                )
            usual = f"{regime} | noise 0.85"
            rows[f"gain | {regime} | usual picture | {m}"] = interval(
                hits[f"{usual} | {m}"] - hits[f"{usual} | audio"]
            )
    for m in FUSIONS:
        rows[f"price | {m}"] = interval(
            hits[f"many | noise 0.85 | {m}"] - hits[f"usual | noise 0.85 | {m}"]
        )
    alone = {"no sound": "image", "no picture": "audio"}
    for name in absences():
        mask = hits[f"many | {name} | concat, mask only"]
        for m in ("concat, dropout", "concat, imputed"):
            v = hits[f"many | {name} | {m}"]
            rows[f"against mask | {name} | {m}"] = interval(v - mask)
            if name in alone:
                single = hits[f"many | {name} | {alone[name]}"]
                rows[f"against single | {name} | {m}"] = interval(v - single)
    return rows


def measured(starts: int = STARTS) -> dict:
    """All rows of results/hiss.json."""
    found = []
    for start in range(starts):
        found.append(one_start(start))
        print(f"hiss {start + 1}/{starts}", flush=True)
    return rows_of(found)
