"""What chapter 7 learns from many training starts, and from many splits.

python book/07_alignment/study.py        about 20 minutes on one idle core
python book/07_alignment/study.py PART   retrieval, transcript or syllables

retrieval: find the picture for a caption on new themes, by ridge, CCA and
InfoNCE; needs oasis. transcript: align English phonemes with two CTC networks
that see a short and a long stretch; ten starts of each. syllables: align
Mandarin characters with a network that learnt sentences or the same with their
characters shuffled; five starts of each.

A trained recogniser differs a little from processor to processor. So the pages
show these rows, and train one start live. They import from here what they do
not show.
"""

from __future__ import annotations

import itertools
import platform
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from mmtutor import data
from mmtutor.alignment import cca, forced_align, info_nce, recall_at_k
from mmtutor.encoders import ImageEncoder, TextEncoder
from mmtutor.evaluation import Interval, folds, grouped_split
from mmtutor.report import save_results
from mmtutor.speech import (
    SAMPLE_RATE,
    VARIANTS,
    Request,
    Utterance,
    add_noise,
    insert_pauses,
    speak_all,
)
from mmtutor.speech.logmel import mel_filters

RESULTS = Path(__file__).resolve().parent / "results"
KS = (1, 5, 10)
SPLITS, REPEATS = 4, 2
PENALTIES = (10, 100, 1000, 3000, 10000, 30000)
SHRINKAGES, DIMS = (0.3, 0.7, 0.9, 0.97, 0.99), (16, 32, 64, 128)
TEMPERATURES = (0.02, 0.07, 0.2, 0.5)
SWEEP = (0.005, 0.02, 0.07, 0.2, 0.5, 2.0)
STOPS, SWEEP_STEPS = (5, 10, 20, 40, 70, 100), 60
DROPOUT, WIDTH = 0.8, 128

STARTS = 10  # of every recogniser of English
SYLLABLE_STARTS = 5  # of every recogniser of Mandarin
NEW = ("f4", "f5", "m5", "m6", "m7", "m8")  # speakers of the test recordings
OLD = [v for v in VARIANTS if v not in NEW]
# training recordings whose onsets give the delay, and nothing else
KNOWN = slice(0, 100)
HOP, SECONDS = 441, 441 / SAMPLE_RATE  # a frame every 20 ms
FILTERS, WINDOW = mel_filters(1024, SAMPLE_RATE, 40), torch.hann_window(551)
# dilations: all else is equal
FIELDS = {
    "narrow": (1, 1, 1),
    "wide": (1, 2, 4),
}
WORDS = """
seven people walk slowly home under bright yellow lights water falls green
stone children read old books winter morning birds sing garden door opens
paper quiet river boat travels north music train leaves station coffee table
window summer doctor brother father mother sister market village mountain
flower bread cheese money letter question answer yesterday tomorrow never
always maybe little heavy simple careful strange ready happy
""".split()  # noqa: SIM905
SLOTS = [
    part.split()
    for part in (
        "我们 他们 老师 同学 工人 孩子 朋友 医生",
        "今天 明天 昨天 每天 现在 半夜",
        "在学校 在家 去北京 去公园 在车上",
        "学习 看书 吃饭 喝茶 听新闻 写信 唱歌 工作 买东西",
    )
]
CHARACTERS = sorted(set("".join(itertools.chain(*SLOTS))))

Pair = tuple[Tensor, Tensor]
"""Pictures (N, 1280) and their captions (N, 384), or both in one space (N,
D)."""


@lru_cache(maxsize=1)
def oasis() -> tuple[data.Dataset, Pair]:
    """Return the data set and the frozen features of its pictures and
    captions."""
    dataset = data.load("oasis")
    pictures = ImageEncoder("efficientnet-lite0").encode(
        dataset.modalities["image"]
    )
    return dataset, (
        pictures,
        TextEncoder("minilm").encode(dataset.modalities["text"]),
    )


