"""Find the picture for a caption by ridge, CCA and InfoNCE, on themes never seen in training:
results of chapter 7.

python -m benchmarks.retrieval    needs the data set oasis; about five minutes on one idle core
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from mmtutor import data
from mmtutor.alignment import cca, info_nce, recall_at_k
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.evaluation import folds, grouped_split
from mmtutor.report import save_results

RESULTS = (
    Path(__file__).resolve().parent.parent / "book" / "07_alignment" / "results" / "retrieval.json"
)
KS = (1, 5, 10)
SPLITS, REPEATS = 4, 2
PENALTIES = (10, 100, 1000, 3000, 10000, 30000)
SHRINKAGES, DIMS = (0.3, 0.7, 0.9, 0.97, 0.99), (16, 32, 64, 128)
TEMPERATURES = (0.02, 0.07, 0.2, 0.5)
SWEEP = (0.005, 0.02, 0.07, 0.2, 0.5, 2.0)
STOPS, SWEEP_STEPS = (5, 10, 20, 40, 70, 100), 60
DROPOUT, WIDTH = 0.8, 128

Pair = tuple[Tensor, Tensor]
"""Pictures (N, 1280) and their captions (N, 384), or both in one space (N, D)."""


@lru_cache(maxsize=1)
def oasis() -> tuple[data.Dataset, Pair]:
    """Return the data set and the frozen features of its pictures and captions."""
    dataset = data.load("oasis")
    pictures = ImageEncoder("efficientnet-lite0").encode(dataset.modalities["image"])
    return dataset, (pictures, TextEncoder("minilm").encode(dataset.modalities["text"]))


def all_splits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) positions, no theme on both sides."""
    dataset, _ = oasis()
    return list(folds(dataset.labels, dataset.groups, splits=SPLITS, repeats=REPEATS))


def standardised(x: Tensor, train: np.ndarray) -> Tensor:
    """Centre and scale with what the training part knows, nothing else."""
    return (x - x[train].mean(0)) / x[train].std()


def theme_recall(captions: Tensor, pictures: Tensor, groups: np.ndarray) -> dict[int, float]:
    """Share of captions with a picture of their own theme among the k with the highest cosine."""
    unit = torch.nn.functional.normalize
    order = (unit(captions) @ unit(pictures).T).argsort(1, descending=True)
    same = torch.tensor(groups[order.numpy()] == groups[:, None])
    return {k: float(same[:, :k].any(1).double().mean()) for k in KS}


def mean_recall(pictures: Tensor, captions: Tensor) -> float:
    """Mean of recall at 1, 5 and 10: what all tuning maximises, on validation themes."""
    return float(np.mean(list(recall_at_k(captions, pictures, KS).values())))


def ridge(train: Pair, new: Pair, penalty: float) -> Pair:
    """Map pictures into the space of the captions by least squares with a penalty."""
    model = Ridge(alpha=penalty).fit(train[0].numpy(), train[1].numpy())
    return torch.from_numpy(model.predict(new[0].numpy())), new[1]


def tuned_ridge(train: Pair, fit: Pair, held: Pair, new: Pair) -> tuple[Pair, dict]:
    """Choose the penalty on `held`, fit on all of `train`; return `new` in one space, and what was
    chosen."""
    best = max(PENALTIES, key=lambda penalty: mean_recall(*ridge(fit, held, penalty)))
    return ridge(train, new, best), {"penalty": best}


def tuned_cca(train: Pair, fit: Pair, held: Pair, new: Pair) -> tuple[Pair, dict]:
    """Choose shrinkage and number of directions on `held`, fit on all of `train`."""
    trials = {}
    for shrinkage in SHRINKAGES:
        a, b, _ = cca(*fit, dims=max(DIMS), shrinkage=shrinkage)
        trials |= {
            (shrinkage, d): mean_recall(held[0] @ a[:, :d], held[1] @ b[:, :d]) for d in DIMS
        }
    shrinkage, dims = max(trials, key=trials.get)
    a, b, _ = cca(*train, dims=dims, shrinkage=shrinkage)
    return (new[0] @ a, new[1] @ b), {"shrinkage": shrinkage, "dims": dims}


