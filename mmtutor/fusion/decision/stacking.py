"""Stacking: learn from held-out opinions how to combine them. Taught in chapter 5."""

import numpy as np
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mmtutor.checks import require, shaped
from mmtutor.fusion.decision.opinions import check_probabilities
from mmtutor.fusion.inputs import check_modalities
from mmtutor.types import Present


class Stacking:
    """p = classifier([ℓ_1, present_1; ...; ℓ_M, present_M]),  ℓ_m(c) = ln p_m(c) - mean over
    classes of ln p_m.

    Any scikit-learn classifier with `predict_proba` learns how to read the opinions; ℓ of an absent
    modality is 0, as for one that says nothing, and a further column says who is there. A modality
    never present in training has only constant columns, from which nothing is learnt, so it is not
    listened to later either. **Fit it on opinions about samples that their models were not trained
    on** (held out, or out of fold): opinions about training samples look better than they are.
    Wolpert, Stacked Generalization, Neural Networks 1992.
    """

    def __init__(self, estimator: object = None) -> None:
        """Take the classifier to copy and train; None: a logistic regression (L2, C = 1)."""
        self.estimator = LogisticRegression(max_iter=1000) if estimator is None else estimator

    def fit(
        self, probs: dict[str, Tensor], y: Tensor | np.ndarray, present: Present | None = None
    ) -> "Stacking":
        """Learn from probs[m]: (N, C) and labels y: (N,) in 0..C-1; return self.

        Raises ValueError for labels outside 0..C-1, fewer than two classes among them, or lengths
        that differ, and as `votes.average`.
        """
        columns, mask = self._columns(probs, present)
        y = np.asarray(y)
        self.modalities_, self.n_classes_ = list(probs), next(iter(probs.values())).shape[1]
        shaped("y", y, (len(columns),), ", one label per row of probs")
        known = np.unique(y[mask])
        require(
            len(known) >= 2 and y.min() >= 0 and y.max() < self.n_classes_,
            f"y holds the labels {known} where somebody is present, "
            f"expected two or more of 0..{self.n_classes_ - 1}",
        )
        self.prior_ = np.bincount(y.astype(int), minlength=self.n_classes_) / len(y)
        self.estimator_ = clone(self.estimator).fit(columns[mask], y[mask])
        return self

    def predict_proba(self, probs: dict[str, Tensor], present: Present | None = None) -> Tensor:
        """Return (N, C), rows sum to 1; a class that training never showed has 0; nobody present:
        training's shares.

        Raises RuntimeError before `fit`, KeyError for other modalities than it had, ValueError as
        `votes.average`.
        """
        require(
            hasattr(self, "estimator_"),
            "this Stacking has learnt nothing yet: call fit first",
            RuntimeError,
        )
        check_modalities(probs, self.modalities_, "probs")
        columns, mask = self._columns({m: probs[m] for m in self.modalities_}, present)
        answer = np.tile(self.prior_, (len(columns), 1))
        if mask.any():
            answer[mask] = 0.0
            known = np.asarray(self.estimator_.classes_, dtype=int)
            answer[np.ix_(mask, known)] = self.estimator_.predict_proba(columns[mask])
        like = probs[self.modalities_[0]]
        return torch.as_tensor(answer, dtype=like.dtype, device=like.device)

    @staticmethod
    def _columns(
        probs: dict[str, Tensor], present: Present | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the classifier's columns (N, M · (C + 1)) and which rows have anybody present,
        (N,)."""
        mask = check_probabilities(probs, present)
        there = {m: is_present[:, None] for m, is_present in mask.items()}  # (N, 1)
        logs = {
            m: torch.where(there[m], p.detach(), 1.0).double().clamp(min=1e-6).log()
            for m, p in probs.items()
        }
        parts = [
            torch.cat([log - log.mean(1, keepdim=True), there[m].double()], 1)
            for m, log in logs.items()
        ]
        some = torch.cat(list(there.values()), 1).any(1)
        return torch.cat(parts, 1).cpu().numpy(), some.cpu().numpy()
