"""How good is it, how sure are we, and is it better than the other one?

metrics: accuracy, macro-F1, Brier score, log loss. calibration: ECE, reliability curve,
temperature. intervals: bootstrap and Nadeau-Bengio. splits: stratified and grouped folds.
Everything takes torch tensors or numpy arrays. Taught in chapter 1.
"""

from mmtutor.evaluation.calibration import (
    ReliabilityCurve,
    apply_temperature,
    expected_calibration_error,
    reliability_curve,
    temperature_scale,
)
from mmtutor.evaluation.intervals import (
    Comparison,
    Interval,
    bootstrap_interval,
    bootstrap_totals,
    corrected_interval,
    paired_comparison,
    pigeonhole_bootstrap,
)
from mmtutor.evaluation.metrics import accuracy, brier_score, log_loss, macro_f1
from mmtutor.evaluation.splits import folds, grouped_split

__all__ = [
    "Comparison",
    "Interval",
    "ReliabilityCurve",
    "accuracy",
    "apply_temperature",
    "bootstrap_interval",
    "bootstrap_totals",
    "brier_score",
    "corrected_interval",
    "expected_calibration_error",
    "folds",
    "grouped_split",
    "log_loss",
    "macro_f1",
    "paired_comparison",
    "pigeonhole_bootstrap",
    "reliability_curve",
    "temperature_scale",
]
