"""The laws that every fusion must keep, run over all of them by discovery: a new class is tested without a new line.

A fusion is any nn.Module defined in a module of mmtutor.fusion whose constructor's first parameter is `dims`;
a decision rule is any public function of mmtutor.fusion.decision whose first parameter is `probs`.
"""

import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch
from torch import nn

import mmtutor.fusion
from mmtutor.fusion.inputs import masked_vectors

DIMS = {"image": 5, "text": 3, "audio": 4}
BATCH = 6
EXTRAS = {"out_features": 7, "rank": 2, "heads": 1, "layers": 1, "bottlenecks": 2, "condition": "text"}


def fusion_classes() -> list[type[nn.Module]]:
    found = {}
    for info in pkgutil.iter_modules(mmtutor.fusion.__path__, "mmtutor.fusion."):
        for name, thing in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(thing) and issubclass(thing, nn.Module) and thing.__module__ == info.name:
                parameters = list(inspect.signature(thing).parameters)
                if parameters and parameters[0] == "dims":
                    found[name] = thing
    return [found[name] for name in sorted(found)]


def decision_rules() -> list:
    module = importlib.import_module("mmtutor.fusion.decision")
    return [
        f
        for name, f in sorted(vars(module).items())
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and not name.startswith(("_", "check"))
        and next(iter(inspect.signature(f).parameters)) == "probs"
    ]


def build(cls: type[nn.Module], dtype=torch.float32) -> nn.Module:
    torch.manual_seed(0)
    wanted = list(inspect.signature(cls).parameters)[1:]
    return cls(DIMS, **{name: EXTRAS[name] for name in wanted if name in EXTRAS}).to(dtype).eval()


def tensors_in(thing) -> list[torch.Tensor]:
    """Every tensor inside nested lists, tuples and dictionaries."""
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        thing = list(thing.values())
    return [t for part in thing for t in tensors_in(part)] if isinstance(thing, list | tuple) else []


def features(dtype=torch.float32, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(BATCH, d, generator=generator, dtype=dtype) for m, d in DIMS.items()}


def some_absent() -> dict[str, torch.Tensor]:
    present = {m: torch.ones(BATCH, dtype=torch.bool) for m in DIMS}
    present["audio"][:3] = False
    present["text"][0] = False
    return present


def probabilities(seed=0, dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(BATCH, 4, generator=generator, dtype=dtype).softmax(1) for m in DIMS}


each_fusion = pytest.mark.parametrize("cls", fusion_classes(), ids=lambda c: c.__name__)
each_rule = pytest.mark.parametrize("rule", decision_rules(), ids=lambda f: f.__name__)


def test_discovery_finds_what_the_package_exports():
    assert mmtutor.fusion.ConcatFusion in fusion_classes()
    assert mmtutor.fusion.decision.average in decision_rules()


@each_fusion
def test_output_has_the_announced_width(cls):
    fusion = build(cls)
    assert fusion(features()).shape == (BATCH, fusion.out_features)


@each_fusion
def test_every_learnable_tensor_gets_a_gradient_and_moves(cls):
    fusion = build(cls).train()
    known = {id(t) for t in [*fusion.parameters(), *fusion.buffers()]}
    held = {id(t) for module in fusion.modules() for t in tensors_in(list(vars(module).values()))}
    assert held <= known, "a tensor hides from parameters(): a list or a plain attribute does not register it"
    parameters = dict(fusion.named_parameters())
    if not parameters:
        assert len(fusion.state_dict()) == len(list(fusion.buffers()))
        return
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.SGD(fusion.parameters(), lr=0.1)
    fusion(features()).pow(2).sum().backward()
    optimizer.step()
    for name, p in parameters.items():
        assert p.grad is not None and p.grad.abs().max() > 0, f"{name} has no gradient"
        assert not torch.equal(before[name], p), f"{name} did not move"


