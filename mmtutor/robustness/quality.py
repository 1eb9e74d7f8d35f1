"""How unusual do these features look? A number per sample and modality, and a vote that listens to
it.

Taught in chapter 8.
"""

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from mmtutor.checks import check_finite, require, shaped
from mmtutor.fusion.decision.opinions import normalised, opinions
from mmtutor.fusion.inputs import check_dims, check_modalities, masked_vectors, presence
from mmtutor.types import Features, Present, Samples


class NoiseDetector:
    """q_m = (1 + #{held-out clean samples at least as unusual}) / (n + 1), unusual: Mahalanobis
    distance.

    d² = (x - μ)ᵀ Σ⁻¹ (x - μ), with mean and covariance of the clean training features, the
    covariance shrunk, since with few samples its small eigenvalues are far too small. Where
    held-out and new samples are exchangeable, the q of a clean sample is uniform on {1, ..., n + 1}
    / (n + 1): P(q ≤ t) ≤ t. What is farther out than all gets 1 / (n + 1). Labels are not looked
    at: noise that looks like another clean sample goes unnoticed. Ledoit and Wolf, A
    well-conditioned estimator for large-dimensional covariance matrices, 2004; the rank is the
    conformal p-value of Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005.
    """

    def fit(self, clean: Samples, held_out: Samples) -> "NoiseDetector":
        """Learn what is usual from `clean`, and how far `held_out`, other clean samples, lie;
        return self.

        features[m]: (N, D_m) in both; absent ones are left out. `held_out` must not overlap with
        `clean`: distances of the samples that made the covariance are too small. Raises KeyError
        and ValueError for other modalities or widths, ValueError for fewer than 2 samples of a
        modality, for sequences and for NaN.
        """
        self.dims_ = check_dims({m: x.shape[-1] for m, x in clean.features.items()})
        usual, other = (
            self._present_rows(name, part)
            for name, part in (("clean", clean), ("held_out", held_out))
        )
        self.models_ = {m: LedoitWolf().fit(x.double().cpu().numpy()) for m, x in usual.items()}
        self.held_out_ = {m: self._distances(m, x).sort().values for m, x in other.items()}
        return self

    def quality(self, features: Features, present: Present | None = None) -> dict[str, Tensor]:
        """Return modality → (N,) in (0, 1], 0 where absent: weights for `quality_vote`.

        features[m]: (N, D_m). Raises RuntimeError before `fit`, KeyError and ValueError for other
        modalities or widths, ValueError for NaN where something is present.
        """
        require(
            hasattr(self, "held_out_"),
            "this detector has learnt nothing yet: call fit(clean, held_out) first",
            RuntimeError,
        )
        is_present, result = presence(features, present), {}
        for modality, x in masked_vectors(features, self.dims_, present).items():
            require(
                torch.isfinite(x).all(),
                f"features[{modality!r}] hold NaN or inf: mark such samples absent in `present`",
            )
            known = self.held_out_[modality]
            # how many of them are less unusual
            closer = torch.searchsorted(known, self._distances(modality, x))
            rank = (1 + len(known) - closer) / (len(known) + 1)
            result[modality] = torch.where(is_present[modality], rank.to(x), 0.0)
        return result

    def _present_rows(self, name: str, samples: Samples) -> Features:
        is_present = presence(samples.features, samples.present)
        vectors = masked_vectors(samples.features, self.dims_, samples.present)
        check_finite(name, samples)
        for modality, mask in is_present.items():
            require(
                mask.sum() >= 2,
                f"{name} has {int(mask.sum())} samples with {modality!r} present, expected at"
                " least 2",
            )
        return {m: x[is_present[m]] for m, x in vectors.items()}

    def _distances(self, modality: str, x: Tensor) -> Tensor:
        """d² (N,) by one matrix product: scikit-learn's own loop over the rows takes ten times as
        long."""
        model = self.models_[modality]
        centred = x.detach().double().cpu().numpy() - model.location_
        return torch.from_numpy(((centred @ model.precision_) * centred).sum(1))


def quality_vote(
    probs: dict[str, Tensor], quality: dict[str, Tensor], present: Present | None = None
) -> Tensor:
    """p(c) = Σ_m q_m p_m(c) / Σ_m q_m over those present: `weighted_vote` with weights of each
    sample's own.

    probs[m]: (B, C), rows sum to 1; quality[m]: (B,) in [0, 1], such as `NoiseDetector.quality`, or
    `mmtutor.fusion.decision.trust`, with which this is `fuzzy_rules` → (B, C). What quality says of
    an absent modality is not read. Where nobody present has any quality: uniform, 1/C.
    Raises KeyError for a modality without quality, ValueError for another shape or numbers outside
    [0, 1], and as `mmtutor.fusion.decision.average`.
    """
    check_modalities(quality, list(probs), "quality")
    p, is_present = opinions(probs, present, hidden=0.0)  # (M, B, C), (M, B)
    for modality, q in quality.items():
        shaped(f"quality[{modality!r}]", q, (p.shape[1],))
    q = torch.stack([quality[m].to(p) for m in probs]).masked_fill(~is_present, 0.0)  # (M, B)
    inside = ((q >= 0) & (q <= 1)).all(1)  # (M,)
    require(
        inside.all(),
        f"quality of {[m for m, fine in zip(probs, inside, strict=True) if not fine]} has numbers"
        " outside [0, 1] or NaN where the modality is present",
    )
    return normalised((q[:, :, None] * p).sum(0), next(iter(probs.values())))
