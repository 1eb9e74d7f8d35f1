"""Sentences → vectors, with a transformer trained on text and then left as it is.

Taught in chapter 2.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtutor.checks import require, whole_number
from mmtutor.encoders.cache import content_key
from mmtutor.encoders.frozen import Batch, FrozenEncoder
from mmtutor.files.weights import WEIGHTS, locate, model_folder, sha256_of

VERSION = 1
"""Raised whenever the same text would give other features: those cached before are then computed
again."""


SIZES = {"minilm": (384, 256)}
"""Name → width of its vectors, and the longest text it was trained for, in word pieces."""


class TextEncoder(FrozenEncoder):
    """One vector per text: list of N strings → (N, D) float32.

    The mean of the last layer over the real word pieces: Reimers & Gurevych 2019, arXiv 1908.10084.
    name: "minilm" (D = 384, comes with the installation; Wang et al. 2020, arXiv 2002.10957), which
    knows English: other scripts fall into single characters or the unknown piece, and get a vector
    that means little. Or any encoder in transformers' format, by its folder or its name on the hub,
    from which it is then downloaded, such as "google-bert/bert-base-multilingual-cased".
    device: "cpu", "cuda", "mps", or None for the best there is. batch_size: texts at a time.
    cache: True for the usual cache folder, a path for another, False for none.
    max_tokens: texts are cut after this many word pieces, two of them the marks at both ends; by
    default, and at most, what the network was trained for (256 for minilm, roughly 190 words; at
    most 512). The empty text is defined: it is encoded as its two marks alone.
    Raises EncoderUnavailable for a name that cannot be had, RuntimeError for a device that is not
    there.
    """

    def __init__(
        self,
        name: str = "minilm",
        device: str | torch.device | None = None,
        batch_size: int = 32,
        cache: bool | Path | str = True,
        max_tokens: int | None = None,
    ) -> None:
        """Settle the options; weights are loaded when the first text needs them."""
        self.name = name
        if name in SIZES:
            (self.dim, limit), weights = SIZES[name], WEIGHTS[name].sha256
        else:
            self.folder = model_folder(name)
            self.dim, limit = sizes_of(self.folder)
            weights = sha256_of(*sorted(self.folder.glob("*.safetensors")))
        self.max_tokens = whole_number(
            "max_tokens",
            limit if max_tokens is None else max_tokens,
            3,
            limit,
            f": {name} has that limit",
        )
        super().__init__(
            device, batch_size, cache, weights, texts=VERSION, max_tokens=self.max_tokens
        )

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the last layer before pooling: (N, T, D) float32, and (N, T) bool, true where a
        word piece is real.

        T is the longest text's number of word pieces, the marks at both ends included; padded steps
        are zero. For "minilm" the mean over the real steps is what `encode` returns. Not cached: T
        times as large.
        """
        ids = self._ids(self._checked(texts))
        steps = max(map(len, ids), default=0)
        out = torch.zeros(len(ids), steps, self.dim)
        mask = torch.zeros(len(ids), steps, dtype=torch.bool)
        for rows in self._by_length(ids, list(range(len(ids)))):
            real, hidden = self._run([ids[i] for i in rows])
            mask[rows, : real.shape[1]] = real.cpu()
            out[rows, : real.shape[1]] = (hidden * real[..., None]).cpu()
        return out, mask

    def pieces(self, text: str) -> list[str]:
        """Return the word pieces that the network sees, the marks at both ends included."""
        ids = self._ids(self._checked([text]))[0]
        return self.tokenizer.convert_ids_to_tokens(ids)

    def unread(self, texts: Sequence[str]) -> dict[str, int]:
        """Return how many texts are "cut", being longer than max_tokens, how many "pieces" all have
        and how many of these are "unknown" to the encoder."""
        ids = self._ids(texts, cut=False)
        unknown = sum(pieces.count(self.tokenizer.unk_token_id) for pieces in ids)
        cut = sum(len(pieces) > self.max_tokens for pieces in ids)
        return {"cut": cut, "pieces": sum(map(len, ids)) - 2 * len(ids), "unknown": unknown}

    @cached_property
    def folder(self) -> Path:
        """Where the model lies, in transformers' format."""
        return locate(self.name, check=False).parent

    @cached_property
    def tokenizer(self) -> Any:
        """What cuts texts into word pieces."""
        from transformers import AutoTokenizer

        with _quiet():
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    def _checked(self, texts: Sequence[str]) -> Sequence[str]:
        require(
            not isinstance(texts, str),
            "expected a list of texts, got one str: write [text]",
            TypeError,
        )
        texts = list(texts)
        for index, text in enumerate(texts):
            require(
                isinstance(text, str),
                f"sample {index} is a {type(text).__name__}: expected a str ('' for an absent"
                " text)",
                TypeError,
            )
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"sample {index} is no valid text: it holds half a surrogate pair ({error})"
                ) from error
        return texts

    def _key(self, sample: str, index: int) -> bytes:
        return content_key("text", sample.encode())

    def _build(self) -> nn.Module:
        return load(locate(self.name).parent if self.name in SIZES else self.folder)

    def _ids(self, texts: Sequence[str], cut: bool = True) -> list[list[int]]:
        """Cut texts into word pieces, by number; lists of different lengths, none above max_tokens
        where `cut`."""
        if not texts:
            return []
        # All settings are given because minilm's tokenizer file asks for cutting and padding to
        # 128 pieces.
        return self.tokenizer(
            list(texts), truncation=cut, max_length=self.max_tokens, padding=False, verbose=False
        )["input_ids"]

    def _by_length(
        self, ids: list[list[int]] | dict[int, list[int]], rows: list[int]
    ) -> Iterator[list[int]]:
        """Cut `rows` into batches of similar length, longest first: little padding, and too large
        fails at once."""
        rows = sorted(rows, key=lambda i: -len(ids[i]))
        return (rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size))

    def _batches(self, samples: Sequence[str], rows: list[int]) -> Iterator[Batch]:
        ids = dict(zip(rows, self._ids([samples[i] for i in rows]), strict=True))
        for batch in self._by_length(ids, rows):
            mask, hidden = self._run([ids[i] for i in batch])
            yield batch, mean_pool(hidden, mask)

    @torch.no_grad()
    def _run(self, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Pad and run one batch → mask (B, T) bool, last layer (B, T, D)."""
        padded = nn.utils.rnn.pad_sequence(
            [torch.tensor(i) for i in ids],
            batch_first=True,
            padding_value=self.tokenizer.pad_token_id or 0,
        ).to(self.device)
        lengths = torch.tensor([[len(i)] for i in ids], device=self.device)
        mask = torch.arange(padded.shape[1], device=self.device) < lengths
        return mask, self.model(input_ids=padded, attention_mask=mask.long()).last_hidden_state


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Σ_t mask_t h_t / Σ_t mask_t: hidden (B, T, D), mask (B, T) bool with at least one true step →
    (B, D)."""
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def sizes_of(folder: Path) -> tuple[int, int]:
    """Return width and longest text of a model in transformers' format."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # few texts are longer, and memory grows with the square
    return config["hidden_size"], min(config.get("max_position_embeddings") or 512, 512)


def load(folder: Path) -> nn.Module:
    """Load a network, float32, from a folder in transformers' format; no hub is asked for
    anything."""
    from transformers import AutoModel

    with _quiet():
        return AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing bars and reports of harmless surplus tensors; restore its
    settings afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