def all_splits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) positions, no theme on both sides."""
    dataset, _ = oasis()
    return list(
        folds(dataset.labels, dataset.groups, splits=SPLITS, repeats=REPEATS)
    )


def standardised(x: Tensor, train: np.ndarray) -> Tensor:
    """Centre and scale with what the training part knows, nothing else."""
    return (x - x[train].mean(0)) / x[train].std()


def theme_recall(
    captions: Tensor, pictures: Tensor, groups: np.ndarray
) -> dict[int, float]:
    """Share of captions with a picture of their own theme among the k with the
    highest cosine."""
    unit = torch.nn.functional.normalize
    order = (unit(captions) @ unit(pictures).T).argsort(1, descending=True)
    same = torch.tensor(groups[order.numpy()] == groups[:, None])
    return {k: float(same[:, :k].any(1).double().mean()) for k in KS}


def mean_recall(pictures: Tensor, captions: Tensor) -> float:
    """Mean of recall at 1, 5 and 10: what all tuning maximises, on validation
    themes."""
    return float(np.mean(list(recall_at_k(captions, pictures, KS).values())))


def ridge(train: Pair, new: Pair, penalty: float) -> Pair:
    """Map pictures into the space of the captions by least squares with a
    penalty."""
    model = Ridge(alpha=penalty).fit(train[0].numpy(), train[1].numpy())
    return torch.from_numpy(model.predict(new[0].numpy())), new[1]


def tuned_ridge(
    train: Pair, fit: Pair, held: Pair, new: Pair
) -> tuple[Pair, dict]:
    """Choose the penalty on `held`, fit on all of `train`; return `new` in one
    space, and what was chosen."""
    best = max(
        PENALTIES, key=lambda penalty: mean_recall(*ridge(fit, held, penalty))
    )
    return ridge(train, new, best), {"penalty": best}


def tuned_cca(
    train: Pair, fit: Pair, held: Pair, new: Pair
) -> tuple[Pair, dict]:
    """Choose shrinkage and number of directions on `held`, fit on all of
    `train`."""
    trials = {}
    for shrinkage in SHRINKAGES:
        a, b, _ = cca(*fit, dims=max(DIMS), shrinkage=shrinkage)
        trials |= {
            (shrinkage, d): mean_recall(held[0] @ a[:, :d], held[1] @ b[:, :d])
            for d in DIMS
        }
    shrinkage, dims = max(trials, key=trials.get)
    a, b, _ = cca(*train, dims=dims, shrinkage=shrinkage)
    return (new[0] @ a, new[1] @ b), {"shrinkage": shrinkage, "dims": dims}


def trained(
    pairs: Pair,
    new: Pair,
    dropout: float,
    temperature: float,
    stops: tuple[int, ...],
) -> Iterator[Pair]:
    """Train one linear head per modality with InfoNCE, all pairs in each step;
    yield `new` in one space at stops."""
    torch.manual_seed(0)
    picture, caption = (
        nn.Sequential(nn.Dropout(dropout), nn.Linear(x.shape[1], WIDTH))
        for x in pairs
    )
    optimizer = torch.optim.AdamW(
        [*picture.parameters(), *caption.parameters()],
        lr=3e-3,
        weight_decay=0.1,
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


def heads(
    pairs: Pair, new: Pair, dropout: float, temperature: float, steps: int
) -> Pair:
    """Train for so many steps; return `new` in one space."""
    return next(trained(pairs, new, dropout, temperature, (steps,)))


def tuned_heads(
    train: Pair, fit: Pair, held: Pair, new: Pair, dropout: float
) -> tuple[Pair, dict]:
    """Choose temperature and number of steps on `held`, train on all of
    `train`."""
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
    return (
        train[0],
        train[1][
            torch.randperm(
                len(train[1]), generator=torch.Generator().manual_seed(0)
            )
        ],
    )


def scores(
    pictures: Tensor, captions: Tensor, groups: np.ndarray
) -> dict[str, list[float]]:
    """Return recall of the right picture, and of any picture of the right
    theme, at 1, 5 and 10."""
    theme = theme_recall(captions, pictures, groups)
    return {
        "recall": list(recall_at_k(captions, pictures, KS).values()),
        "theme": list(theme.values()),
    }


def split_row(number: int) -> dict:
    """Return sizes, and per method recall and theme recall at 1, 5, 10 with the
    settings chosen, for one split."""
    dataset, features = oasis()
    rows, test = all_splits()[number]
    rest, part = grouped_split(
        dataset.labels[rows], dataset.groups[rows], fraction=0.25, seed=number
    )
    x = [standardised(v, rows) for v in features]
    train, fit, held, new = (
        tuple(v[at] for v in x) for at in (rows, rows[rest], rows[part], test)
    )
    spaces = {
        "ridge": tuned_ridge(train, fit, held, new),
        "CCA": tuned_cca(train, fit, held, new),
        "InfoNCE": tuned_heads(train, fit, held, new, DROPOUT),
        "no dropout": tuned_heads(train, fit, held, new, 0.0),
    }
    settings, weight = (
        list(spaces["InfoNCE"][1].values()),
        spaces["ridge"][1]["penalty"],
    )
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
    result["temperature"] = {
        str(t): mean_recall(*pair) for t, pair in sweep.items()
    }
    return result


def retrieval_rows() -> dict:
    """Return one row per split."""
    return {
        f"split {number}": split_row(number)
        for number in range(SPLITS * REPEATS)
    }


class Recogniser(nn.Module):
    """Three convolutions over five frames each: log-mel (B, T, 40) →
    log-probabilities (B, T, C).

    dilations: the gaps between the frames that each convolution looks at; (1,
    1, 1) sees 13 frames, (1, 2, 4) sees 29.
    """

    def __init__(self, dilations: tuple[int, ...], classes: int) -> None:
        """Build the layers; they hold as many weights whatever the dilations
        are."""
        super().__init__()
        layers, width = [], 40
        for d in dilations:
            convolution = nn.Conv1d(width, 64, 5, padding=2 * d, dilation=d)
            layers += [convolution, nn.BatchNorm1d(64), nn.ReLU()]
            width = 64
        self.body, self.head = nn.Sequential(*layers), nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities of blank and tokens."""
        return self.head(
            self.body(x.transpose(1, 2)).transpose(1, 2)
        ).log_softmax(-1)