@each_fusion
def test_a_sample_does_not_depend_on_its_neighbours(cls):
    fusion, x, other = build(cls), features(), features(seed=1)
    mixed = {m: torch.cat([x[m][:1], other[m][1:]]) for m in x}
    torch.testing.assert_close(fusion(mixed)[0], fusion(x)[0])
    torch.testing.assert_close(fusion({m: v[:1] for m, v in x.items()})[0], fusion(x)[0])


@each_fusion
def test_every_present_modality_matters(cls):
    fusion, x = build(cls), features()
    for modality in DIMS:
        changed = {**x, modality: x[modality] + 1}
        assert not torch.allclose(fusion(changed), fusion(x)), f"{modality} changes nothing"


@each_fusion
@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan"), float("inf")])
def test_what_stands_in_an_absent_slot_changes_nothing(cls, garbage):
    fusion, x, present = build(cls), features(), some_absent()
    expected = fusion(x, present)
    spoiled = {m: torch.where(present[m][:, None], v, garbage).requires_grad_() for m, v in x.items()}
    output = fusion(spoiled, present)
    torch.testing.assert_close(output, expected)
    output.pow(2).sum().backward()
    for modality, v in spoiled.items():
        assert (v.grad[~present[modality]] == 0).all(), f"{modality}: absent samples received a gradient"
        assert torch.isfinite(v.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())


@each_fusion
def test_nobody_present_is_a_defined_output(cls):
    nobody = {m: torch.zeros(BATCH, dtype=torch.bool) for m in DIMS}
    assert torch.isfinite(build(cls)(features(), nobody)).all()


@each_fusion
def test_the_order_of_the_dictionary_does_not_matter(cls):
    fusion, x = build(cls), features()
    torch.testing.assert_close(fusion(dict(reversed(x.items()))), fusion(x), rtol=0, atol=0)


@each_fusion
def test_gradients_agree_with_finite_differences(cls):
    fusion, x = build(cls, torch.float64), features(torch.float64)
    inputs = [v.requires_grad_() for v in x.values()]
    assert torch.autograd.gradcheck(lambda *vs: fusion(dict(zip(x, vs, strict=True)), some_absent()), inputs)


@each_fusion
def test_saving_and_loading_gives_the_same_outputs(cls, tmp_path):
    fusion, x = build(cls), features()
    torch.save(fusion.state_dict(), tmp_path / "fusion.pt")
    torch.manual_seed(99)
    wanted = list(inspect.signature(cls).parameters)[1:]
    other = cls(DIMS, **{name: EXTRAS[name] for name in wanted if name in EXTRAS}).eval()
    other.load_state_dict(torch.load(tmp_path / "fusion.pt", weights_only=True))
    torch.testing.assert_close(other(x), fusion(x), rtol=0, atol=0)


@each_fusion
def test_wrong_keys_widths_and_masks_are_named(cls):
    fusion, x = build(cls), features()
    with pytest.raises(KeyError, match="audio"):
        fusion({m: x[m] for m in ("image", "text")})
    with pytest.raises(KeyError, match="lidar"):
        fusion({**x, "lidar": x["text"]})
    with pytest.raises(ValueError, match=r"text.*\(6, 9\).*3"):
        fusion({**x, "text": torch.zeros(BATCH, 9)})
    with pytest.raises(ValueError, match=r"text.*5 samples"):
        fusion({**x, "text": x["text"][:5]})
    with pytest.raises(KeyError, match="lidar"):
        fusion(x, {"lidar": torch.ones(BATCH, dtype=torch.bool)})
    with pytest.raises(TypeError, match=r"text.*float32"):
        fusion(x, {"text": torch.ones(BATCH)})
    with pytest.raises(ValueError, match=r"text.*\(5,\)"):
        fusion(x, {"text": torch.ones(5, dtype=torch.bool)})


