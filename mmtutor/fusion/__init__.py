"""Many modalities → one. `feature` joins representations, `model` networks, `decision` opinions.

Every fusion takes features by modality name and masks for what is missing:
`forward(features, present=None) -> (B, out_features)`; those that read sequences also take `masks`.
Taught in chapters 3, 4 and 5.
"""

from mmtutor.fusion.classifier import FusionClassifier
from mmtutor.fusion.feature import (
    ConcatFusion,
    FilmFusion,
    GatedFusion,
    LowRankFusion,
    SumFusion,
    TensorFusion,
)
from mmtutor.fusion.model import (
    BottleneckFusion,
    CrossAttentionFusion,
    EncoderFusion,
    SelfAttentionFusion,
)

__all__ = [
    "BottleneckFusion",
    "ConcatFusion",
    "CrossAttentionFusion",
    "EncoderFusion",
    "FilmFusion",
    "FusionClassifier",
    "GatedFusion",
    "LowRankFusion",
    "SelfAttentionFusion",
    "SumFusion",
    "TensorFusion",
]
