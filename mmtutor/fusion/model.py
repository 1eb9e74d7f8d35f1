"""Model-level (intermediate) fusion: networks that exchange information inside, before anything is
decided.

Taught in chapter 4.
"""

import math
from functools import reduce
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtutor.checks import require
from mmtutor.fusion.inputs import (
    Fusion,
    check_modalities,
    hide_absent,
    masked_sequences,
    mean_over_steps,
    with_zero_step,
)
from mmtutor.types import Features, Masks, Present


class EncoderFusion(Fusion):
    """h = fusion({m: encoder_m(x_m)}): one network per modality, then any fusion, all trained
    together.

    features[m]: (B, ...) as encoder m takes them → (B, out_features). encoder m must return what
    the fusion expects of modality m. An encoder is shown zeros where its modality is absent, and
    what it makes of them is hidden again. present and masks are handed on to the fusion; encoders
    do not see them, only zeros where masks[m]: (B, T) marks steps of x_m as padding. Raises
    KeyError where encoders and the fusion's modalities differ, and as the fusion. Baltrušaitis et
    al., TPAMI 2019 (arXiv 1705.09406), section 5.2.
    """

    def __init__(self, encoders: dict[str, nn.Module], fusion: Fusion) -> None:
        """Join `encoders` by `fusion`, a module with `dims` and `out_features`."""
        super().__init__(fusion.dims, fusion.out_features)
        check_modalities(encoders, self.dims, "encoders")
        self.encoders, self.fusion = nn.ModuleDict(encoders), fusion

    def forward(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> Tensor:
        """Return (B, out_features)."""
        check_modalities(features, self.dims, "features")
        x = hide_absent(features, list(self.dims), present, masks)
        codes = {m: encoder(x[m]) for m, encoder in self.encoders.items()}
        return self.fusion(codes, present) if masks is None else self.fusion(codes, present, masks)


class _SequenceFusion(Fusion):
    """Projects each modality's steps to one width before they attend to each other."""

    def __init__(self, dims: dict[str, int], out_features: int, heads: int, **sizes: int) -> None:
        super().__init__(dims, out_features, heads=heads, **sizes)
        require(
            out_features % heads == 0,
            f"heads is {heads}, expected a divisor of out_features = {out_features}",
        )
        self.project = nn.ModuleDict({m: nn.Linear(d, out_features) for m, d in dims.items()})

    def _projected(
        self, features: Features, present: Present | None, masks: Masks | None
    ) -> tuple[Features, Masks]:
        """Return the sequences, each (B, T_m, out_features), and which steps are real."""
        sequences, real = masked_sequences(features, self.dims, present, masks)
        return {m: self.project[m](s) for m, s in sequences.items()}, real


class CrossAttentionFusion(_SequenceFusion):
    """x_m ← x_m + Σ_{n≠m} softmax(Q_mn x_m (K_mn x_n)ᵀ / √d) V_mn x_n: each step of m reads the
    steps of all others.

    features[m]: (B, T_m, dims[m]) or vectors (B, dims[m]), a sequence of one step; masks[m]: (B,
    T_m) bool → (B, out_features). Each modality is projected to width out_features; `layers` times
    it reads from every other one with `heads` heads and passes through a feed-forward layer (both
    with residual and layer norm); then it is averaged over its steps, and a linear layer joins the
    averages. Among the steps that can be read is always one of zeros: a query that finds nothing,
    or an absent modality, reads 0. Order in time is not seen: features must carry it.
    Raises ValueError unless heads divides out_features, for fewer than two modalities; else as
    `masked_sequences`. Lu et al., ViLBERT, NeurIPS 2019 (arXiv 1908.02265); Tsai et al., MulT, ACL
    2019 (arXiv 1906.00295).
    """

    def __init__(self, dims: dict[str, int], out_features: int, heads: int, layers: int) -> None:
        """Build the projections, `layers` exchanges, and the layer that joins."""
        super().__init__(dims, out_features, heads, layers=layers)
        require(
            len(dims) >= 2,
            f"dims is {dims}, expected at least two modalities: one has nobody to read from",
        )
        self.exchange = nn.ModuleList(
            _Exchange(list(dims), out_features, heads) for _ in range(layers)
        )
        self.join = nn.Linear(len(dims) * out_features, out_features)

    def forward(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> Tensor:
        """Return (B, out_features)."""
        x, real = self._projected(features, present, masks)  # each (B, T_m, out)
        for exchange in self.exchange:
            x = exchange(x, real)
        return self.join(torch.cat([mean_over_steps(x[m], real.get(m)) for m in self.dims], -1))

    def weights(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> list[dict[tuple[str, str], Tensor]]:
        """Return, layer by layer, (reader, source) → attention weights (B, heads, T_reader,
        T_source + 1).

        Rows sum to 1; the last column is the step of zeros. They say where a layer looked, not what
        mattered.
        """
        x, real = self._projected(features, present, masks)
        kept: list[dict[tuple[str, str], Tensor]] = []
        for exchange in self.exchange:
            kept.append({})
            x = exchange(x, real, kept[-1])
        return kept


class SelfAttentionFusion(_SequenceFusion):
    """x ← transformer([z; x_1; ...; x_M]), out = W z: one stream, in which each step reads the
    steps of all modalities, its own too.

    features[m]: (B, T_m, dims[m]) or vectors (B, dims[m]), a sequence of one step; masks[m]: (B,
    T_m) bool → (B, out_features). Each modality is projected to width out_features; the bias of its
    projection is its modality embedding, which says where a step comes from. z is one learnt step
    that gathers the answer, and all that an absent modality leaves to be read. Each of `layers`
    layers makes (1 + Σ T_m)² scores. Order in time is not seen.
    Raises as `CrossAttentionFusion`; one modality is allowed.
    Chen et al., UNITER, ECCV 2020 (arXiv 1909.11740).
    """

    def __init__(self, dims: dict[str, int], out_features: int, heads: int, layers: int) -> None:
        """Build the projections, the learnt step, `layers` layers, and the layer that answers."""
        super().__init__(dims, out_features, heads, layers=layers)
        self.summary = nn.Parameter(torch.randn(1, out_features))
        self.layers = nn.ModuleList(_SelfAttention(out_features, heads) for _ in range(layers))
        self.join = nn.Linear(out_features, out_features)

    def forward(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> Tensor:
        """Return (B, out_features)."""
        x, real = self._projected(features, present, masks)  # each (B, T_m, out)
        batch = len(next(iter(x.values())))
        stream = torch.cat([self.summary.expand(batch, -1, -1), *x.values()], 1)
        there = [real.get(m, s.new_ones(s.shape[:2]).bool()) for m, s in x.items()]
        mask = F.pad(torch.cat(there, 1), (1, 0), value=True) if real else None
        for layer in self.layers:
            stream = layer(stream, mask)
        return self.join(stream[:, 0])


class BottleneckFusion(_SequenceFusion):
    """[x_m; z_m] = transformer_m([x_m; z]), z ← mean of z_m over those present: all that passes
    goes through few steps.

    features[m]: (B, T_m, dims[m]) or vectors (B, dims[m]), a sequence of one step; masks[m]: (B,
    T_m) bool → (B, out_features). z are `bottlenecks` learnt steps of width out_features. In each
    of `layers` layers a modality attends to its own steps and to z, never to another's; cost grows
    with Σ T_m² instead of (Σ T_m)². In the end the averages over each modality's steps, and over z,
    are joined by a linear layer. Order in time is not seen.
    Raises as `CrossAttentionFusion`; one modality is allowed.
    Nagrani et al., Attention Bottlenecks for Multimodal Fusion, NeurIPS 2021 (arXiv 2107.00135).
    """

    def __init__(
        self, dims: dict[str, int], out_features: int, bottlenecks: int, heads: int, layers: int
    ) -> None:
        """Build the projections, the bottleneck, `layers` layers per modality, and the layer that
        joins."""
        super().__init__(dims, out_features, heads, layers=layers, bottlenecks=bottlenecks)
        self.bottleneck = nn.Parameter(torch.randn(bottlenecks, out_features))
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: _SelfAttention(out_features, heads) for m in dims})
            for _ in range(layers)
        )
        self.join = nn.Linear((len(dims) + 1) * out_features, out_features)

    def forward(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> Tensor:
        """Return (B, out_features)."""
        x, real = self._projected(features, present, masks)  # each (B, T_m, out)
        size, batch = len(self.bottleneck), len(next(iter(x.values())))
        z = self.bottleneck.expand(batch, -1, -1)  # (B, bottlenecks, out)
        # z is always there to be read
        with_z = {m: F.pad(r, (0, size), value=True) for m, r in real.items()}
        for layer in self.layers:
            together = {
                m: layer[m](torch.cat([s, z], 1), with_z.get(m))  # type: ignore[index]
                for m, s in x.items()
            }
            x = {m: s[:, :-size] for m, s in together.items()}
            z = _mean_of_present([(s[:, -size:], real.get(m)) for m, s in together.items()], z)
        parts = [mean_over_steps(x[m], real.get(m)) for m in self.dims]
        return self.join(torch.cat([*parts, z.mean(1)], -1))


class _Exchange(nn.Module):
    """One layer of `CrossAttentionFusion`: everyone reads from all others, then thinks it over."""

    def __init__(self, modalities: list[str], width: int, heads: int) -> None:
        super().__init__()
        self.heads, others = heads, len(modalities) - 1
        # one matrix holds what a modality asks of all others, one what it tells all others. Keys
        # need no bias, since it would shift all scores alike; values have none, so that the step of
        # zeros says nothing
        self.norm = nn.ModuleDict({m: nn.LayerNorm(width) for m in modalities})
        self.query = nn.ModuleDict(
            {m: nn.Linear(width, others * width, bias=False) for m in modalities}
        )
        self.tell = nn.ModuleDict(
            {m: nn.Linear(width, others * 2 * width, bias=False) for m in modalities}
        )
        self.out = nn.ModuleDict({m: nn.Linear(others * width, width) for m in modalities})
        self.think = nn.ModuleDict({m: _feed_forward(width) for m in modalities})

    def forward(
        self, x: Features, real: Masks, kept: dict[tuple[str, str], Tensor] | None = None
    ) -> Features:
        """Return the sequences, each (B, T_m, width), after one exchange; note the attention
        weights in `kept`."""
        seen = {m: self.norm[m](s) for m, s in x.items()}
        queries = {m: iter(self.query[m](s).chunk(len(x) - 1, -1)) for m, s in seen.items()}
        padded = {m: with_zero_step(s, real.get(m)) for m, s in seen.items()}
        told = {
            m: iter(self.tell[m](s).chunk(2 * (len(x) - 1), -1))  # key, value, key, value, ...
            for m, (s, _) in padded.items()
        }
        read: dict[str, list[Tensor]] = {m: [] for m in x}
        for reader, source in permutations(x, 2):
            q, k, v = next(queries[reader]), next(told[source]), next(told[source])
            mask = padded[source][1]
            read[reader].append(attention(q, k, v, self.heads, mask))  # (B, T, width)
            if kept is not None:
                kept[reader, source] = attention_weights(q, k, self.heads, mask)
        x = {m: s + self.out[m](torch.cat(read[m], -1)) for m, s in x.items()}
        return {m: s + self.think[m](s) for m, s in x.items()}


class _SelfAttention(nn.Module):
    """A transformer layer with layer norm first: x + attend(norm(x)), then x +
    feed_forward(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        # query, key, value; a bias of the keys could never learn
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.out, self.think = nn.Linear(width, width), _feed_forward(width)

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        """x: (B, T, width), real: (B, T) bool or None → (B, T, width)."""
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        x = x + self.out(attention(q, k, v, self.heads, real))
        return x + self.think(x)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, real: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) v in each of `heads` heads: q (B, T, W), k and v (B, S, W), real (B, S) →
    (B, T, W).

    d = W / heads. real marks the steps of k and v that may be read (None: all); at least one in
    each row. Vaswani et al., Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762).
    """
    # (B, heads, T or S, d)
    q, k, v = (s.unflatten(-1, (heads, -1)).transpose(1, 2) for s in (q, k, v))
    mask = None if real is None else real[:, None, None, :].expand(-1, 1, q.shape[2], -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def attention_weights(q: Tensor, k: Tensor, heads: int, real: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) in each head, which `attention` never holds: q (B, T, W), k (B, S, W) →
    (B, heads, T, S)."""
    q, k = (s.unflatten(-1, (heads, -1)).transpose(1, 2) for s in (q, k))  # (B, heads, T or S, d)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    if real is not None:
        scores = scores.masked_fill(~real[:, None, None, :], -math.inf)
    return scores.softmax(-1)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
    )


def _mean_of_present(views: list[tuple[Tensor, Tensor | None]], before: Tensor) -> Tensor:
    """Return the mean of the modalities' z (B, bottlenecks, W) over those with a real step;
    `before` if none has."""
    some = [
        (z.new_ones(len(z)) if real is None else real.any(1).to(z.dtype))[:, None, None]
        for z, real in views
    ]  # M times (B, 1, 1)
    shown = (torch.where(s > 0, z, 0.0) for (z, _), s in zip(views, some, strict=True))
    total, count = reduce(torch.add, shown), reduce(torch.add, some)
    return torch.where(count > 0, total / count.clamp(min=1), before)