def log_mel(wave: Tensor) -> Tensor:
    """Return log-mel (T, 40) of a wave (samples,), each band without its mean
    over the recording.

    Frame t is centred on t · 20 ms; the scale is about one standard deviation.
    """
    spectrum = torch.stft(
        wave, 1024, HOP, 551, WINDOW, pad_mode="constant", return_complex=True
    )
    x = (FILTERS @ spectrum.abs().square() / 1e-6).clamp_min(1).log().T
    return (x - x.mean(0)) / 3


def disturb(x: Tensor, generator: torch.Generator) -> Tensor:
    """Stretch the 40 bands of x (B, T, 40) by up to a tenth, and add noise."""
    at = torch.arange(40) * (0.9 + 0.2 * torch.rand(1, generator=generator))
    low = at.long().clamp(max=38)
    share = (at - low).clamp(max=1)
    stretched = x[..., low] * (1 - share) + x[..., low + 1] * share
    return stretched + 0.3 * torch.randn(x.shape, generator=generator)


def train_recogniser(
    dilations: tuple[int, ...],
    seed: int,
    x: list[Tensor],
    y: list[Tensor],
    classes: int,
    epochs: int,
) -> Recogniser:
    """Train with Adam on the CTC loss, in batches of eight recordings of like
    length."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Recogniser(dilations, classes)
    batches = np.argsort([len(frames) for frames in x]).reshape(-1, 8)
    adam = torch.optim.Adam(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(
        adam, 1e-2, total_steps=epochs * len(batches)
    )
    for _ in range(epochs):
        for b in torch.randperm(len(batches), generator=generator):
            rows = batches[b]
            # (8, T, 40)
            frames = pad_sequence([x[i] for i in rows], batch_first=True)
            sizes = [
                torch.tensor([len(part[i]) for i in rows]) for part in (x, y)
            ]
            # (T, 8, C)
            log_probs = model(disturb(frames, generator)).transpose(0, 1)
            adam.zero_grad()
            F.ctc_loss(
                log_probs, torch.cat([y[i] for i in rows]), *sizes
            ).backward()
            adam.step()
            rate.step()
    return model.eval()


@torch.no_grad()
def outputs(model: Recogniser, x: list[Tensor]) -> list[Tensor]:
    """Return the log-probabilities (T, C) of each recording."""
    return [model(frames[None])[0] for frames in x]


def edits(a: list[int], b: list[int]) -> int:
    """Return the fewest insertions, deletions and replacements that turn a into
    b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(
                min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            )
    return row[-1]


