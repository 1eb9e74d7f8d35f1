"""fit_optimum: the one optimum, whatever the pieces, the start and the number of processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmtutor.choosing import optimum
from mmtutor.choosing.optimum import fit_optimum
from mmtutor.device import make_accelerator, one_thread
from mmtutor.fusion import SumFusion
from mmtutor.types import Samples

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")

SCRIPT = """
import os, torch
from mmtutor.choosing import optimum
from mmtutor.fusion import SumFusion
from mmtutor.types import Samples
optimum.ROWS = 10
g = torch.Generator().manual_seed(0)
x = {"a": torch.randn(55, 4, generator=g)}
torch.manual_seed(0)
model = SumFusion({"a": 4}, 3)
data = Samples(x, (x["a"].argmax(1) % 3).long())
value = optimum.fit_optimum(model, data, l2=0.05, class_weights="balanced", device="cpu")
if int(os.environ.get("RANK", 0)) == 0:
    learnt = torch.cat([p.flatten() for p in model.parameters()]).tolist()
    print(os.environ.get("WORLD_SIZE", 1), value, *learnt)
"""


def some(n=80, classes=3, seed=0) -> Samples:
    g = torch.Generator().manual_seed(seed)
    x = {"a": torch.randn(n, 4, generator=g), "b": 2 + torch.randn(n, 3, generator=g)}
    return Samples(x, (x["a"].argmax(1) % classes + (x["b"][:, 0] > 3) * 0).long())


def head(classes=3, seed=0) -> SumFusion:
    torch.manual_seed(seed)
    return SumFusion({"a": 4, "b": 3}, classes)


def objective(model, data, l2, weight=None):
    losses = F.cross_entropy(model(data.features), data.labels, weight=weight, reduction="none")
    return losses.mean() + l2 / 2 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)


def test_the_gradient_vanishes_and_the_value_is_the_objective():
    data, model, weight = some(), head(), torch.tensor([0.5, 1.0, 3.0])
    value = fit_optimum(model, data, l2=0.1, class_weights=weight, device="cpu")
    whole = objective(model, data, 0.1, weight)
    whole.backward()
    assert value == pytest.approx(whole.item(), rel=1e-5)
    assert max(p.grad.abs().max().item() for p in model.parameters()) < 5e-4
    assert not model.training and next(model.parameters()).device.type == "cpu"


def test_balanced_weights_are_those_of_the_class_counts():
    data = some()
    weight = len(data) / (3 * torch.bincount(data.labels).float())
    assert weight.max() > 1.2
    one, two = head(), head()
    first = fit_optimum(one, data, l2=0.1, class_weights="balanced", device="cpu")
    assert first == pytest.approx(
        fit_optimum(two, data, l2=0.1, class_weights=weight, device="cpu")
    )


def test_pieces_and_starts_do_not_matter(monkeypatch):
    whole, pieces, elsewhere = head(), head(), head(seed=9)
    value = fit_optimum(whole, some(), l2=0.1, device="cpu")
    assert fit_optimum(elsewhere, some(), l2=0.1, device="cpu") == pytest.approx(value, abs=1e-6)
    monkeypatch.setattr(optimum, "ROWS", 7)
    assert fit_optimum(pieces, some(), l2=0.1, device="cpu") == pytest.approx(value, abs=1e-6)
    for p, q, r in zip(*(m.parameters() for m in (whole, pieces, elsewhere)), strict=True):
        # the softmax leaves one constant in the biases free, which start and data do not settle
        p, q, r = (v - v.mean() if v.dim() == 1 else v for v in (p, q, r))
        assert torch.allclose(p, q, atol=1e-2) and torch.allclose(p, r, atol=1e-2)


def test_frozen_parameters_and_gradients_of_others_are_left_alone():
    model = nn.ModuleDict({"used": nn.Linear(4, 3), "unused": nn.Linear(4, 3)})
    model.forward = lambda features, present=None: model["used"](features["a"])
    model["used"].bias.requires_grad_(False).zero_()
    data = some().only(["a"])
    before = model["unused"].weight.detach().clone()
    fit_optimum(model, data, l2=0.1, device="cpu")
    assert model["used"].bias.abs().max() == 0 and all(p.grad is None for p in model.parameters())
    # penalised, though no sample speaks for it: it shrinks to 0
    assert before.abs().max() > 0.1 and model["unused"].weight.abs().max() < 1e-3


def test_numbers_lead_to_the_least_squared_error(monkeypatch):
    """The gradient of (1/N) Σ ½ (model(x) - y)² + l2/2 · ‖W‖² vanishes, and the value is that; in
    pieces, on some of the rows."""
    monkeypatch.setattr(optimum, "ROWS", 7)
    data, model, rows = some(), head(1), torch.arange(3, 70)
    y = data.features["a"][:, 0] * 2 - data.features["b"][:, 1]
    value = fit_optimum(model, Samples(data.features, y), l2=0.1, rows=rows, device="cpu")
    errors = model({m: x[rows] for m, x in data.features.items()})[:, 0] - y[rows]
    penalty = sum(p.square().sum() for p in model.parameters() if p.dim() > 1)
    whole = errors.square().mean() / 2 + 0.1 / 2 * penalty
    whole.backward()
    assert value == pytest.approx(whole.item(), rel=1e-5)
    assert max(p.grad.abs().max().item() for p in model.parameters()) < 5e-4


@pytest.mark.parametrize("l2", [0, -1, float("nan"), float("inf")])
def test_without_a_penalty_there_is_no_optimum(l2):
    with pytest.raises(ValueError, match=r"l2 \(without it separable.*\) must be .* above 0"):
        fit_optimum(head(), some(), l2=l2, device="cpu")


def test_faulty_data_are_named(monkeypatch):
    monkeypatch.setattr(optimum, "ROWS", 30)
    data = some()
    data.features["b"][70, 1] = torch.nan
    with pytest.raises(ValueError, match=r"training data features\['b'\] hold NaN or inf"):
        fit_optimum(head(), data, l2=0.1, device="cpu")
    floats = Samples(some().features, some().labels.float())
    with pytest.raises(
        ValueError,
        match=r"outputs, for labels that are numbers, has shape \(1, 3\), expected \(B, 1\)",
    ):
        fit_optimum(head(), floats, l2=0.1)
    with pytest.raises(ValueError, match=r"rows are torch.bool, expected int64 positions"):
        fit_optimum(head(), some(), l2=0.1, rows=some().labels > 0)
    with pytest.raises(ValueError, match="training data hold no samples"):
        fit_optimum(head(), some()[:0], l2=0.1, device="cpu")
    with pytest.raises(ValueError, match="train labels hold 2, but the model has 2 classes"):
        fit_optimum(head(2), some(), l2=0.1, device="cpu")
    with pytest.raises(ValueError, match="class_weights is 'even', expected 'balanced'"):
        fit_optimum(head(), some(), l2=0.1, class_weights="even", device="cpu")
    with pytest.raises(ValueError, match=r"class_weights has shape \(2,\), expected \(3,\)"):
        fit_optimum(head(), some(), l2=0.1, class_weights=torch.ones(2), device="cpu")
    with pytest.raises(ValueError, match=r"no sample of class \[3\]"):
        fit_optimum(head(4), some(), l2=0.1, class_weights="balanced", device="cpu")


def test_a_loss_that_is_not_finite_is_told():
    model = head()
    with torch.no_grad():
        model.bias[0] = torch.inf
    with pytest.raises(FloatingPointError, match="the loss became nan: check the scale"):
        fit_optimum(model, some(), l2=0.1, device="cpu")


@pytest.mark.processes
def test_two_processes_find_what_one_finds(tmp_path):
    """55 samples in pieces of 10: one process gets three, the other three, of which the last is
    half full."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(optimum.__file__).parents[2]),
    }
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    one, two = (
        subprocess.run(
            [*command, tmp_path / "script.py"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        for command in ([sys.executable], torchrun)
    )
    ours, theirs = ([float(v) for v in done.stdout.split()] for done in (one, two))
    assert ours[0] == 1 and theirs[0] == 2
    assert len(ours) == 2 + 15 and ours[1:] == pytest.approx(theirs[1:], abs=1e-4)


def test_one_thread_gives_the_others_back_even_after_an_error():
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside"), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_an_accelerator_is_made_anew_for_each_fit_and_refuses_one_of_several_gpus():
    assert (
        make_accelerator("cpu").device.type == "cpu"
        and make_accelerator("cpu", mixed=False).mixed_precision == "no"
    )
    with pytest.raises(
        ValueError, match="device is 'cuda:1', expected None, 'cpu', 'cuda' or 'mps'"
    ):
        make_accelerator("cuda:1")
