"""Each fusion, forward and backward, against its own matrix products alone; what it keeps for
backward; how it grows.

One thread, batch 256, three modalities of width 128; tensor: 32 each, 33³ entries; low rank: rank
4, out 128;
attention: three sequences of 20 steps, width 64, 4 heads. The bound is what no implementation can
leave out: the matrix products (or `torch.cat`) in bare torch under autograd.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import Row, ratio, turns
from mmtutor.fusion import (
    BottleneckFusion,
    ConcatFusion,
    CrossAttentionFusion,
    FilmFusion,
    FusionClassifier,
    GatedFusion,
    LowRankFusion,
    SumFusion,
    TensorFusion,
    decision,
)

BATCH, WIDTH, STEPS, REPEATS = 256, 128, 20, 41
NAMES = ("image", "text", "audio", "video", "touch")
MB = 1e6


def rows() -> list[Row]:
    """Measure all; the limits are those of careful published implementations, and a little more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_times(), *_memory(), *_masks(), *_rules()]
    finally:
        torch.set_num_threads(before)


def inputs(dims: dict[str, int], steps: int | None = None) -> dict[str, Tensor]:
    """Random features that ask for a gradient, as an encoder's output does."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH,) if steps is None else (BATCH, steps)
    return {
        m: torch.randn(*shape, d, generator=generator, requires_grad=True) for m, d in dims.items()
    }


def dims_of(count: int, width: int) -> dict[str, int]:
    """Return `count` modalities of the same width."""
    return dict.fromkeys(NAMES[:count], width)


def step(forward: Callable[..., Tensor], x: dict[str, Tensor], *more: object) -> Callable[[], None]:
    """Return one forward and backward pass, as training makes it; `forward` returns a tensor or
    several."""
    parameters = list(forward.parameters()) if isinstance(forward, nn.Module) else []
    with torch.no_grad():
        outputs = forward(x, *more)
        upstream = [
            torch.randn_like(o) for o in (outputs if isinstance(outputs, tuple) else (outputs,))
        ]

    def run() -> None:
        for leaf in [*x.values(), *parameters]:
            leaf.grad = None
        outputs = forward(x, *more)
        torch.autograd.backward(outputs if isinstance(outputs, tuple) else (outputs,), upstream)

    return run


class Products(nn.Module):
    """Linear layers only: name → (width in, width out); one call per entry of `calls`, (name,
    modality)."""

    def __init__(
        self, calls: list[tuple[str, str]], shapes: dict[str, tuple[int, int]], bias: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {name: nn.Linear(*shape, bias=bias) for name, shape in shapes.items()}
        )
        self.calls = calls

    def forward(self, x: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.layers[name](x[m]) for name, m in self.calls)


class AttentionProducts(nn.Module):
    """All matrix products of an attention fusion: layers, scores, weighted sums; no softmax, norm
    or residual."""

    def __init__(self, fusion: nn.Module, pairs: int, heads: int, extra: int) -> None:
        """pairs: how many others a modality reads from; extra: bottleneck steps that go with each
        sequence."""
        super().__init__()
        self.fusion, self.pairs, self.heads = fusion, pairs, heads
        self.extra = torch.zeros(BATCH, extra, fusion.out_features)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        parts, width = [], self.fusion.out_features * self.pairs
        for modality, s in x.items():
            own = self.fusion.project[modality](s)
            if self.extra.shape[1]:
                own = torch.cat([own, self.extra], 1)
            for mixing, out, think in _linears(self.fusion, modality):
                mixed = [layer(own) for layer in mixing]
                k, v = mixed[-1][..., -2 * width :].chunk(2, -1)
                q, k, v = (
                    t.unflatten(-1, (-1, width // self.pairs // self.heads)).transpose(1, 2)
                    for t in (mixed[0][..., :width], k, v)
                )
                read = ((q @ k.transpose(2, 3)) @ v).transpose(1, 2).flatten(2)
                own = think[1](think[0](out(read)))
            parts.append(own.mean(1))
        parts += [parts[-1]] if self.extra.shape[1] else []
        return self.fusion.join(torch.cat(parts, -1))


def _linears(fusion: nn.Module, m: str) -> list[tuple[list[nn.Module], nn.Module, list[nn.Module]]]:
    """Return, layer by layer, the mixing layers (query first), the output layer and the two of the
    feed-forward."""
    if isinstance(fusion, CrossAttentionFusion):
        return [
            ([e.query[m], e.tell[m]], e.out[m], [e.think[m][1], e.think[m][3]])
            for e in fusion.exchange
        ]
    return [([y[m].mix], y[m].out, [y[m].think[1], y[m].think[3]]) for y in fusion.layers]


def contests() -> dict[str, tuple[Callable, Callable, dict[str, Tensor], float | None]]:
    """Return name → (ours, its bound, inputs, limit of the ratio)."""
    torch.manual_seed(0)
    three, two, small = dims_of(3, WIDTH), dims_of(2, WIDTH), dims_of(3, 32)
    tensor_head = FusionClassifier(TensorFusion(small), WIDTH, recompute=True).train()
    cross = CrossAttentionFusion(dims_of(3, 64), 64, heads=4, layers=1)
    neck = BottleneckFusion(dims_of(3, 64), 64, bottlenecks=4, heads=4, layers=1)
    film = FilmFusion(three, WIDTH, "text")
    return {
        "concat": (
            ConcatFusion(three),
            lambda x: torch.cat(list(x.values()), 1),
            inputs(three),
            1.3,
        ),
        "sum": (SumFusion(three, WIDTH), _one_each(three, WIDTH), inputs(three), 1.5),
        "gate, 3 modalities": (
            GatedFusion(three, WIDTH),
            _gate_products(three),
            inputs(three),
            2.1,
        ),
        "GMU, 2 modalities": (GatedFusion(two, WIDTH), _gate_products(two), inputs(two), 1.75),
        "FiLM": (film, _film_products(three), inputs(three), 1.85),
        "tensor 33³": (TensorFusion(small), _outer, inputs(small), 1.3),
        "tensor + linear, recomputed": (
            tensor_head,
            _outer_and_linear(tensor_head),
            inputs(small),
            1.3,
        ),
        "low rank 4": (
            LowRankFusion(three, WIDTH, 4),
            _one_each(three, 4 * WIDTH),
            inputs(three),
            1.75,
        ),
        "cross-attention, 6 pairs": (
            cross,
            AttentionProducts(cross, 2, 4, 0),
            inputs(cross.dims, STEPS),
            1.95,
        ),
        "bottleneck of 4": (neck, AttentionProducts(neck, 1, 4, 4), inputs(neck.dims, STEPS), 2.1),
    }


def _one_each(dims: dict[str, int], out: int) -> Products:
    return Products([(m, m) for m in dims], {m: (d, out) for m, d in dims.items()})


def _gate_products(dims: dict[str, int]) -> nn.Module:
    gate = nn.Linear(sum(dims.values()), len(dims) * WIDTH)
    each = _one_each(dims, WIDTH)
    bound = nn.ModuleList([gate, each])
    bound.forward = lambda x: (gate(torch.cat(list(x.values()), 1)), *each(x))
    return bound


def _film_products(dims: dict[str, int]) -> Products:
    shapes = {m: (d, 2 * WIDTH if m == "text" else WIDTH) for m, d in dims.items()}
    return Products([(m, m) for m in dims], shapes, bias=False)


def _outer(x: dict[str, Tensor]) -> Tensor:
    a, b, c = (F.pad(v, (1, 0), value=1.0) for v in x.values())
    return torch.bmm(
        torch.bmm(a[:, :, None], b[:, None, :]).flatten(1)[:, :, None], c[:, None, :]
    ).flatten(1)


def _outer_and_linear(model: FusionClassifier) -> nn.Module:
    bound = nn.ModuleList([model.head[-1]])
    bound.forward = lambda x: bound[0](_outer(x))
    return bound


def _times() -> list[Row]:
    found = []
    for name, (ours, bound, x, limit) in contests().items():
        times = turns({"ours": step(ours, x), "bound": step(bound, x)}, repeats=REPEATS, warm=5)
        found.append(
            Row(f"{name} / its matrix products", ratio(times, "ours", "bound"), limit, "ratio")
        )
    return found


def kept(forward: Callable[..., Tensor], x: dict[str, Tensor], *more: object) -> int:
    """Return the bytes that autograd keeps between forward and backward, weights and inputs not
    counted."""
    known = {t.untyped_storage().data_ptr() for t in x.values()}
    if isinstance(forward, nn.Module):
        known |= {p.untyped_storage().data_ptr() for p in forward.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward(x, *more)
    del result
    return sum(found.values())


def peak(action: Callable[[], object]) -> int:
    """Return the most bytes that tensors made in `action` held at one time."""
    action()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        action()
    events = [e for e in recording.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _memory() -> list[Row]:
    found = contests()
    limits = {
        "low rank 4": 2.7,
        "cross-attention, 6 pairs": 100.0,
        "tensor + linear, recomputed": 1.0,
    }
    table = [
        Row(f"{name}: kept for backward", kept(ours, x) / MB, limits.get(name), "MB")
        for name, (ours, _, x, _) in found.items()
    ]
    tensor, _, x, _ = found["tensor 33³"]
    table.append(
        Row("tensor 33³: peak of the forward pass", peak(lambda: tensor(x)) / MB, 43.0, "MB")
    )
    table.append(
        Row("tensor 33³: peak, forward and backward", peak(step(tensor, x)) / MB, None, "MB")
    )
    return [*table, *_growth()]


def _growth() -> list[Row]:
    """The exponents with which the fused representation grows with the width: M for the tensor, 0
    for low rank."""
    table = []
    for count in (2, 3):
        size = {w: _tensor_peak(count, w) for w in (32, 64)}
        exponent = math.log(size[64] / size[32], 65 / 33)
        table.append(
            Row(
                f"tensor, {count} modalities: memory grows as width to the",
                exponent,
                count + 0.15,
                "exponent",
            )
        )
    size = {w: kept(LowRankFusion(dims_of(3, w), WIDTH, 4), inputs(dims_of(3, w))) for w in (8, 64)}
    table.append(Row("low rank: kept at width 64 / at width 8", size[64] / size[8], 1.05, "ratio"))
    return table


def _tensor_peak(count: int, width: int) -> int:
    fusion, x = TensorFusion(dims_of(count, width)), inputs(dims_of(count, width))
    return peak(lambda: fusion(x))


def _masks() -> list[Row]:
    """What it costs to say that everybody is present, against saying nothing."""
    table = []
    everybody = {m: torch.ones(BATCH, dtype=torch.bool) for m in NAMES[:3]}
    for name, (ours, _, x, _) in contests().items():
        if len(x) == 3:
            times = turns(
                {"mask": step(ours, x, everybody), "none": step(ours, x)}, repeats=REPEATS, warm=5
            )
            table.append(
                Row(f"{name}: all present / no mask", ratio(times, "mask", "none"), None, "ratio")
            )
    return table


def _rules() -> list[Row]:
    """Decision rules on 100,000 samples, 10 classes, 5 modalities: less than a second each."""
    generator = torch.Generator().manual_seed(0)
    probs = {m: torch.randn(100_000, 10, generator=generator).softmax(1) for m in NAMES}
    weights = dict(zip(NAMES, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True))
    measure = decision.lambda_measure({m: w / 3 for m, w in weights.items()})
    calls = {
        "average": lambda: decision.average(probs),
        "weighted vote": lambda: decision.weighted_vote(probs, weights),
        "majority vote": lambda: decision.majority_vote(probs),
        "product rule": lambda: decision.product_rule(probs),
        "Dempster–Shafer": lambda: decision.dempster_shafer(probs, weights),
        "Choquet": lambda: decision.choquet(probs, measure),
        "Sugeno": lambda: decision.sugeno(probs, measure),
        "fuzzy rules": lambda: decision.fuzzy_rules(probs),
    }
    table = []
    for name, call in calls.items():
        call()
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        table.append(Row(f"{name}: 100,000 samples", sorted(seconds)[1], 1.0, "s"))
    return table


if __name__ == "__main__":
    from benchmarks.measure import as_table

    print(as_table(rows()), file=sys.stdout)