def percent_wrong(log_probs: list[Tensor], y: list[Tensor]) -> np.ndarray:
    """Return edits in percent of the tokens, one per recording, of the most
    probable labelings."""
    shares = []
    for p, target in zip(log_probs, y, strict=True):
        runs = itertools.groupby(p.argmax(1).tolist())
        written = [token for token, _ in runs if token != 0]
        shares.append(100 * edits(written, target.tolist()) / len(target))
    return np.array(shares)


def onsets(
    log_probs: list[Tensor], y: list[Tensor], **options: int | None
) -> list[np.ndarray]:
    """Return the aligned onset of every token in seconds, one array per
    recording."""
    spans = [
        forced_align(p, target, **options)
        for p, target in zip(log_probs, y, strict=True)
    ]
    return [SECONDS * np.array([span.start for span in row]) for row in spans]


def even_onsets(
    utterances: list[Utterance], counts: list[int]
) -> list[np.ndarray]:
    """Return onsets in seconds of so many tokens, spread evenly over each
    recording."""
    pairs = zip(utterances, counts, strict=True)
    return [np.arange(count) / count * u.duration for u, count in pairs]


def by_speaker(values: np.ndarray, speaker: np.ndarray) -> list[float]:
    """Return the mean over the recordings of each new speaker."""
    return [
        round(float(values[speaker == k].mean()), 3) for k in range(len(NEW))
    ]


def crossed_interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean of values (starts, speakers) with its t interval: both
    are samples, and the variance of the mean has a part from either.

    The variance of the mean over starts plus that over speakers; degrees of
    freedom by Satterthwaite (1946). The part that start and speaker have in
    common is counted twice, so the interval is rather too wide.
    """
    sizes = np.array(values.shape)
    means = values.mean(1), values.mean(0)  # one per start, one per speaker
    parts = np.array([m.var(ddof=1) for m in means]) / sizes
    freedom = parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum()
    half = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(parts.sum())
    mean = float(values.mean())
    return Interval(mean, float(mean - half), float(mean + half), level)


def mean_absolute(errors: list[np.ndarray], shift: float = 0.0) -> np.ndarray:
    """Return the mean absolute error of each recording once `shift` is taken
    out."""
    return np.array([abs(e - shift).mean() for e in errors])


def clock(
    known: list[np.ndarray], new: list[np.ndarray], speaker: np.ndarray
) -> dict:
    """Return what signed errors in ms say: the delay in training, and the
    errors in test.

    known, new: signed errors of training and of test recordings. "off", "out":
    mean absolute error by speaker, as it is and with the delay taken out;
    "late": 10, 50 and 90 % of the signed errors.
    """
    delay = float(np.median(np.concatenate(known)))
    return {
        "delay": round(delay, 3),
        "off": by_speaker(mean_absolute(new), speaker),
        "out": by_speaker(mean_absolute(new, delay), speaker),
        "late": (
            np.quantile(np.concatenate(new), [0.1, 0.5, 0.9]).round(3).tolist()
        ),
    }


class English:
    """Sentences of four words with pauses and hiss: 400 to learn from, 84 by
    six new speakers."""

    def __init__(self) -> None:
        """Speak all sentences; the draws are those of the page."""
        self.rng, self.hiss = (
            np.random.default_rng(0),
            torch.Generator().manual_seed(0),
        )
        self.train, train_waves, _ = self.speak(400, OLD)
        self.test, test_waves, self.speaker = self.speak(84, NEW)
        self.x, self.x_test = (
            [log_mel(w) for w in part] for part in (train_waves, test_waves)
        )
        phones = sorted(
            {self.phone(mark) for u in self.train for mark in u.phonemes}
        )
        number = {p: i for i, p in enumerate(phones, start=1)}  # 0 is the blank
        self.classes = len(phones) + 1
        self.y, self.y_test = (
            [
                torch.tensor([number[self.phone(mark)] for mark in u.phonemes])
                for u in part
            ]
            for part in (self.train, self.test)
        )

    @staticmethod
    def phone(mark) -> str:
        """Return a phoneme without marks of stress and length."""
        return mark.text.strip("ˈˌ").replace("ː", "")

    def speak(self, count: int, speakers: list[str] | tuple[str, ...]) -> tuple:
        """Return utterances, their waveforms with hiss, and the number of each
        one's speaker."""
        rng, who, requests, paused = (
            self.rng,
            np.arange(count) % len(speakers),
            [],
            [],
        )
        for w in who:
            words = " ".join(rng.choice(WORDS, 4, replace=False))
            # words/min, pitch
            manner = (
                int(rng.integers(130, 231)),
                int(rng.integers(20, 81)),
            )
            requests.append(Request(words, "en-us", speakers[w], *manner))
        for u in speak_all(requests):
            pauses = {
                k: rng.uniform(100, 500)
                for k in (1, 2, 3)
                if rng.random() < 0.4
            }
            paused.append(insert_pauses(u, pauses))
        return (
            paused,
            [add_noise(u.waveform, 10.0, self.hiss) for u in paused],
            who,
        )

    @staticmethod
    def errors(
        found: list[np.ndarray], utterances: list[Utterance]
    ) -> list[np.ndarray]:
        """Return found minus true onset in ms; positive: too late."""
        true = [
            np.array([mark.start for mark in u.phonemes]) for u in utterances
        ]
        return [1000 * (f - t) for f, t in zip(found, true, strict=True)]


