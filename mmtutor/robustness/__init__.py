"""What happens when a modality is noisy, late or missing, and what can be done about it.

corrupt: raw samples made worse, by a measured amount. dropout: modalities hidden in training.
curves: score against severity. imputation: missing features guessed from the others. quality: how
unusual features look, as weights. Taught in chapter 8.
"""

from mmtutor.robustness.corrupt import KINDS, Kind, corrupt
from mmtutor.robustness.curves import (
    Curve,
    effective_robustness,
    relative_robustness,
    robustness_curve,
)
from mmtutor.robustness.dropout import ModalityDropout
from mmtutor.robustness.imputation import CrossModalImputer
from mmtutor.robustness.quality import NoiseDetector, quality_vote

__all__ = [
    "KINDS",
    "CrossModalImputer",
    "Curve",
    "Kind",
    "ModalityDropout",
    "NoiseDetector",
    "corrupt",
    "effective_robustness",
    "quality_vote",
    "relative_robustness",
    "robustness_curve",
]
