"""Pictures of every kind → vectors; bad ones → an error that names them."""

from __future__ import annotations

import io
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from mmtutor.encoders import ImageEncoder
from mmtutor.encoders.pictures import SampleUnreadable, to_rgb

pytestmark = pytest.mark.usefixtures("own_cache")

CAT = Image.fromarray(data.chelsea())


def files_of(*pictures, folder: Path, suffix="png", **options):
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(folder / f"{number}.{suffix}")
        picture.save(paths[-1], **options)
    return paths


def spy(encoder, monkeypatch):
    """Count the pictures that run through the network."""
    seen = []
    original = encoder._map
    monkeypatch.setattr(
        encoder, "_map", lambda batch: (seen.append(len(batch)), original(batch))[1]
    )
    return seen


def crops(count):
    return [CAT.crop((10 * i, 5 * i, 10 * i + 180, 5 * i + 150)) for i in range(count)]


def test_file_pil_array_and_tensor_of_one_picture_agree(image_encoder, tmp_path):
    array = np.asarray(CAT)
    path = files_of(CAT, folder=tmp_path)[0]
    forms = [
        path,
        str(path),
        CAT,
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        array / 255.0,
    ]
    # 8 bits survive half precision
    forms.append(torch.from_numpy(array.copy()).permute(2, 0, 1).half() / 255)
    features = image_encoder.encode(forms)
    assert features.shape == (7, 1280)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    for row in features[1:]:
        torch.testing.assert_close(row, features[0], rtol=1e-4, atol=1e-4)
    assert features[0].std() > 0.1