@each_rule
def test_opinions_sum_to_one_also_when_some_or_all_are_absent(rule):
    nobody = {m: torch.zeros(BATCH, dtype=torch.bool) for m in DIMS}
    for present in (None, some_absent(), nobody):
        torch.testing.assert_close(rule(probabilities(), present=present).sum(1), torch.ones(BATCH))
    torch.testing.assert_close(rule(probabilities(), present=nobody), torch.full((BATCH, 4), 0.25))


@each_rule
def test_absent_opinions_change_nothing_and_get_no_gradient(rule):
    probs, present = probabilities(), some_absent()
    expected = rule(probs, present=present)
    for garbage in (7.0, float("nan"), float("-inf")):
        spoiled = {m: torch.where(present[m][:, None], p, garbage).requires_grad_() for m, p in probs.items()}
        output = rule(spoiled, present=present)
        torch.testing.assert_close(output, expected)
        output.pow(2).sum().backward()
        assert all((p.grad[~present[m]] == 0).all() for m, p in spoiled.items())


@each_rule
def test_opinions_that_are_no_probabilities_are_refused(rule):
    probs = probabilities()
    for bad in (probs["text"] * 2, probs["text"] - 1, torch.full((BATCH, 4), float("nan"))):
        with pytest.raises(ValueError, match="text"):
            rule({**probs, "text": bad})
    with pytest.raises(ValueError, match=r"text.*\(6, 3\)"):
        rule({**probs, "text": probs["text"][:, :3]})
    with pytest.raises(ValueError, match="empty"):
        rule({})


# The laws themselves: each must refuse a fusion with the fault that it is there to catch.


class _Projected(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.dims, self.out_features = dims, 2
        self.layers = nn.ModuleDict({m: nn.Linear(d, 2, bias=False) for m, d in dims.items()})

    def forward(self, features, present=None):
        x = masked_vectors(features, self.dims, present)
        return sum(self.layers[m](x[m]) for m in self.dims)


class _FactorsInAList(_Projected):
    def __init__(self, dims):
        super().__init__(dims)
        self.factors = [torch.randn(2, requires_grad=True)]

    def forward(self, features, present=None):
        return super().forward(features, present) * self.factors[0]


class _UnusedWeight(_Projected):
    def __init__(self, dims):
        super().__init__(dims)
        self.unused = nn.Parameter(torch.ones(1))


class _MixesTheBatch(_Projected):
    def forward(self, features, present=None):
        out = super().forward(features, present)
        return out - out.mean(0)


class _MasksByMultiplying(_Projected):
    def forward(self, features, present=None):
        there = {m: (present or {}).get(m, torch.ones(len(x), dtype=torch.bool)) for m, x in features.items()}
        return sum(self.layers[m](features[m] * there[m][:, None]) for m in self.dims)


class _ForgetsOneModality(_Projected):
    def forward(self, features, present=None):
        return self.layers["image"](masked_vectors(features, self.dims, present)["image"])


class _TakesTheDictionarysOrder(_Projected):
    def forward(self, features, present=None):
        x = masked_vectors(features, self.dims, present)
        return sum((i + 1) * self.layers[m](x[m]) for i, m in enumerate(features))


@pytest.mark.parametrize(
    ("law", "faulty"),
    [
        (test_every_learnable_tensor_gets_a_gradient_and_moves, _FactorsInAList),
        (test_every_learnable_tensor_gets_a_gradient_and_moves, _UnusedWeight),
        (test_a_sample_does_not_depend_on_its_neighbours, _MixesTheBatch),
        (test_every_present_modality_matters, _ForgetsOneModality),
        (test_the_order_of_the_dictionary_does_not_matter, _TakesTheDictionarysOrder),
        (partial(test_what_stands_in_an_absent_slot_changes_nothing, garbage=float("nan")), _MasksByMultiplying),
        (test_wrong_keys_widths_and_masks_are_named, _MasksByMultiplying),
    ],
)
def test_each_law_refuses_the_fault_it_is_there_for(law, faulty):
    law(_Projected)  # the same fusion without the fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(faulty)
