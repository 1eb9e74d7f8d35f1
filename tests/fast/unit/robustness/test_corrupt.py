import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from mmtutor.robustness import KINDS, corrupt, images

ALL = [(modality, kind) for modality in KINDS for kind in KINDS[modality]]
RANDOM = [pair for pair in ALL if pair[1] not in ("blur", "brightness", "jpeg", "clipping", "lag")]
SENTENCES = [
    "the quick brown fox jumps over the lazy dog while nobody in the garden looks",
    "a picture of two people who walk along the beach on a late summer evening ",
    "pack my box with five dozen liquor jugs and send it to the old town by rail",
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(modality: str) -> torch.Tensor | list[str]:
    """Samples that resemble the real thing: photographs, sentences, and random walks for what runs
    in time."""
    if modality == "image":
        # (2, 3, 427, 640)
        photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
        return (
            torch.cat(
                [photos[:, :, y : y + 48, x : x + 48] for y in (40, 200, 300) for x in (100, 500)]
            )
            / 255
        )
    if modality == "text":
        return SENTENCES
    walk = torch.randn(6, 400, 2, generator=seeded(7)).cumsum(1)
    return walk if modality == "stream" else walk[:, :, 0] / 50


def listed(x) -> list:
    return list(x) if isinstance(x, torch.Tensor) else x


def same(a, b) -> bool:
    return type(a) is type(b) and (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


def distortion(before, after) -> float:
    if isinstance(before, list):
        return sum(edit_distance(a, b) for a, b in zip(before, after, strict=True)) / len(before)
    return float((before - after).double().square().mean())


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_severity_nought_gives_an_exact_copy_and_draws_nothing(modality, kind):
    x, generator = some(modality), seeded()
    before = generator.get_state()
    out = corrupt(x, modality, kind, 0.0, generator)
    assert same(out, x) and out is not x
    assert torch.equal(generator.get_state(), before)
    if isinstance(x, torch.Tensor):
        assert out.data_ptr() != x.data_ptr()


def test_a_copy_of_recordings_hands_gradients_on():
    """Of leaves, and of what was computed from one."""
    w = torch.ones(5, requires_grad=True)
    for wave in (w, 2 * w):
        (copied,) = corrupt([wave], "audio", "noise", 0, seeded())
        assert copied is not wave and copied.grad_fn is not None and torch.equal(copied, wave)


def test_a_blur_too_small_to_see_is_none():
    x = some("image")
    for sd in (0.0, 1e-170, 1e-9):
        torch.testing.assert_close(images.blur(x, sd, seeded()), x)


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_nothing_is_changed_in_place(modality, kind):
    x = some(modality)
    kept = x.clone() if isinstance(x, torch.Tensor) else list(x)
    out = corrupt(x, modality, kind, 0.7, seeded())
    assert same(x, kept) and not same(out, kept)


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_the_generator_decides_and_nothing_else_does(modality, kind):
    x = some(modality)
    first, again = (corrupt(x, modality, kind, 0.5, seeded(3)) for _ in range(2))
    assert same(first, again)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert same(corrupt(x, modality, kind, 0.5, seeded(3)), first)
    assert same(corrupt(x, modality, kind, 0.5, seeded(4)), first) is (
        (modality, kind) not in RANDOM
    )


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_distortion_grows_with_severity(modality, kind):
    x = some(modality)
    drawn = range(8 if (modality, kind) in RANDOM else 1)
    mean = [
        sum(distortion(x, corrupt(x, modality, kind, severity, seeded(seed))) for seed in drawn)
        for severity in (0.0, 0.1, 0.3, 0.6, 1.0)
    ]
    assert mean[0] == 0
    assert all(less < more for less, more in pairwise(mean)), mean


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_a_sample_does_not_depend_on_its_neighbours(modality, kind):
    x = some(modality)
    # of the same length and number of words, so that the draws fall on the same places
    other = (
        [x[0][::-1].replace("o", "u"), *x[1:]]
        if isinstance(x, list)
        else torch.cat([x[:1] * 0.3, x[1:]])
    )
    a, b = (corrupt(given, modality, kind, 0.5, seeded()) for given in (x, other))
    assert not same(listed(a)[0], listed(b)[0])
    assert all(same(one, two) for one, two in zip(listed(a)[1:], listed(b)[1:], strict=True))


@pytest.mark.parametrize(("modality", "kind"), [pair for pair in RANDOM if pair[0] != "text"])
def test_each_sample_gets_draws_of_its_own(modality, kind):
    x = some(modality)
    twins = corrupt(torch.stack([x[0], x[0]]), modality, kind, 0.5, seeded())
    assert not torch.equal(*twins)


def test_texts_of_a_list_get_draws_of_their_own():
    for kind in KINDS["text"]:
        assert len(set(corrupt(SENTENCES[:1] * 4, "text", kind, 0.5, seeded()))) == 4


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from(ALL),
    severity=st.floats(0, 1),
    size=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_type_shape_dtype_and_range_stay(pair, severity, size, dtype):
    modality, kind = pair
    shapes = {"image": (2, 1, size, 5), "audio": (2, size), "stream": (2, size, 3)}
    x = (
        ["ab c"[:size], "", "语音"]
        if modality == "text"
        else torch.rand(shapes[modality], generator=seeded()).to(dtype)
    )
    out = corrupt(x, modality, kind, severity, seeded(size))
    assert type(out) is type(x) and len(out) == len(x)
    if modality == "text":
        assert all(isinstance(text, str) for text in out)
    else:
        assert out.shape == x.shape and out.dtype == dtype and bool(torch.isfinite(out).all())
    if modality == "image":
        assert out.min() >= 0 and out.max() <= 1
    if (modality, kind) != ("text", "dropped words"):  # what comes out may go in again
        again = [text + "." for text in out] if modality == "text" else out
        if modality != "audio" or bool((out.square().mean(1) > 0).all()):
            corrupt(again, modality, kind, severity, seeded())


@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_the_physical_value_moves_one_way(modality, kind):
    entry = KINDS[modality][kind]
    values = [entry.value(i / 50) for i in range(51)]
    steps = [b - a for a, b in pairwise(values)]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    assert isinstance(entry.unit, str) and entry.unit


def test_the_ends_of_the_scales_are_as_documented():
    value = {pair: KINDS[pair[0]][pair[1]].value for pair in ALL}
    assert (value["audio", "noise"](0), value["audio", "noise"](1)) == (math.inf, -20)
    assert (value["image", "jpeg"](0), value["image", "jpeg"](1)) == (100, 5)
    assert (value["audio", "clipping"](0), value["audio", "clipping"](1)) == (1, 0)
    assert (value["stream", "lag"](0), value["stream", "lag"](1)) == (0, 0.5)
    assert (value["text", "typos"](0), value["text", "typos"](1)) == (0, 1)


@pytest.mark.parametrize("kind", list(KINDS["audio"]))
def test_a_list_of_recordings_stays_one_and_each_keeps_its_length(kind):
    waves = [some("audio")[0], some("audio")[1, :150]]
    out = corrupt(waves, "audio", kind, 0.5, seeded())
    assert isinstance(out, list) and [w.shape for w in out] == [(400,), (150,)]
    one = corrupt(waves[0][None], "audio", kind, 0.5, seeded())
    assert torch.equal(out[0], one[0])  # the first in the list takes the first draws
    untouched = corrupt(waves, "audio", kind, 0.0, seeded())
    assert all(
        torch.equal(a, b) and a.data_ptr() != b.data_ptr()
        for a, b in zip(untouched, waves, strict=True)
    )


@pytest.mark.parametrize("kind", list(KINDS["stream"]))
def test_one_stream_is_treated_as_a_batch_of_one(kind):
    x = some("stream")[:1]
    assert torch.equal(
        corrupt(x[0], "stream", kind, 0.5, seeded()), corrupt(x, "stream", kind, 0.5, seeded())[0]
    )


GOOD = torch.full((2, 3, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            (GOOD, "video", "noise", 0.5),
            KeyError,
            r"unknown \['video'\]; the modalities are \['image', 'text', 'audio', 'stream'\]",
        ),
        (
            (GOOD, "image", "typos", 0.5),
            ValueError,
            "unknown kind of image 'typos'; known: noise, blur",
        ),
        ((GOOD, "image", "noise", -0.1), ValueError, "severity is -0.1, expected a number from 0"),
        ((GOOD, "image", "noise", 1.1), ValueError, "severity is 1.1"),
        ((GOOD, "image", "noise", math.nan), ValueError, "severity is nan"),
        ((GOOD, "image", "noise", "0.5"), TypeError, "severity is a str"),
        ((GOOD, "image", "noise", True), TypeError, "severity is a bool"),
        (
            (GOOD.numpy(), "image", "noise", 0.5),
            TypeError,
            "image samples: ndarray, expected float tensors",
        ),
        (((GOOD * 255).byte(), "image", "noise", 0.5), TypeError, "image samples: torch.uint8"),
        (
            (GOOD[0], "image", "noise", 0.5),
            ValueError,
            r"shape \(3, 4, 4\), expected \(N, C, H, W\)",
        ),
        ((GOOD[:0], "image", "noise", 0.5), ValueError, r"shape \(0, 3, 4, 4\)"),
        (
            (GOOD * 255, "image", "noise", 0.5),
            ValueError,
            "outside 0..1: divide 8-bit pictures by 255",
        ),
        ((-GOOD, "image", "noise", 0.0), ValueError, "outside 0..1"),
        ((GOOD * math.nan, "image", "noise", 0.5), ValueError, "NaN"),
        ((GOOD[:, :2], "image", "jpeg", 0.5), ValueError, "2 channels, expected 1 .grey. or 3"),
        (("a text", "text", "typos", 0.5), TypeError, "text samples are a str, expected a list"),
        ((["a", 3], "text", "typos", 0.5), TypeError, "text sample 1 is a int"),
        (([], "text", "typos", 0.5), ValueError, "empty list, expected at least one string"),
        (
            (torch.ones(5), "audio", "noise", 0.5),
            ValueError,
            r"audio samples: shape \(5,\), expected \(N, T\)",
        ),
        ((torch.ones(2, 5).int(), "audio", "noise", 0.5), TypeError, "audio samples: torch.int32"),
        (
            (torch.ones(2, 5) * math.inf, "audio", "clipping", 0.5),
            ValueError,
            "audio samples: NaN or inf",
        ),
        (
            ([torch.ones(5), torch.ones(1, 5)], "audio", "noise", 0.5),
            ValueError,
            r"audio sample 1: shape \(1, 5\)",
        ),
        (
            ([torch.ones(5), torch.ones(0)], "audio", "noise", 0.5),
            ValueError,
            r"audio sample 1: shape \(0,\)",
        ),
        (([torch.ones(5), [1.0]], "audio", "noise", 0.5), TypeError, "audio sample 1: list"),
        (([], "audio", "noise", 0.5), ValueError, "audio samples are an empty list"),
        ((torch.zeros(2, 5), "audio", "noise", 0.5), ValueError, "silent"),
        ((torch.ones(5), "stream", "lag", 0.5), ValueError, r"stream samples: shape \(5,\)"),
        (
            (torch.ones(5, 2).long(), "stream", "lag", 0.5),
            TypeError,
            "stream samples: torch.int64",
        ),
        (([1.0], "stream", "lag", 0.5), TypeError, "stream samples: list"),
        (
            (torch.ones(5, 2) * math.nan, "stream", "lag", 0.5),
            ValueError,
            "stream samples: NaN or inf",
        ),
        ((torch.ones(5, 0), "stream", "lag", 0.5), ValueError, r"shape \(5, 0\)"),
    ],
)
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        corrupt(*arguments, seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("modality", "kind"), ALL)
def test_on_the_gpu_the_result_stays_there(modality, kind):
    x, generator = some(modality), torch.Generator("cuda").manual_seed(0)
    if modality == "text":
        assert not same(corrupt(x, modality, kind, 0.5, generator), x)
        return
    out = corrupt(x.cuda(), modality, kind, 0.5, generator)
    assert out.device.type == "cuda" and out.shape == x.shape
    if (modality, kind) in RANDOM:
        assert not torch.equal(out.cpu(), x)
    else:
        torch.testing.assert_close(
            out.cpu(), corrupt(x, modality, kind, 0.5, seeded()), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("generator", [None, 0])
def test_randomness_must_be_seeded(generator):
    with pytest.raises(TypeError, match=r"expected a torch.Generator"):
        corrupt(GOOD, "image", "noise", 0.5, generator)