def trained(
    pairs: Pair, new: Pair, dropout: float, temperature: float, stops: tuple[int, ...]
) -> Iterator[Pair]:
    """Train one linear head per modality with InfoNCE, all pairs in each step; yield `new` in one
    space at stops."""
    torch.manual_seed(0)
    picture, caption = (
        nn.Sequential(nn.Dropout(dropout), nn.Linear(x.shape[1], WIDTH)) for x in pairs
    )
    optimizer = torch.optim.AdamW(
        [*picture.parameters(), *caption.parameters()], lr=3e-3, weight_decay=0.1
    )
    for step in range(1, max(stops) + 1):
        picture.train(), caption.train()
        loss = info_nce(picture(pairs[0]), caption(pairs[1]), temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in stops:
            picture.eval(), caption.eval()
            with torch.no_grad():
                yield picture(new[0]), caption(new[1])


def heads(pairs: Pair, new: Pair, dropout: float, temperature: float, steps: int) -> Pair:
    """Train for so many steps; return `new` in one space."""
    return next(trained(pairs, new, dropout, temperature, (steps,)))


def tuned_heads(train: Pair, fit: Pair, held: Pair, new: Pair, dropout: float) -> tuple[Pair, dict]:
    """Choose temperature and number of steps on `held`, train on all of `train`."""
    trials = {}
    for temperature in TEMPERATURES:
        spaces = trained(fit, held, dropout, temperature, STOPS)
        trials |= {
            (temperature, stop): mean_recall(*pair)
            for stop, pair in zip(STOPS, spaces, strict=True)
        }
    temperature, steps = max(trials, key=trials.get)
    return heads(train, new, dropout, temperature, steps), {
        "temperature": temperature,
        "steps": steps,
    }


def shuffled(train: Pair) -> Pair:
    """Return the pairs with the captions in a random order: the control."""
    return train[0], train[1][
        torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(0))
    ]


def scores(pictures: Tensor, captions: Tensor, groups: np.ndarray) -> dict[str, list[float]]:
    """Return recall of the right picture, and of any picture of the right theme, at 1, 5 and 10."""
    theme = theme_recall(captions, pictures, groups)
    return {
        "recall": list(recall_at_k(captions, pictures, KS).values()),
        "theme": list(theme.values()),
    }


def split_row(number: int) -> dict:
    """Return sizes, and per method recall and theme recall at 1, 5, 10 with the settings chosen,
    for one split."""
    dataset, features = oasis()
    rows, test = all_splits()[number]
    rest, part = grouped_split(
        dataset.labels[rows], dataset.groups[rows], fraction=0.25, seed=number
    )
    x = [standardised(v, rows) for v in features]
    train, fit, held, new = (tuple(v[at] for v in x) for at in (rows, rows[rest], rows[part], test))
    spaces = {
        "ridge": tuned_ridge(train, fit, held, new),
        "CCA": tuned_cca(train, fit, held, new),
        "InfoNCE": tuned_heads(train, fit, held, new, DROPOUT),
        "no dropout": tuned_heads(train, fit, held, new, 0.0),
    }
    settings, weight = list(spaces["InfoNCE"][1].values()), spaces["ridge"][1]["penalty"]
    mixed = shuffled(train)
    spaces |= {
        "dropout off": (heads(train, new, 0.0, *settings), {}),
        "ridge, shuffled": (ridge(mixed, new, weight), {}),
        "InfoNCE, shuffled": (heads(mixed, new, DROPOUT, *settings), {}),
    }
    result: dict = {
        "n_train": len(rows),
        "n_test": len(test),
        "themes": len(set(dataset.groups[test])),
    }
    for name, (pair, chosen) in spaces.items():
        result[name] = scores(*pair, dataset.groups[test]) | {"chosen": chosen}
    sweep = {t: heads(train, new, DROPOUT, t, SWEEP_STEPS) for t in SWEEP}
    result["temperature"] = {str(t): mean_recall(*pair) for t, pair in sweep.items()}
    return result


def main() -> None:
    """Measure all splits and write the file."""
    torch.set_num_threads(1)  # heads this small are slower on two threads than on one
    save({f"split {number}": split_row(number) for number in range(SPLITS * REPEATS)})


def save(rows: dict) -> None:
    """Write the results file."""
    machine = f"{platform.machine()}, 1 thread, torch {torch.__version__.split('+')[0]}"
    save_results(RESULTS, command="python -m benchmarks.retrieval", machine=machine, rows=rows)


if __name__ == "__main__":
    main()
