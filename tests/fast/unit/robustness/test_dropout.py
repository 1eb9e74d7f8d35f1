import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.fusion import ConcatFusion
from mmtutor.robustness import ModalityDropout
from mmtutor.training import predict
from mmtutor.types import Samples

NAMES = ["image", "text", "audio"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_there(n: int, names: list[str] = NAMES) -> dict[str, torch.Tensor]:
    return {m: torch.ones(n, dtype=torch.bool) for m in names}


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30),
    p=st.floats(0, 0.999),
    seed=st.integers(0, 1000),
)
def test_nobody_comes_back_and_nobody_is_left_alone(rows, p, seed):
    before = dict(zip(NAMES, torch.tensor(rows).T, strict=True))
    after = ModalityDropout(p)(before, seeded(seed))
    assert list(after) == NAMES
    there, left = (torch.stack(list(masks.values())) for masks in (before, after))
    assert left.dtype == torch.bool and not bool((left & ~there).any())
    # who had something still has, who had nothing has nothing
    assert torch.equal(left.any(0), there.any(0))


def test_no_dropout_changes_nothing_and_the_seed_decides():
    before = all_there(200)
    before["audio"][::3] = False
    kept = {m: mask.clone() for m, mask in before.items()}
    assert all(
        torch.equal(mask, kept[m]) for m, mask in ModalityDropout(0.0)(before, seeded()).items()
    )
    one, again, other = (ModalityDropout(0.5)(before, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[m], again[m]) for m in NAMES)
    assert any(not torch.equal(one[m], other[m]) for m in NAMES)
    assert all(torch.equal(before[m], kept[m]) for m in NAMES)  # not in place


def test_each_modality_has_its_own_probability_whatever_the_order():
    after = ModalityDropout({"audio": 0.0, "image": 0.9, "text": 0.3})(all_there(20_000), seeded())
    assert bool(after["audio"].all())
    assert after["image"].float().mean() == pytest.approx(0.1, abs=0.01)
    assert after["text"].float().mean() == pytest.approx(0.7, abs=0.015)


def test_samples_keep_everything_but_their_presence():
    masks = {"text": torch.rand(50, 4, generator=seeded()) < 0.5}
    features = {"image": torch.randn(50, 3), "text": torch.randn(50, 4, 2)}
    before = Samples(features, torch.arange(50), {"image": torch.arange(50) % 2 == 0}, masks)
    after = ModalityDropout(0.6)(before, seeded())
    assert (
        after.features is features
        and after.masks is masks
        and torch.equal(after.labels, before.labels)
    )
    assert not bool((after.present["image"] & ~before.present["image"]).any())
    assert bool(after.present["text"][1::2].all())  # the only one they have
    assert 0 < after.present["text"][::2].sum() < 25
    assert len(after[:10]) == 10  # can be cut as a batch
    nothing_said = ModalityDropout(0.6)(Samples(features, torch.arange(50)), seeded())
    assert not bool(nothing_said.present["image"].all())


def test_a_model_sees_what_is_dropped_as_absent():
    fusion = ConcatFusion({"image": 3, "text": 2})
    before = Samples(
        {"image": torch.randn(40, 3), "text": torch.randn(40, 2)},
        torch.zeros(40, dtype=torch.int64),
    )
    after = ModalityDropout(0.5)(before, seeded())
    out, dropped = predict(fusion, after), ~after.present["image"]
    loud = {
        "image": torch.where(dropped[:, None], 1e6, before.features["image"]),
        "text": before.features["text"],
    }
    torch.testing.assert_close(predict(fusion, Samples(loud, after.labels, after.present)), out)
    assert bool(dropped.any())
    assert not torch.equal(predict(fusion, before), out)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_masks_on_the_gpu_stay_there():
    present = {m: mask.cuda() for m, mask in all_there(20_000).items()}
    after = ModalityDropout(0.5)(present, torch.Generator("cuda").manual_seed(0))
    assert all(mask.device.type == "cuda" for mask in after.values())
    assert bool(torch.stack(list(after.values())).any(0).all())
    assert after["text"].float().mean().item() == pytest.approx(0.5 + 0.125 / 3, abs=0.015)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan"), {"image": 0.5, "text": 1.2}])
def test_probabilities_out_of_range_are_refused(p):
    with pytest.raises(ValueError, match=r"must be a number in \[0, 1\)"):
        ModalityDropout(p)


def test_the_odd_modality_of_a_dictionary_is_named():
    with pytest.raises(ValueError, match=r"'text' must be a number in \[0, 1\), not 1\.2"):
        ModalityDropout({"image": 0.5, "text": 1.2})


@pytest.mark.parametrize(
    ("p", "present", "error", "words"),
    [
        ({"image": 0.5}, all_there(3, ["image", "text"]), KeyError, r"p lacks \['text'\]"),
        (
            {"image": 0.5, "lidar": 0.1},
            all_there(3, ["image"]),
            KeyError,
            r"p names unknown \['lidar'\]",
        ),
        (0.5, {"image": torch.ones(3)}, TypeError, r"present\['image'\] is torch.float32"),
        (
            0.5,
            {"image": torch.ones(3, 2, dtype=torch.bool)},
            ValueError,
            r"present\['image'\] has shape \(3, 2\)",
        ),
        (0.5, all_there(3, ["a"]) | all_there(4, ["b"]), ValueError, "lengths {'a': 3, 'b': 4}"),
        (0.5, {}, ValueError, "expected at least one"),
    ],
)
def test_masks_that_cannot_be_are_refused(p, present, error, words):
    with pytest.raises(error, match=words):
        ModalityDropout(p)(present, seeded())
