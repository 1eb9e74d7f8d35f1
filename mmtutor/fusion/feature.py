"""Feature-level (early) fusion: join the modalities' representations, then decide once.

Taught in chapter 3.
"""

import math
from functools import reduce

import torch
from torch import Tensor, nn

from mmtutor.checks import require
from mmtutor.fusion.inputs import Fusion, masked_vectors, presence
from mmtutor.types import Features, Present


class ConcatFusion(Fusion):
    """h = [x_1; x_2; ...; x_M]: lay the modalities side by side, in the order of `dims`.

    features[m]: (B, dims[m]) → (B, Σ dims). An absent modality contributes zeros and receives no
    gradient. Nothing is learnt here; whatever follows learns one weight per input feature, hence no
    products between modalities.
    Raises ValueError for empty `dims` or a width below 1; forward raises as
    `inputs.masked_vectors`. Baltrušaitis et al., Multimodal Machine Learning, TPAMI 2019 (arXiv
    1705.09406), section 5.1.
    """

    def __init__(self, dims: dict[str, int]) -> None:
        """Remember the width of each modality: dims[m] ≥ 1."""
        super().__init__(dims, sum(dims.values()))

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        return torch.cat(list(masked_vectors(features, self.dims, present).values()), dim=-1)


class SumFusion(Fusion):
    """h = b + Σ_m W_m x_m: project every modality to one width, then add.

    features[m]: (B, dims[m]) → (B, out_features). An absent modality adds nothing. Exactly a linear
    layer behind `ConcatFusion`, its weight cut into one block per modality: like it, it knows no
    products between modalities.
    Raises as `ConcatFusion`. Baltrušaitis et al., TPAMI 2019 (arXiv 1705.09406), section 5.1.
    """

    def __init__(self, dims: dict[str, int], out_features: int) -> None:
        """Make one projection per modality and one bias; out_features ≥ 1."""
        super().__init__(dims, out_features)
        self.project = nn.ModuleDict(
            {m: nn.Linear(d, out_features, bias=False) for m, d in dims.items()}
        )
        bound = 1 / math.sqrt(sum(dims.values()))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        x = masked_vectors(features, self.dims, present)
        return sum((self.project[m](x[m]) for m in self.dims), self.bias)  # (B, out)