def has_pause(utterance: Utterance) -> bool:
    """Is there a pause of more than 50 ms between two words?"""
    pairs = itertools.pairwise(utterance.words)
    return any(word.start - before.end > 0.05 for before, word in pairs)


def without_blank(
    speech: English, known: list[Tensor], new: list[Tensor], delay: float
) -> dict:
    """Return mean absolute errors with and without pauses, aligned with the
    blank and without it.

    Without: posteriors divided by the token's mean posterior, and every frame
    belongs to a target.
    """
    prior = torch.cat(known).exp().mean(0).log()  # (C,)
    # (T, C - 1)
    bare = [[p[:, 1:] - prior[1:] for p in part] for part in (known, new)]
    targets = [
        [y - 1 for y in part] for part in (speech.y[KNOWN], speech.y_test)
    ]
    shifts = speech.errors(
        onsets(bare[0], targets[0], blank=None), speech.train[KNOWN]
    )
    shift = float(np.median(np.concatenate(shifts)))
    errors = {
        "blank": (
            speech.errors(onsets(new, speech.y_test), speech.test),
            delay,
        ),
        "none": (
            speech.errors(onsets(bare[1], targets[1], blank=None), speech.test),
            shift,
        ),
    }
    paused, rows = np.array([has_pause(u) for u in speech.test]), {}
    for way, (signed, taken_out) in errors.items():
        off = mean_absolute(signed, taken_out)
        values = taken_out, off[~paused].mean(), off[paused].mean()
        names = "delay", "no pause", "pauses"
        rows[way] = {
            k: round(float(v), 3) for k, v in zip(names, values, strict=True)
        }
    return rows


def transcript_scores(new: list[Tensor], y: list[Tensor]) -> dict:
    """Return scores of each recording with its own transcript, and with that of
    the next one."""

    def score(p: Tensor, target: Tensor) -> float:
        return float(np.mean([span.score for span in forced_align(p, target)]))

    own = np.array([score(p, target) for p, target in zip(new, y, strict=True)])
    other = np.array(
        [score(p, target) for p, target in zip(new, y[1:] + y[:1], strict=True)]
    )
    values = (
        np.median(own),
        np.median(other),
        (own > other).mean(),
        own.min(),
        other.max(),
    )
    names = "own", "other", "own is higher", "lowest own", "highest other"
    return {k: round(float(v), 3) for k, v in zip(names, values, strict=True)}


