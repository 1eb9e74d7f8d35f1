"""The laws that every fusion must keep, run over all of them by discovery: a new class is tested
without a new line.

A fusion is any nn.Module defined in mmtutor.fusion whose forward takes `features`; one that also
takes `masks` is run on vectors and on sequences. A decision rule is any function that
mmtutor.fusion.decision exports whose first parameter is `probs`. Arguments are found by their
names, so the same name means the same thing everywhere.
"""

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

import mmtutor.fusion
from mmtutor.fusion import ConcatFusion, CrossAttentionFusion
from mmtutor.fusion.inputs import masked_vectors

DIMS = {"image": 5, "text": 3, "audio": 4}
STEPS = {"image": 4, "text": 2, "audio": 3}
BATCH = 6
CLASSES = 4


class _Encoder(nn.Module):
    """An encoder as readers write them: not linear, and not zero at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return torch.tanh(self.layer(x))


def fusion_argument(name: str, sequences: bool):
    """What a fusion's constructor is given for a parameter of this name; a parameter with a default
    keeps it."""
    if name == "encoders":
        return {m: _Encoder(d) for m, d in DIMS.items()}
    if name == "fusion":
        return CrossAttentionFusion(DIMS, 7, heads=1, layers=1) if sequences else ConcatFusion(DIMS)
    known = {
        "dims": DIMS,
        "out_features": 7,
        "rank": 2,
        "heads": 1,
        "layers": 2,
        "bottlenecks": 2,
        "condition": "text",
    }
    return {**known, "classes": CLASSES}[name]


def rule_argument(name: str):
    """What a decision rule is given for a parameter of this name."""
    return {
        "weights": {"image": 2.0, "text": 0.5, "audio": 1.0},
        "reliability": {"image": 0.9, "text": 0.5, "audio": 0.7},
        "measure": mmtutor.fusion.decision.lambda_measure(
            {"image": 0.4, "text": 0.3, "audio": 0.2}
        ),
    }[name]


@dataclass(frozen=True)
class Case:
    """A fusion and what it is fed: vectors or sequences."""

    cls: type
    sequences: bool = False

    def __str__(self) -> str:
        return self.cls.__name__ + ("-sequences" if self.sequences else "")


def fusion_cases() -> list[Case]:
    found = {}
    for info in pkgutil.walk_packages(mmtutor.fusion.__path__, "mmtutor.fusion."):
        for name, thing in vars(importlib.import_module(info.name)).items():
            ours = (
                inspect.isclass(thing)
                and issubclass(thing, nn.Module)
                and thing.__module__ == info.name
            )
            if (
                ours
                and not name.startswith("_")
                and "features" in inspect.signature(thing.forward).parameters
            ):
                found[name] = thing
    vectors = [Case(found[name]) for name in sorted(found)]
    masked = [c.cls for c in vectors if "masks" in inspect.signature(c.cls.forward).parameters]
    return [*vectors, *(Case(cls, sequences=True) for cls in masked)]


def decision_rules() -> list:
    module = importlib.import_module("mmtutor.fusion.decision")
    rules = [
        getattr(module, name)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    ]
    return [f for f in rules if next(iter(inspect.signature(f).parameters)) == "probs"]


def ask(rule, probs, present=None):
    """Call a rule with the further arguments that its signature names."""
    wanted = [p.name for p in inspect.signature(rule).parameters.values() if p.default is p.empty][
        1:
    ]
    return rule(probs, **{name: rule_argument(name) for name in wanted}, present=present)


def build(case: Case, dtype=torch.float32, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    parameters = list(inspect.signature(case.cls).parameters.values())
    wanted = [p.name for p in parameters if p.default is p.empty]
    return (
        case.cls(**{name: fusion_argument(name, case.sequences) for name in wanted})
        .to(dtype)
        .eval()
    )


def tensors_in(thing) -> list[torch.Tensor]:
    """Every tensor inside nested lists, tuples and dictionaries."""
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        thing = list(thing.values())
    return (
        [t for part in thing for t in tensors_in(part)] if isinstance(thing, list | tuple) else []
    )


def features(case=None, dtype=torch.float32, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    steps = {m: (STEPS[m],) if case and case.sequences else () for m in DIMS}
    return {
        m: torch.randn(BATCH, *steps[m], d, generator=generator, dtype=dtype)
        for m, d in DIMS.items()
    }


def some_absent() -> dict[str, torch.Tensor]:
    present = {m: torch.ones(BATCH, dtype=torch.bool) for m in DIMS}
    present["audio"][:3] = False
    present["text"][0] = False
    return present


def some_padding() -> dict[str, torch.Tensor]:
    """Sequences of 1 to T steps; those of `image` have a gap in sample 1, those of `text` no real
    step in sample 5."""
    length = {m: torch.arange(BATCH) % t + 1 for m, t in STEPS.items()}
    masks = {m: torch.arange(t) < length[m][:, None] for m, t in STEPS.items()}
    masks["image"][1] = torch.tensor([True, False, True, True])
    masks["text"][5] = False
    return masks


def spoil(x: torch.Tensor, real: torch.Tensor, garbage: float) -> torch.Tensor:
    """Put garbage wherever `real`, (B,) or (B, T), says that nothing stands."""
    return torch.where(real.reshape(*real.shape, *[1] * (x.dim() - real.dim())), x, garbage)


def probabilities(seed=0, dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        m: torch.randn(BATCH, CLASSES, generator=generator, dtype=dtype).softmax(1) for m in DIMS
    }


each_fusion = pytest.mark.parametrize("case", fusion_cases(), ids=str)
each_sequence_fusion = pytest.mark.parametrize(
    "case", [c for c in fusion_cases() if c.sequences], ids=str
)
each_rule = pytest.mark.parametrize("rule", decision_rules(), ids=lambda f: f.__name__)


def test_discovery_finds_what_the_package_exports():
    assert {c.cls.__name__ for c in fusion_cases()} == set(mmtutor.fusion.__all__)
    assert len(decision_rules()) == 9


@each_fusion
def test_output_has_the_announced_width(case):
    fusion = build(case)
    announced = (
        CLASSES if "classes" in inspect.signature(case.cls).parameters else fusion.out_features
    )
    assert fusion(features(case)).shape == (BATCH, announced)


@each_fusion
def test_every_learnable_tensor_gets_a_gradient_and_moves(case):
    fusion = build(case).train()
    known = {id(t) for t in [*fusion.parameters(), *fusion.buffers()]}
    held = {id(t) for module in fusion.modules() for t in tensors_in(list(vars(module).values()))}
    assert held <= known, (
        "a tensor hides from parameters(): a list or a plain attribute does not register it"
    )
    parameters = dict(fusion.named_parameters())
    if not parameters:
        assert len(fusion.state_dict()) == len(list(fusion.buffers()))
        return
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.SGD(fusion.parameters(), lr=0.1)
    fusion(features(case)).pow(2).sum().backward()
    optimizer.step()
    for name, p in parameters.items():
        assert p.grad is not None and p.grad.abs().max() > 0, f"{name} has no gradient"
        assert not torch.equal(before[name], p), f"{name} did not move"


@each_fusion
def test_a_sample_does_not_depend_on_its_neighbours(case):
    fusion, x, other = build(case), features(case), features(case, seed=1)
    mixed = {m: torch.cat([x[m][:1], other[m][1:]]) for m in x}
    torch.testing.assert_close(fusion(mixed)[0], fusion(x)[0])
    torch.testing.assert_close(fusion({m: v[:1] for m, v in x.items()})[0], fusion(x)[0])


@each_fusion
def test_every_present_modality_matters(case):
    fusion, x = build(case), features(case)
    for modality in DIMS:
        changed = {**x, modality: x[modality] + 1}
        assert not torch.allclose(fusion(changed), fusion(x)), f"{modality} changes nothing"


@each_fusion
@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan"), float("inf")])
def test_what_stands_in_an_absent_slot_changes_nothing(case, garbage):
    fusion, x, present = build(case), features(case), some_absent()
    expected = fusion(x, present)
    spoiled = {m: spoil(v, present[m], garbage).requires_grad_() for m, v in x.items()}
    output = fusion(spoiled, present)
    torch.testing.assert_close(output, expected)
    output.pow(2).sum().backward()
    for modality, v in spoiled.items():
        assert (v.grad[~present[modality]] == 0).all(), (
            f"{modality}: absent samples received a gradient"
        )
        assert torch.isfinite(v.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())


@each_sequence_fusion
@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan")])
def test_padded_steps_change_nothing(case, garbage):
    fusion, x, masks = build(case), features(case), some_padding()
    expected = fusion(x, None, masks)
    spoiled = {m: spoil(v, masks[m], garbage).requires_grad_() for m, v in x.items()}
    output = fusion(spoiled, None, masks)
    torch.testing.assert_close(output, expected)
    output.pow(2).sum().backward()
    assert all((spoiled[m].grad[~masks[m]] == 0).all() for m in DIMS)
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())
    for m, v in x.items():  # one more padded step, and the padding cut off
        longer = {**x, m: torch.cat([v, v[:, :1]], 1)}
        more = {**masks, m: torch.cat([masks[m], masks[m][:, :1] & False], 1)}
        torch.testing.assert_close(fusion(longer, None, more), expected)
    short = {m: v[:1, : int(masks[m][0].sum())] for m, v in x.items()}
    torch.testing.assert_close(fusion(short), expected[:1])


@each_sequence_fusion
def test_a_sequence_without_a_real_step_is_an_absent_modality(case):
    fusion, x, masks = (
        build(case),
        features(case),
        {"audio": torch.ones(BATCH, 3, dtype=torch.bool)},
    )
    masks["audio"][:2] = False
    absent = {"audio": masks["audio"].any(1)}
    torch.testing.assert_close(fusion(x, None, masks), fusion(x, absent))
    torch.testing.assert_close(
        fusion(x, absent, {"text": some_padding()["text"]})[:, 0].isfinite().all(),
        torch.tensor(True),
    )


@each_sequence_fusion
def test_masks_of_wrong_shape_kind_or_name_are_named(case):
    fusion, x = build(case), features(case)
    with pytest.raises(ValueError, match=r"masks.*text.*\(6, 9\).*\(6, 2\)"):
        fusion(x, None, {"text": torch.ones(6, 9, dtype=torch.bool)})
    with pytest.raises(TypeError, match=r"masks.*text.*float32"):
        fusion(x, None, {"text": torch.ones(6, 2)})
    with pytest.raises(KeyError, match="lidar"):
        fusion(x, None, {"lidar": torch.ones(6, 2, dtype=torch.bool)})


@each_fusion
def test_a_mask_that_hides_nobody_changes_nothing(case):
    fusion, x = build(case), features(case)
    everybody = {m: torch.ones(BATCH, dtype=torch.bool) for m in DIMS}
    torch.testing.assert_close(fusion(x, everybody), fusion(x))
    torch.testing.assert_close(fusion(x, {}), fusion(x))


@each_fusion
def test_an_empty_batch_is_an_empty_answer(case):
    fusion, x = build(case), {m: v[:0] for m, v in features(case).items()}
    assert fusion(x).shape == (0, *build(case)(features(case)).shape[1:])
    assert len(fusion(x, {m: torch.ones(0, dtype=torch.bool) for m in DIMS})) == 0


@each_fusion
def test_nobody_present_is_a_defined_output(case):
    nobody = {m: torch.zeros(BATCH, dtype=torch.bool) for m in DIMS}
    assert torch.isfinite(build(case)(features(case), nobody)).all()


@each_fusion
def test_the_order_of_the_dictionary_does_not_matter(case):
    fusion, x = build(case), features(case)
    torch.testing.assert_close(fusion(dict(reversed(x.items()))), fusion(x), rtol=0, atol=0)


@each_fusion
def test_gradients_agree_with_finite_differences(case):
    fusion, x = build(case, torch.float64), features(case, torch.float64)
    inputs = [v.requires_grad_() for v in x.values()]
    assert torch.autograd.gradcheck(
        lambda *vs: fusion(dict(zip(x, vs, strict=True)), some_absent()), inputs
    )
    if case.sequences:
        padded = lambda *vs: fusion(dict(zip(x, vs, strict=True)), some_absent(), some_padding())  # noqa: E731
        assert torch.autograd.gradcheck(padded, inputs)


@each_fusion
def test_saving_and_loading_gives_the_same_outputs(case, tmp_path):
    fusion, x = build(case), features(case)
    torch.save(fusion.state_dict(), tmp_path / "fusion.pt")
    other = build(case, seed=99)
    other.load_state_dict(torch.load(tmp_path / "fusion.pt", weights_only=True))
    torch.testing.assert_close(other(x), fusion(x), rtol=0, atol=0)


@each_fusion
def test_wrong_keys_widths_and_masks_are_named(case):
    fusion, x = build(case), features(case)
    with pytest.raises(KeyError, match="audio"):
        fusion({m: x[m] for m in ("image", "text")})
    with pytest.raises(KeyError, match="lidar"):
        fusion({**x, "lidar": x["text"]})
    wrong = torch.zeros(*x["text"].shape[:-1], 9)
    # an encoder of the reader's own complains first, in torch's words
    expected = (
        (RuntimeError, "shapes")
        if "encoders" in inspect.signature(case.cls).parameters
        else (ValueError, "text")
    )
    with pytest.raises(expected[0], match=rf"{expected[1]}.*9"):
        fusion({**x, "text": wrong})
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
        torch.testing.assert_close(ask(rule, probabilities(), present).sum(1), torch.ones(BATCH))
    torch.testing.assert_close(
        ask(rule, probabilities(), nobody), torch.full((BATCH, CLASSES), 1 / CLASSES)
    )
    assert ask(rule, {m: p[:0] for m, p in probabilities().items()}).shape == (0, CLASSES)


@each_rule
def test_absent_opinions_change_nothing_and_get_no_gradient(rule):
    probs, present = probabilities(), some_absent()
    expected = ask(rule, probs, present)
    for garbage in (7.0, float("nan"), float("-inf")):
        spoiled = {m: spoil(p, present[m], garbage).requires_grad_() for m, p in probs.items()}
        output = ask(rule, spoiled, present)
        torch.testing.assert_close(output, expected)
        if not output.requires_grad:  # a rule of steps: it says so, and has no gradient to leak
            assert "No gradient" in rule.__doc__
            continue
        output.pow(2).sum().backward()
        assert all(
            (p.grad[~present[m]] == 0).all() and torch.isfinite(p.grad).all()
            for m, p in spoiled.items()
        )


@each_rule
def test_a_lone_witness_is_never_turned_round(rule):
    probs, alone = probabilities(), {m: torch.full((BATCH,), m == "text") for m in DIMS}
    assert torch.equal(ask(rule, probs, alone).argmax(1), probs["text"].argmax(1))


@each_rule
def test_the_order_of_modalities_and_of_classes_does_not_matter(rule):
    probs, present = probabilities(), some_absent()
    expected, turn = ask(rule, probs, present), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(ask(rule, dict(reversed(probs.items())), present), expected)
    torch.testing.assert_close(
        ask(rule, {m: p[:, turn] for m, p in probs.items()}, present), expected[:, turn]
    )


@each_rule
def test_a_decision_does_not_depend_on_its_neighbours(rule):
    probs, other = probabilities(), probabilities(seed=1)
    mixed = {m: torch.cat([probs[m][:1], other[m][1:]]) for m in DIMS}
    torch.testing.assert_close(ask(rule, mixed)[0], ask(rule, probs)[0])


@each_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_give_the_same_answer_in_their_own(rule, dtype):
    probs = {m: p.to(dtype) for m, p in probabilities(dtype=torch.float64).items()}
    rounded = {m: p.double() / p.double().sum(1, keepdim=True) for m, p in probs.items()}
    exact = ask(rule, rounded, some_absent())
    answer = ask(rule, probs, some_absent())
    assert answer.dtype == dtype
    torch.testing.assert_close(answer.double(), exact, rtol=0, atol=3 * torch.finfo(dtype).eps)


@each_rule
def test_gradients_of_opinions_agree_with_finite_differences(rule):
    probs = probabilities(dtype=torch.float64)
    if not ask(rule, {m: p.requires_grad_() for m, p in probs.items()}).requires_grad:
        return  # its gradient is zero almost everywhere, and it says so (see above)

    def from_logits(*logits):
        opinions = {m: x.softmax(1) for m, x in zip(DIMS, logits, strict=True)}
        return ask(rule, opinions, some_absent())

    assert torch.autograd.gradcheck(
        from_logits, [p.detach().log().requires_grad_() for p in probs.values()]
    )


@each_rule
def test_opinions_that_are_no_probabilities_are_refused(rule):
    probs = probabilities()
    for bad in (probs["text"] * 2, probs["text"] - 1, torch.full((BATCH, 4), float("nan"))):
        with pytest.raises(ValueError, match="text"):
            ask(rule, {**probs, "text": bad})
    with pytest.raises(ValueError, match=r"text.*\(6, 3\)"):
        ask(rule, {**probs, "text": probs["text"][:, :3]})
    with pytest.raises((ValueError, KeyError), match=r"empty|unknown"):
        ask(rule, {})


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
        there = {
            m: (present or {}).get(m, torch.ones(len(x), dtype=torch.bool))
            for m, x in features.items()
        }
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
        (
            partial(test_what_stands_in_an_absent_slot_changes_nothing, garbage=float("nan")),
            _MasksByMultiplying,
        ),
        (test_wrong_keys_widths_and_masks_are_named, _MasksByMultiplying),
    ],
)
def test_each_law_refuses_the_fault_it_is_there_for(law, faulty):
    law(Case(_Projected))  # the same fusion without the fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(Case(faulty))
