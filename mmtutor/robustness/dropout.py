"""Modality dropout: hide modalities at random while training, so that the model learns to do
without.

Taught in chapter 8.
"""

from dataclasses import dataclass

import torch

from mmtutor.checks import proper_fraction, require
from mmtutor.fusion.inputs import check_modalities, presence
from mmtutor.types import Present, Samples


@dataclass(frozen=True)
class ModalityDropout:
    """Hide each modality that is present with probability p, but never all that a sample has.

    Where every one of a sample's M present modalities would go, one of them, each with probability
    1/M, is kept. So the set K that is left of the set S of those present has probability, for every
    non-empty K ⊆ S,
        P(K) = Π_{m∈K} (1 - p_m) · Π_{m∈S∖K} p_m + [|K| = 1] · Π_{m∈S} p_m / M,
    and modality m stays with probability 1 - p_m + Π_{k∈S} p_k / M. With M = 1 nothing is ever
    hidden; who was absent stays absent. To keep one rather than draw anew takes one pass, and shows
    single modalities more often.

    p: one number in [0, 1), or one per modality. Raises ValueError for p outside.
    Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, TPAMI 2016 (there all may go
    at once).
    """

    p: float | dict[str, float]

    def __post_init__(self) -> None:
        """Refuse what is no probability, and p = 1, with which a modality could only be seen by
        rescue."""
        for name, p in self.p.items() if isinstance(self.p, dict) else [("p", self.p)]:
            proper_fraction(f"dropout probability {name!r}", p, zero=True)

    def __call__(self, given: Samples | Present, generator: torch.Generator) -> Samples | Present:
        """Return the samples, or the presence masks, with fewer modalities present; what was given
        is not changed.

        given: `Samples`, or modality → (N,) bool. Masks that come back name every modality.
        generator: on the device of the masks. Raises KeyError where p names other modalities than
        there are, TypeError for masks that are not bool, ValueError for none or for unequal
        lengths.
        """
        if isinstance(given, Samples):
            is_present = self._thinned(presence(given.features, given.present), generator)
            return Samples(given.features, given.labels, is_present, given.masks)
        return self._thinned(presence(given, given), generator)

    def _thinned(self, is_present: Present, generator: torch.Generator) -> Present:
        lengths = {m: len(mask) for m, mask in is_present.items()}
        require(
            len(set(lengths.values())) == 1,
            f"present has masks of lengths {lengths}, expected at least one, all of the same"
            " length",
        )
        p = self.p if isinstance(self.p, dict) else dict.fromkeys(is_present, self.p)
        check_modalities(p, list(is_present), "p")
        masks = torch.stack(list(is_present.values()))  # (M, N)
        limits = torch.tensor([[p[m]] for m in is_present], device=masks.device)  # (M, 1)
        draws, lots = (
            torch.rand(masks.shape, generator=generator, device=masks.device) for _ in range(2)
        )
        kept = masks & (draws >= limits)
        lots = lots.masked_fill(~masks, -1.0)  # the highest lot among those present is rescued
        rescued = lots.argmax(0) == torch.arange(len(masks), device=masks.device)[:, None]
        kept |= rescued & masks & ~kept.any(0)
        return dict(zip(is_present, kept, strict=True))