def transcript_row(speech: English, name: str, seed: int) -> dict:
    """Return errors, delay and scores of one start of the narrow or the wide
    network."""
    model = train_recogniser(
        FIELDS[name], seed, speech.x, speech.y, speech.classes, epochs=15
    )
    known, new = outputs(model, speech.x[KNOWN]), outputs(model, speech.x_test)
    signed = (
        speech.errors(onsets(known, speech.y[KNOWN]), speech.train[KNOWN]),
        speech.errors(onsets(new, speech.y_test), speech.test),
    )
    row = clock(*signed, speech.speaker)
    spans = [
        s.end - s.start
        for p, y in zip(new, speech.y_test, strict=True)
        for s in forced_align(p, y)
    ]
    return row | {
        "wrong": by_speaker(percent_wrong(new, speech.y_test), speech.speaker),
        "frames": round(float(np.mean(spans)), 3),
        "ways": without_blank(speech, known, new, row["delay"]),
        "scores": transcript_scores(new, speech.y_test),
    }


def transcript_rows() -> dict:
    """Return the even spread of phonemes, and one row per start of each
    network."""
    speech = English()
    even = [
        speech.errors(even_onsets(part, [len(u.phonemes) for u in part]), part)
        for part in (speech.train[KNOWN], speech.test)
    ]
    rows = {"even": clock(*even, speech.speaker)}
    for seed, name in itertools.product(range(STARTS), FIELDS):
        rows[f"{name}/{seed}"] = transcript_row(speech, name, seed)
        print(
            "transcript",
            name,
            seed,
            np.mean(rows[f"{name}/{seed}"]["out"]),
            flush=True,
        )
    return rows


class Mandarin:
    """320 sentences to learn from, the same with the characters of each in
    random order, and 60 test sentences by six new speakers.

    A sentence and its shuffled copy share speaker, rate, pitch and pauses, and
    espeak-ng says each character alike in both.
    """

    def __init__(self) -> None:
        """Speak all sentences; the draws are those of the page."""
        self.rng = np.random.default_rng(1)
        texts = [self.sentence() for _ in range(360)]
        shuffled = ["".join(self.rng.permutation(list(t))) for t in texts]
        both, _ = self.speak([texts, shuffled], OLD)
        # espeak-ng says the words of its dictionary otherwise: not by chance
        plain = [i for i, u in enumerate(both[1]) if one_by_one(u)][:320]
        parts = [[part[i] for i in plain] for part in both]
        self.train = dict(zip(("sentences", "shuffled"), parts, strict=True))
        texts = [self.sentence() for _ in range(60)]
        (self.test,), self.speaker = self.speak([texts], NEW)

        hiss = torch.Generator().manual_seed(0)

        def frames(utterances: list[Utterance]) -> list[Tensor]:
            return [
                log_mel(add_noise(u.waveform, 10.0, hiss)) for u in utterances
            ]

        def numbers(utterances: list[Utterance]) -> list[Tensor]:
            return [
                torch.tensor([1 + CHARACTERS.index(c) for c in u.text])
                for u in utterances
            ]

        self.x = {way: frames(part) for way, part in self.train.items()}
        self.y = {way: numbers(part) for way, part in self.train.items()}
        self.x_test, self.y_test = frames(self.test), numbers(self.test)

    def sentence(self) -> str:
        """Return who does what, when and where."""
        return "".join(self.rng.choice(part) for part in SLOTS)

    def speak(
        self, versions: list[list[str]], speakers: list[str] | tuple[str, ...]
    ) -> tuple[list[list[Utterance]], np.ndarray]:
        """Return utterances of each version of the texts, in like manner and
        with like pauses, and the number of each one's speaker."""
        rng, count = self.rng, len(versions[0])
        who = np.arange(count) % len(speakers)
        # words a minute, pitch
        rates, pitches = rng.integers((130, 20), (231, 81), (count, 2)).T
        pauses = [
            {
                k: rng.uniform(100, 500)
                for k in range(1, len(text))
                if rng.random() < 0.2
            }
            for text in versions[0]
        ]
        spoken = []
        for texts in versions:
            requests = [
                Request(text, "cmn", speakers[w], int(rate), int(pitch))
                for text, w, rate, pitch in zip(
                    texts, who, rates, pitches, strict=True
                )
            ]
            spoken.append(
                [
                    insert_pauses(u, gaps) if one_by_one(u) else u
                    for u, gaps in zip(speak_all(requests), pauses, strict=True)
                ]
            )
        return spoken, who

    @staticmethod
    def errors(
        found: list[np.ndarray], utterances: list[Utterance]
    ) -> list[np.ndarray]:
        """Return found minus true onset in ms; positive: too late."""
        true = [np.array([w.start for w in u.words]) for u in utterances]
        return [1000 * (f - t) for f, t in zip(found, true, strict=True)]


