"""Feature-level (early) fusion: join the modalities' representations, then decide once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtutor.fusion.inputs import masked_vectors
from mmtutor.types import Features, Present


class ConcatFusion(nn.Module):
    """h = [x_1; x_2; ...; x_M]: lay the modalities side by side, in the order of `dims`.

    features[m]: (B, dims[m]) → (B, Σ dims). An absent modality contributes zeros and receives no gradient.
    Nothing is learnt here; whatever follows learns one weight per input feature, hence no products between modalities.
    Raises ValueError for empty `dims` or a width below 1; forward raises as `inputs.masked_vectors`.
    Baltrušaitis et al., Multimodal Machine Learning, TPAMI 2019 (arXiv 1705.09406), section 5.1.
    """

    def __init__(self, dims: dict[str, int]) -> None:
        """Remember the width of each modality: dims[m] ≥ 1."""
        super().__init__()
        if not dims or min(dims.values()) < 1:
            raise ValueError(f"dims is {dims}, expected at least one modality, each of width 1 or more")
        self.dims = dict(dims)
        self.out_features = sum(dims.values())

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return (B, out_features)."""
        return torch.cat(list(masked_vectors(features, self.dims, present).values()), dim=-1)