class GatedFusion(Fusion):
    """h = Σ_m z_m ⊙ tanh(W_m x_m + b_m),  z = softmax over the modalities of V [x_1; ...; x_M] + c.

    features[m]: (B, dims[m]) → (B, out_features). For each output unit the sample itself sets how
    much each modality counts; the gates of those present sum to 1, an absent modality has gate 0,
    and nobody present gives 0. With two modalities z_2 = 1 - z_1 and z_1 is a sigmoid: the gated
    multimodal unit. Raises as `ConcatFusion`. Arevalo et al., Gated Multimodal Units for
    Information Fusion, 2017 (arXiv 1702.01992).
    """

    def __init__(self, dims: dict[str, int], out_features: int) -> None:
        """Make one candidate per modality and one gate layer that sees all of them; out_features ≥
        1."""
        super().__init__(dims, out_features)
        self.candidate = nn.ModuleDict({m: nn.Linear(d, out_features) for m, d in dims.items()})
        # one modality has nothing to choose between: no gate, and no weights that could never learn
        self.gate = (
            nn.Linear(sum(dims.values()), len(dims) * out_features) if len(dims) > 1 else None
        )

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features), each entry in (-1, 1)."""
        x = masked_vectors(features, self.dims, present)
        gates = self.gates(features, present)
        return reduce(torch.add, (gates[m] * self.candidate[m](x[m]).tanh() for m in self.dims))

    def gates(self, features: Features, present: Present | None = None) -> dict[str, Tensor]:
        """Return z_m: (B, out_features) in [0, 1], sum 1 over the modalities present, 0 for
        one that is absent."""
        x = masked_vectors(features, self.dims, present)
        joined = torch.cat(list(x.values()), -1)  # (B, Σ dims)
        # one modality has nothing to choose between: equal scores, gate 1
        raw = (
            joined.new_zeros(len(joined), self.out_features)
            if self.gate is None
            else self.gate(joined)
        )
        scores = raw.chunk(len(self.dims), dim=-1)  # M times (B, out)
        if len(self.dims) == 2 and not present:  # the same softmax, in one step instead of four
            first = torch.sigmoid(scores[0] - scores[1])
            return dict(zip(self.dims, (first, 1 - first), strict=True))
        is_present = presence(features, present)
        mask = torch.stack([is_present[m] for m in self.dims])[:, :, None]  # (M, B, 1)
        # the lowest number and not -inf, whose softmax is NaN where nobody is present
        lowest = torch.finfo(scores[0].dtype).min
        z = torch.stack(scores).masked_fill(~mask, lowest).softmax(0)
        return dict(zip(self.dims, torch.where(mask, z, 0.0), strict=True))


class TensorFusion(Fusion):
    """h = vec([1; x_1] ⊗ [1; x_2] ⊗ ... ⊗ [1; x_M]): every product of features across modalities,
    of every order.

    features[m]: (B, dims[m]) → (B, Π (dims[m] + 1)), the last modality varying fastest. The leading
    1 keeps the single features and the products of some modalities only; an absent modality is [1;
    0], which leaves the products of the others. Nothing is learnt here, and the width grows by a
    factor dims[m] + 1 with each modality: memory is the limit.
    Raises as `ConcatFusion`. Zadeh et al., Tensor Fusion Network, EMNLP 2017 (arXiv 1707.07250).
    """

    def __init__(self, dims: dict[str, int]) -> None:
        """Remember the width of each modality: dims[m] ≥ 1."""
        super().__init__(dims, math.prod(d + 1 for d in dims.values()))

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        rows = [
            nn.functional.pad(x, (1, 0), value=1.0)
            for x in masked_vectors(features, self.dims, present).values()
        ]
        product = rows[0]  # (B, d_1 + 1)
        for row in rows[1:]:
            # a column times a row as a matrix product: broadcasting or einsum would take three
            # times as long
            product = torch.bmm(product[:, :, None], row[:, None, :]).flatten(1)  # (B, Π so far)
        return product


class LowRankFusion(Fusion):
    """h = Σ_r Π_m W_m^(r) [1; x_m]: tensor fusion and a linear layer, without ever building the
    tensor.

    features[m]: (B, dims[m]) → (B, out_features). The linear layer's weight, a tensor of M + 1
    axes, is held as `rank` products of one factor per modality, so cost and memory grow with Σ dims
    and not with Π dims. At a rank as large as the tensor's own, every linear layer behind
    `TensorFusion` can be written so. An absent modality is [1; 0].
    The leading 1 starts as light as any other of the d + 1 numbers, so with wide features h is
    nearly all products, and what each modality says alone is learnt late; chapter 3 measures the
    loss, and a start of factor[m].bias that avoids it.
    Raises as `ConcatFusion`. Liu et al., Efficient Low-rank Multimodal Fusion, ACL 2018 (arXiv
    1806.00064).
    """

    def __init__(self, dims: dict[str, int], out_features: int, rank: int) -> None:
        """Make one factor per modality, rank · out_features wide; rank ≥ 1, out_features ≥ 1."""
        super().__init__(dims, out_features, rank=rank)
        self.rank = rank
        # the layer's bias is the column of W_m that meets the 1
        factors = {m: nn.Linear(d, rank * out_features) for m, d in dims.items()}
        self.factor = nn.ModuleDict(factors)
        # with the usual start, a product over many modalities is nearly 0 or huge: here its
        # variance is that of one [1; x] is d + 1 numbers of size 1; rank^(-1/2M) in each factor is
        # rank^(-1/2) in their product
        for factor in factors.values():
            std = rank ** (-0.5 / len(dims)) / math.sqrt(factor.in_features + 1)
            nn.init.normal_(factor.weight, std=std)
            nn.init.normal_(factor.bias, std=std)

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        x = masked_vectors(features, self.dims, present)
        product = reduce(torch.mul, (self.factor[m](x[m]) for m in self.dims))  # (B, rank · out)
        return product.unflatten(1, (self.rank, self.out_features)).sum(1)  # (B, out)


class FilmFusion(Fusion):
    """h = (1 + γ) ⊙ u + β,  [γ; β] = V x_c,  u = b + Σ_{m≠c} W_m x_m: the condition c scales and
    shifts the others.

    features[m]: (B, dims[m]) → (B, out_features). γ counts from 1 and V has no bias, so a condition
    that is zero or absent is the identity: h = u. One modality sets *how* the others are read; h is
    linear in each of the two sides.
    Raises ValueError where `condition` is not one of at least two modalities, else as
    `ConcatFusion`. Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI
    2018 (arXiv 1709.07871).
    """

    def __init__(self, dims: dict[str, int], out_features: int, condition: str) -> None:
        """Make the generator of γ and β from dims[condition], and one projection for each other
        modality."""
        super().__init__(dims, out_features)
        require(
            condition in dims and len(dims) >= 2,
            f"condition is {condition!r}, expected one of at least two modalities; dims is {dims}",
        )
        self.condition = condition
        self.generator = nn.Linear(dims[condition], 2 * out_features, bias=False)
        self.content = SumFusion({m: d for m, d in dims.items() if m != condition}, out_features)

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        x = masked_vectors(features, self.dims, present)
        scale, shift = self.generator(x[self.condition]).chunk(2, dim=-1)  # each (B, out)
        content = self.content({m: x[m] for m in self.content.dims})  # (B, out)
        return torch.addcmul(content + shift, content, scale)