def one_by_one(utterance: Utterance) -> bool:
    """Is each character a unit of its own, and none part of a word of
    espeak-ng's dictionary?"""
    return len(utterance.words) == len(utterance.text)


def when(found: list[np.ndarray], utterances: list[Utterance]) -> list[float]:
    """Return percent of the characters written before they begin, while they
    are said, and after they end."""
    f = np.concatenate(found)
    start, end = (
        np.array([getattr(w, side) for u in utterances for w in u.words])
        for side in ("start", "end")
    )
    early, late = 100 * np.mean(f < start), 100 * np.mean(f >= end)
    return [round(float(v), 3) for v in (early, 100 - early - late, late)]


def syllables_row(speech: Mandarin, way: str, seed: int) -> dict:
    """Return errors, delay and moments of one start of the network that learnt
    from `way`."""
    x, y, classes = speech.x[way], speech.y[way], len(CHARACTERS) + 1
    model = train_recogniser(FIELDS["wide"], seed, x, y, classes, epochs=20)
    known, new = outputs(model, x[KNOWN]), outputs(model, speech.x_test)
    found = onsets(new, speech.y_test)
    signed = (
        speech.errors(onsets(known, y[KNOWN]), speech.train[way][KNOWN]),
        speech.errors(found, speech.test),
    )
    return clock(*signed, speech.speaker) | {
        "wrong": by_speaker(percent_wrong(new, speech.y_test), speech.speaker),
        "when": when(found, speech.test),
    }


def syllables_rows() -> dict:
    """Return the even spread of characters, and one row per start and kind of
    training."""
    speech = Mandarin()
    even = [
        speech.errors(even_onsets(part, [len(u.text) for u in part]), part)
        for part in (speech.train["sentences"][KNOWN], speech.test)
    ]
    rows = {"even": clock(*even, speech.speaker)}
    for seed, way in itertools.product(range(SYLLABLE_STARTS), speech.train):
        rows[f"{way}/{seed}"] = syllables_row(speech, way, seed)
        print(
            "syllables",
            way,
            seed,
            np.mean(rows[f"{way}/{seed}"]["out"]),
            flush=True,
        )
    return rows


PARTS = {
    "retrieval": retrieval_rows,
    "transcript": transcript_rows,
    "syllables": syllables_rows,
}


def main(names: list[str]) -> None:
    """Measure the named files (default: all) and write each when it is
    whole."""
    for name in names:
        if name not in PARTS:
            sys.exit(f"unknown part {name!r}, expected some of {list(PARTS)}")
    # models this small are slower on two threads than on one
    torch.set_num_threads(1)
    machine = (
        f"{platform.machine()}, 1 thread, torch"
        f" {torch.__version__.split('+')[0]}"
    )
    for name in names or PARTS:
        command = f"python book/07_alignment/study.py {name}"
        save_results(
            RESULTS / f"{name}.json",
            command=command,
            machine=machine,
            rows=PARTS[name](),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
