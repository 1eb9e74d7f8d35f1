"""Many modalities → one. `feature` joins representations, `decision` joins opinions.

Every fusion takes features by modality name and masks for what is missing:
`forward(features, present=None) -> (B, out_features)`.
"""

from mmtutor.fusion.classifier import FusionClassifier
from mmtutor.fusion.feature import ConcatFusion

__all__ = ["ConcatFusion", "FusionClassifier"]
