"""A fusion followed by a head: the smallest multimodal model. Taught in chapter 3."""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmtutor.fusion.inputs import Fusion
from mmtutor.types import Features, Masks, Present


class FusionClassifier(nn.Module):
    """logits = head(fusion(features)), the head linear, or with one hidden layer if `hidden` is
    given.

    features as the fusion takes them → (B, classes). `fusion` is any module with `out_features`.
    dropout in [0, 1) acts on the fused features and on the hidden layer.
    recompute: forget the fused features and compute them once more in the backward pass. Same
    numbers, more work, and what is wide, the outer product of `TensorFusion` above all, is not kept
    in memory between the two passes. Chen et al., Training Deep Nets with Sublinear Memory Cost,
    2016 (arXiv 1604.06174).
    """

    def __init__(
        self,
        fusion: Fusion,
        classes: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        recompute: bool = False,
    ) -> None:
        """Put a head for `classes` ≥ 1 outputs (1: a regression) behind `fusion`."""
        super().__init__()
        self.fusion, self.recompute = fusion, recompute
        # no Dropout(0): it would copy what is wide
        before, between = ([nn.Dropout(dropout)] if dropout else [] for _ in range(2))
        last = fusion.out_features if hidden is None else hidden
        inner = (
            [] if hidden is None else [nn.Linear(fusion.out_features, last), nn.ReLU(), *between]
        )
        self.head = nn.Sequential(*before, *inner, nn.Linear(last, classes))

    def forward(
        self, features: Features, present: Present | None = None, masks: Masks | None = None
    ) -> Tensor:
        """Return logits (B, classes). masks are handed on to a fusion that reads sequences."""
        inputs = (features, present) if masks is None else (features, present, masks)
        if self.recompute and self.training:
            return checkpoint(self._logits, *inputs, use_reentrant=False)
        return self._logits(*inputs)

    def _logits(self, *inputs: Features | Present | Masks | None) -> Tensor:
        return self.head(self.fusion(*inputs))