def test_result_does_not_depend_on_batch_size_or_neighbours(image_encoder):
    pictures = crops(5)
    whole = image_encoder.encode(pictures)
    for batch_size in (1, 2, 5):
        other = ImageEncoder(device="cpu", cache=False, image_size=64, batch_size=batch_size)
        other.model = image_encoder.model
        torch.testing.assert_close(other.encode(pictures), whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(image_encoder.encode(pictures), whole)
    assert (whole[0] - whole[1]).norm() > 1


def test_grid_is_the_map_whose_mean_is_the_vector(image_encoder):
    pictures = crops(3)
    grid = image_encoder.grid(pictures)
    assert grid.shape == (3, 4, 1280)  # 64 px / 32 = 2 × 2 places
    torch.testing.assert_close(grid.mean(1), image_encoder.encode(pictures), rtol=1e-4, atol=1e-4)
    assert image_encoder.grid([]).shape == (0, 4, 1280)


def test_grid_runs_row_by_row_from_the_top_left(image_encoder):
    grid = image_encoder.grid([CAT])[0]
    with torch.no_grad():
        # (D, H, W)
        maps = image_encoder.model.forward_features(image_encoder.preprocess(CAT)[None])[0]
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(
                grid[2 * row + column], maps[:, row, column], rtol=1e-4, atol=1e-4
            )
    assert (grid[1] - grid[2]).norm() > 1  # so that a transposed order would be noticed


def test_empty_list_gives_no_rows():
    assert ImageEncoder(cache=False).encode([]).shape == (0, 1280)
    assert ImageEncoder().encode([]).shape == (0, 1280)


def test_one_picture_more_runs_one_picture(tmp_path, image_encoder, monkeypatch):
    encoder = ImageEncoder(device="cpu", image_size=64, batch_size=4)
    encoder.model = image_encoder.model
    seen = spy(encoder, monkeypatch)
    paths = files_of(*crops(6), folder=tmp_path)
    first = encoder.encode(paths)
    assert sum(seen) == 6
    extra = tmp_path / "extra.png"
    CAT.rotate(90).save(extra)
    features = encoder.encode([*paths, extra])
    assert sum(seen) == 7
    assert torch.equal(features[:6], first)
    moved = paths[0].rename(tmp_path / "moved.png")  # content counts, not the name
    assert torch.equal(encoder.encode([moved])[0], first[0])
    assert sum(seen) == 7
    CAT.rotate(45).save(moved)  # the name counts for nothing either
    encoder.encode([moved])
    assert sum(seen) == 8


def test_another_size_is_cached_apart():
    folders = {ImageEncoder(image_size=s).cache.folder for s in (64, 224)}
    assert len(folders) == 2
    assert ImageEncoder(batch_size=3).cache.folder in folders


def test_a_corrupt_picture_is_named_and_the_finished_ones_are_kept(
    tmp_path, image_encoder, monkeypatch
):
    encoder = ImageEncoder(device="cpu", image_size=64, batch_size=2)
    encoder.model = image_encoder.model
    seen = spy(encoder, monkeypatch)
    paths = files_of(*crops(6), folder=tmp_path)
    good = paths[4].read_bytes()
    paths[4].write_bytes(good[: len(good) // 2])
    with pytest.raises(SampleUnreadable, match=r"sample 4 .*4\.png"):
        encoder.encode(paths)
    assert sum(seen) == 4
    paths[4].write_bytes(good)
    assert encoder.encode(paths).shape == (6, 1280)
    assert sum(seen) == 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_truncated_files_are_named(tmp_path, image_encoder, suffix, share):
    path = files_of(CAT, folder=tmp_path, suffix=suffix)[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SampleUnreadable, match=rf"sample 1 .*0\.{suffix}"):
        image_encoder.encode([CAT, path])


def test_what_is_no_picture_is_named(tmp_path, image_encoder):
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    with pytest.raises(SampleUnreadable, match=r"notes\.jpg.*corrupt"):
        image_encoder.encode([text])
    with pytest.raises(FileNotFoundError, match=r"sample 0 .*absent\.png"):
        image_encoder.encode([tmp_path / "absent.png"])
    with pytest.raises(FileNotFoundError, match=r"sample 0 .*absent\.png"):
        ImageEncoder().encode([tmp_path / "absent.png"])
    with pytest.raises(SampleUnreadable, match=str(tmp_path)):
        image_encoder.encode([tmp_path])


def test_a_picture_too_large_to_be_safe_is_refused(tmp_path, image_encoder, monkeypatch):
    path = files_of(CAT, folder=tmp_path)[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(SampleUnreadable, match=r"0\.png.*too large"):
        image_encoder.encode([path])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (20_000, 2)])
def test_tiny_and_thin_pictures_are_encoded(image_encoder, size):
    assert image_encoder.encode([Image.new("RGB", size, "red")]).isfinite().all()


def test_one_pixel_equals_a_large_picture_of_its_colour(image_encoder):
    pair = image_encoder.encode(
        [Image.new("RGB", (1, 1), (200, 30, 90)), Image.new("RGB", (90, 70), (200, 30, 90))]
    )
    torch.testing.assert_close(pair[0], pair[1], rtol=1e-4, atol=1e-4)


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def far(a, b) -> float:
    return float(np.abs(np.asarray(to_rgb(a), float) - np.asarray(b, float)).mean())


def test_modes_become_the_same_rgb_picture():
    assert far(saved(CAT.convert("CMYK"), "JPEG", quality=95), CAT) < 3  # JPEG's loss
    assert far(saved(CAT.quantize(256), "PNG"), CAT) < 6  # 256 colours
    assert far(saved(CAT.convert("RGBA"), "PNG"), CAT) == 0
    grey = CAT.convert("L")
    for picture in (
        saved(grey, "PNG"),
        np.asarray(grey),
        torch.tensor(np.array(grey)),
        np.asarray(grey)[..., None],
    ):
        assert far(picture, grey.convert("RGB")) == 0
    assert far(saved(grey.convert("1"), "PNG"), grey.convert("1").convert("RGB")) == 0
    assert far(saved(CAT.convert("YCbCr"), "JPEG", quality=95), CAT) < 3
    assert far(np.asarray(grey) > 127, (np.asarray(grey) > 127)[..., None].repeat(3, 2) * 255) == 0


@pytest.mark.parametrize("form", ["PNG", "TIFF", "array", "tensor", "I"])
def test_sixteen_bits_are_scaled_not_cut(form):
    grey = np.asarray(CAT.convert("L"))
    wide = grey.astype(np.uint16) * 257
    made = {
        "PNG": lambda: saved(Image.fromarray(wide), "PNG"),
        "TIFF": lambda: saved(Image.fromarray(wide), "TIFF"),
        "array": lambda: wide,
        "tensor": lambda: torch.from_numpy(wide),
        "I": lambda: Image.fromarray(wide.astype(np.int32)),
    }
    assert far(made[form](), grey[..., None].repeat(3, 2)) == 0


def test_transparency_is_laid_over_white():
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert far(half, np.full((4, 4, 3), 255)) == 0
    assert far(np.asarray(half), np.full((4, 4, 3), 255)) == 0
    assert far(Image.new("LA", (4, 4), (0, 0)), np.full((4, 4, 3), 255)) == 0
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert far(saved(palette, "PNG", transparency=0), np.full((4, 4, 3), 255)) == 0
    assert far(saved(palette, "PNG"), np.full((4, 4, 3), (10, 20, 30))) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    upright = CAT.crop((100, 60, 200, 130))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = files_of(stored, folder=tmp_path, exif=exif)[0]
    assert far(path, upright) == 0


def test_the_callers_picture_is_left_alone():
    array, before = np.asarray(CAT).copy(), np.asarray(CAT).copy()
    tensor = torch.rand(3, 9, 9)
    kept = tensor.clone()
    to_rgb(array), to_rgb(tensor)
    assert np.array_equal(array, before)
    assert torch.equal(tensor, kept)


BAD_ARRAYS = {
    "NaN": (np.full((4, 4, 3), np.nan), "NaN"),
    "infinite": (torch.full((3, 4, 4), float("inf")), "NaN or infinite"),
    "floats to 255": (np.full((4, 4, 3), 200.0), r"200\.0\.\.200\.0, expected 0\.\.1"),
    "standardised": (torch.randn(3, 8, 8) * 3, r"expected 0\.\.1"),
    "int64": (np.zeros((4, 4, 3), np.int64), "int64"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
    "tensor channels last": (
        torch.zeros(8, 9, 3, dtype=torch.uint8),
        r"\(8, 9, 3\), expected .*\(C, H, W\)",
    ),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    "one number": (np.zeros((), np.uint8), r"shape is \(\)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
@pytest.mark.parametrize("cached", [False, True])
def test_bad_arrays_are_named(case, cached):
    picture, message = BAD_ARRAYS[case]
    with pytest.raises(SampleUnreadable, match=rf"sample 1 .*{message}"):
        ImageEncoder(device="cpu", cache=cached, image_size=32).encode([CAT, picture])


def test_what_cannot_be_a_picture_is_a_type_error():
    encoder = ImageEncoder(cache=False)
    with pytest.raises(TypeError, match="sample 1 is a NoneType"):
        encoder.encode([CAT, None])
    with pytest.raises(TypeError, match="sample 0 is a int"):
        encoder.grid([3])
    for one in (
        CAT,
        "cat.png",
        Path("cat.png"),
        np.asarray(CAT),
        torch.zeros(3, 8, 8),
        torch.zeros(8, 8),
    ):
        with pytest.raises(TypeError, match=r"write \[picture\]"):
            encoder.encode(one)


def test_stacks_of_pictures_are_taken_as_lists(image_encoder):
    stack = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(image_encoder.encode(stack), image_encoder.encode(list(stack[:, 0])))


def test_options_are_checked():
    with pytest.raises(ValueError, match="unknown image encoder 'vgg'; known: efficientnet-lite0"):
        ImageEncoder("vgg")
    for size in (0, 31, 224.0, True):
        with pytest.raises(ValueError, match="image_size"):
            ImageEncoder(image_size=size)
    for batch in (0, -1, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            ImageEncoder(batch_size=batch)


def test_absent_devices_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        RuntimeError, match=r"'cuda' was asked for.*0 CUDA devices.*device=None or 'cpu'"
    ):
        ImageEncoder(device="cuda")
    with pytest.raises(RuntimeError, match="'mps' was asked for"):
        ImageEncoder(device="mps")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        ImageEncoder(device="gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match=r"'cuda:3' was asked for.*1 CUDA dev"):
        ImageEncoder(device="cuda:3")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_agrees_with_the_processor(image_encoder):
    features = ImageEncoder(device="cuda", cache=False, image_size=64).encode(crops(4))
    assert features.device.type == "cpu"
    torch.testing.assert_close(features, image_encoder.encode(crops(4)), rtol=2e-2, atol=2e-2)


def test_unwritable_cache_is_named_before_the_weights_are_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file"))
    encoder = ImageEncoder()
    with pytest.raises(OSError, match="MMTUTOR_CACHE") as caught:
        encoder.encode([CAT])
    assert str(tmp_path / "file") in str(caught.value)
    assert "model" not in vars(encoder)


def test_no_gradient_and_evaluation_mode(image_encoder):
    assert not image_encoder.model.training
    assert not any(parameter.requires_grad for parameter in image_encoder.model.parameters())
    features = image_encoder.encode(crops(2))
    torch.nn.Linear(1280, 2)(
        features
    ).sum().backward()  # the features may feed a head that is trained


def test_bar_is_shown_on_terminals_only(image_encoder, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for screen, progress, shown in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", screen)
            image_encoder.encode(crops(2), progress=progress)
        assert ("efficientnet-lite0" in screen.getvalue()) is shown
    assert capsys.readouterr().err == ""


def exif_of(rng: random.Random) -> bytes:
    """Made-up EXIF: entries of every type, some of them none, counts and places that lie."""
    entries = b""
    number = rng.randrange(1, 6)
    for _ in range(number):
        tag = rng.choice([0x10F, 0x112, 0x11A, 0x11B, 0x128, 0x132, 0x201, 0x8769, 0x8825, 0x927C])
        kind, count = rng.randrange(14), rng.choice([0, 1, 1, 2, 4, 100, 70_000, 2**31])
        entries += struct.pack("<HHL", tag, kind, count) + rng.randbytes(4)
    order = rng.choice([b"II*\0", b"II*\0", b"MM\0*", b"XX*\0"])
    told = number if rng.random() < 0.9 else rng.randrange(300)
    place = struct.pack("<LH", rng.choice([8, 8, 8, 0, 9, 4000]), told)
    return b"Exif\0\0" + order + place + entries + rng.randbytes(4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # as the module itself does, outside tests
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_picture_is_lost_to_what_stands_in_its_exif(tmp_path, kind):
    rng, picture = random.Random(0), Image.new("RGB", (24, 16), "green")
    path = tmp_path / "picture"
    for _ in range(400):
        picture.save(path, kind, exif=exif_of(rng))
        assert sorted(to_rgb(path).size) == [16, 24]


def test_odd_exif_is_turned_all_the_same(tmp_path):
    """Pillow gives up a JPEG whose resolution is one byte; the orientation beside it counts."""
    entries = [(0x112, 3, 1, b"\6\0\0\0"), (0x11A, 1, 1, b"\x48\0\0\0")]
    entries.append((0x128, 3, 1, b"\2\0\0\0"))
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    exif += b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries) + b"\0" * 4
    Image.new("RGB", (24, 16), "green").save(tmp_path / "x.jpg", exif=exif)
    assert to_rgb(tmp_path / "x.jpg").size == (16, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_was_turned_is_not_turned_again(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "green").save(tmp_path / "x", kind, exif=exif)
    once = to_rgb(tmp_path / "x")
    assert once.size == to_rgb(once).size == (20, 40)


def test_reading_pictures_leaves_warnings_as_they_were():
    """Encoders read in many threads, which would put back each other's filters."""
    before = list(warnings.filters)
    ImageEncoder(device="cpu", cache=False).encode([np.zeros((8, 8, 3), np.uint8)] * 64)
    assert warnings.filters == before


def test_a_file_that_is_no_picture_is_named_by_its_path(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(SampleUnreadable, match=r"cannot identify image file '.*x\.png'"):
        to_rgb(tmp_path / "x.png")


def test_whatever_a_reader_raises_names_the_picture(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Failed to decode")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(SampleUnreadable, match=r"sample 3 \(.*x\.avif\).*Failed to decode"):
        to_rgb(tmp_path / "x.avif", 3)
