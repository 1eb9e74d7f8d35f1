"""What a head makes of features before it weighs them: vectors centred, numbers and categories as
hat functions.

Taught in chapter 10.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mmtutor.choosing.optimum import pieces


class Centred(nn.Module):
    """x → (x - mean) / scale, with one scale for all features of a modality, so that the mean of
    ‖x‖² is 1.

    One scale keeps the features' own proportions, in which frozen encoders put what they find
    important first; to give each feature the same variance was measured to be worse. x: (B, D) →
    (B, D); D = 1 or more.
    """

    def __init__(self, dim: int) -> None:
        """Start as the identity; `measure` sets mean and scale."""
        super().__init__()
        self.mean: Tensor = nn.Buffer(torch.zeros(dim))
        self.scale: Tensor = nn.Buffer(torch.ones(()))

    def measure(self, x: Tensor, rows: Tensor | None = None) -> None:
        """Set mean and scale from training features x (N, D), or from some of their rows.

        They are read in pieces: x may be a memory map.
        """
        rows = torch.arange(len(x)) if rows is None else rows
        total, squares = torch.zeros(x.shape[1], dtype=torch.float64), 0.0
        for piece in pieces(rows):
            part = x[piece].double()
            total += part.sum(0)
            squares += float(part.square().sum())
        mean = total / len(rows)
        variance = max(squares / len(rows) - float(mean.square().sum()), 1e-12)
        self.mean = mean.float()
        self.scale = torch.tensor(variance).sqrt().float()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features."""
        return (x - self.mean) / self.scale


class Hats(nn.Module):
    """K columns of numbers, some of them unknown → K · J hat functions: h_kj is 1 at knot j of
    column k, 0 at its other knots, linear between them and constant beyond the ends.

    A linear layer on hats is a curve per number, bent at the knots, which no outlier can pull
    away; on the numbers of categories, all of which are knots, it is one weight each. x: (B, 2K),
    K values, then K ones where the value is known and zeros where it is not. Out: (B, K · J), the
    hats less their mean over the known, in one scale so that the mean of ‖h‖² is 1. What is
    unknown adds 0 and so says nothing: that it is unknown is no evidence either, since gaps that
    follow the label are seldom there again. Hastie & Tibshirani, Generalized Additive Models, 1990.
    """

    def __init__(self, columns: int, knots: int) -> None:
        """Make room for K = columns and J = knots ≥ 2; `measure` places them."""
        super().__init__()
        self.knots: Tensor = nn.Buffer(torch.zeros(columns, knots))
        self.mean: Tensor = nn.Buffer(torch.zeros(columns, knots))
        self.scale: Tensor = nn.Buffer(torch.ones(()))

    def measure(self, x: Tensor, rows: Tensor | None = None) -> None:
        """Place the knots of each column at J quantiles of the different values that are known in
        training rows, at all of them where there are no more; set means and scale."""
        rows = torch.arange(len(x)) if rows is None else rows
        values, known = (part.numpy() for part in x[rows].chunk(2, 1))
        most = self.knots.shape[1]
        for k in range(len(self.knots)):
            seen = np.unique(values[known[:, k] > 0, k])
            if len(seen):  # the last knot stands for those that are not needed
                even = np.linspace(0, len(seen) - 1, min(most, len(seen))).round().astype(int)
                self.knots[k] = torch.from_numpy(np.resize(seen[even], most)).cummax(0).values
        self.mean, self.scale = torch.zeros_like(self.knots), torch.ones(())
        count = torch.from_numpy(known).sum(0).clamp(min=1)
        totals = torch.stack([self._hats(x[piece]).sum(0) for piece in pieces(rows)])
        self.mean = totals.sum(0) / count[:, None]
        squares = sum(float(self(x[piece]).square().sum()) for piece in pieces(rows))
        self.scale = torch.tensor(max(squares / len(rows), 1e-12)).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """Return the centred hats."""
        known = x.chunk(2, 1)[1][..., None]
        return ((self._hats(x) - self.mean * known) / self.scale).flatten(1)

    def _hats(self, x: Tensor) -> Tensor:
        """Return the hats (B, K, J), 0 where the value is unknown."""
        value, known = (part.T.contiguous() for part in x.chunk(2, 1))  # (K, B)
        value = torch.minimum(torch.maximum(value, self.knots[:, :1]), self.knots[:, -1:])
        left = torch.searchsorted(self.knots, value).clamp(1, self.knots.shape[1] - 1) - 1
        start, end = self.knots.gather(1, left), self.knots.gather(1, left + 1)
        share = (value - start) / (end - start).clamp(min=1e-12)
        hats = torch.zeros(*value.shape, self.knots.shape[1], device=x.device)
        hats.scatter_(2, left[..., None], (known * (1 - share))[..., None])
        hats.scatter_(2, left[..., None] + 1, (known * share)[..., None])
        return hats.transpose(0, 1)
