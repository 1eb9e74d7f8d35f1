"""Missing features guessed from those that are there. Taught in chapter 8."""

import torch
from torch import Tensor

from mmtutor.checks import check_finite, positive, require
from mmtutor.fusion.inputs import check_dims, masked_vectors, presence
from mmtutor.types import Features, Samples


class CrossModalImputer:
    """x_absent ≈ μ_absent + (x_there - μ_there) W, W = (S_there,there + α I)⁻¹ S_there,absent:
    ridge regression.

    One regression per pattern of presence, so that each uses all that is there and nothing else:
    one regression for all patterns would have to read a stand-in for the absent as if it were data.
    All come from one matrix of cross-products S (D, D) over the complete training samples, D the
    width of all modalities together, and are solved when their pattern turns up. Memory and time
    grow as D² and D³; vectors only. α is in units of squared features summed over samples, as in
    scikit-learn: standardise first. Guessed features are conditional means, less spread out than
    real ones. Hoerl and Kennard, Ridge Regression, Technometrics 1970.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        """Set the strength of the penalty. Raises ValueError unless it is more than 0 and
        finite."""
        positive("alpha", alpha)
        self.alpha = alpha

    def fit(self, train: Samples) -> "CrossModalImputer":
        """Learn from the samples that have every modality; return self.

        features[m]: (N, D_m). Raises ValueError for fewer than 2 modalities or 2 complete samples,
        saying how many have each modality, for sequences and for NaN where something is present.
        """
        require(
            len(train.features) >= 2,
            f"train has the modalities {list(train.features)}, expected 2 or more to guess between",
        )
        is_present = presence(train.features, train.present)
        complete = torch.stack(list(is_present.values())).all(0)
        counts = {m: int(mask.sum()) for m, mask in is_present.items()}
        require(
            complete.sum() >= 2,
            f"{int(complete.sum())} of {len(train)} samples are complete, expected 2; present:"
            f" {counts}",
        )
        self.dims_ = check_dims({m: x.shape[-1] for m, x in train.features.items()})
        check_finite("train", train)
        x = self._table(train[complete])
        self.mean_ = x.mean(0)
        self.products_ = (x - self.mean_).T @ (x - self.mean_)  # (D, D)
        return self

    def transform(self, samples: Samples) -> Samples:
        """Return the samples with absent features filled in, and `present` True wherever something
        was present.

        What is present is passed on bit by bit; a sample without any modality stays as it is,
        absent. Raises RuntimeError before `fit`, KeyError and ValueError for other modalities or
        widths than in training, and for NaN.
        """
        require(
            hasattr(self, "mean_"),
            "this imputer has learnt nothing yet: call fit(train) first",
            RuntimeError,
        )
        x = self._table(samples)
        check_finite("samples", samples)
        # (N, M)
        pattern = torch.stack(list(presence(samples.features, samples.present).values()), 1)
        anyone = pattern.any(1)
        features = {m: values.clone() for m, values in samples.features.items()}
        for who in pattern[anyone & ~pattern.all(1)].unique(dim=0):
            rows = (pattern == who).all(1)
            known = {m for m, is_there in zip(features, who.tolist(), strict=True) if is_there}
            for modality, guess in self._guess(x[rows], known).items():
                features[modality][rows] = guess.to(features[modality])
        return Samples(features, samples.labels, {m: anyone.clone() for m in features})

    def _guess(self, x: Tensor, known: set[str]) -> Features:
        """x: (N, D), 0 where absent → features of the modalities that are not `known`."""
        widths = torch.tensor(list(self.dims_.values()))
        # (D,)
        given = (
            torch.tensor([m in known for m in self.dims_]).repeat_interleave(widths).to(x.device)
        )
        square = self.products_[given][:, given] + self.alpha * torch.eye(int(given.sum())).to(x)
        weights = torch.linalg.solve(square, self.products_[given][:, ~given])
        guess = self.mean_[~given] + (x - self.mean_)[:, given] @ weights
        absent = [m for m in self.dims_ if m not in known]
        return dict(zip(absent, guess.split([self.dims_[m] for m in absent], 1), strict=True))

    def _table(self, samples: Samples) -> Tensor:
        """Return (N, D) in double precision: the normal equations square the condition number."""
        return torch.cat(
            list(masked_vectors(samples.features, self.dims_, samples.present).values()), 1
        ).double()
