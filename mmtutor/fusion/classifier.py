"""A fusion followed by a head: the smallest multimodal model."""

from __future__ import annotations

from torch import Tensor, nn

from mmtutor.types import Features, Present


class FusionClassifier(nn.Module):
    """logits = head(fusion(features)), the head linear, or with one hidden layer if `hidden` is given.

    features as the fusion takes them → (B, classes). `fusion` is any module with `out_features`.
    dropout in [0, 1) acts on the fused features and on the hidden layer.
    """

    def __init__(self, fusion: nn.Module, classes: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        """Put a head for `classes` ≥ 1 outputs (1: a regression) behind `fusion`."""
        super().__init__()
        self.fusion = fusion
        width = fusion.out_features
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden is not None:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, classes))

    def forward(self, features: Features, present: Present | None = None) -> Tensor:
        """Return logits (B, classes)."""
        return self.head(self.fusion(features, present))
