"""Onto one clock, into one space: which moment of one modality belongs to which moment, or sample,
of another.

`clock` brings streams of any rate onto one grid, `space` points into a picture, `warping` follows
two recordings of one thing, `forced` finds tokens in a recording, `contrastive` brings two
modalities into one space. Taught in chapter 7.
"""

from mmtutor.alignment.clock import (
    Clock,
    Synchronised,
    estimate_drift,
    estimate_lag,
    resample,
    synchronise,
)
from mmtutor.alignment.contrastive import cca, info_nce, recall_at_k
from mmtutor.alignment.forced import Span, ctc_score, forced_align
from mmtutor.alignment.space import CameraCalibration, project
from mmtutor.alignment.warping import distance_matrix, dtw, soft_dtw, warp_times

__all__ = [
    "CameraCalibration",
    "Clock",
    "Span",
    "Synchronised",
    "cca",
    "ctc_score",
    "distance_matrix",
    "dtw",
    "estimate_drift",
    "estimate_lag",
    "forced_align",
    "info_nce",
    "project",
    "recall_at_k",
    "resample",
    "soft_dtw",
    "synchronise",
    "warp_times",
]
