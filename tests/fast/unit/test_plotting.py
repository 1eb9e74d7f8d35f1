import io
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from mmtutor import plotting


@pytest.fixture(autouse=True)
def own_style():
    with mpl.rc_context():
        mpl.use("Agg")
        plotting.use_style()
        yield
    plt.close("all")


def test_no_two_modalities_share_colour_or_marker():
    assert len(set(plotting.COLOURS.values())) == len(plotting.COLOURS)
    assert len(set(plotting.MARKERS.values())) == len(plotting.MARKERS)
    assert plotting.COLOURS.keys() == plotting.MARKERS.keys()


def test_dot_interval_draws_what_it_was_given_top_to_bottom():
    _, ax = plt.subplots()
    plotting.dot_interval(ax, {"first": (0.5, 0.4, 0.6), "second": (0.7, 0.65, 0.75)})
    bars, dots = ax.lines[0::2], ax.lines[1::2]
    assert [tuple(line.get_xdata()) for line in bars] == [(0.4, 0.6), (0.65, 0.75)]
    assert [float(line.get_xdata()[0]) for line in dots] == [0.5, 0.7]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top


def test_flat_png_keeps_the_colours_of_a_drawing_in_less_room_and_closes_it():
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, 1], color=plotting.COLOURS["fusion"], lw=20)
    whole = io.BytesIO()
    figure.savefig(whole, format="png")
    image = plotting.flat_png(figure)
    shown = Image.open(io.BytesIO(image.data)).convert("RGB")
    assert shown.size == (400, 300)
    assert len(image.data) < 0.6 * len(whole.getvalue())
    wanted = tuple(bytes.fromhex(plotting.COLOURS["fusion"][1:]))
    assert np.abs(np.array(shown.getpixel((206, 150))).astype(int) - wanted).max() < 12
    assert not plt.fignum_exists(figure.number)


def test_contact_sheet_letters_each_picture_and_cuts_it_to_one_size(tmp_path):
    Image.new("RGB", (400, 100), "red").save(tmp_path / "red.png")
    blue = np.zeros((30, 50, 3), np.uint8)
    blue[..., 2] = 255
    stored = plotting.contact_sheet([tmp_path / "red.png", blue, np.ones((8, 8))], columns=2)
    sheet = np.asarray(Image.open(io.BytesIO(stored.data)).convert("RGB")).astype(int)
    assert sheet.shape == (2 * 180 + 4, 2 * 240 + 4, 3)
    for (y, x), colour in {
        (90, 120): (255, 0, 0),
        (90, 364): (0, 0, 255),
        (274, 120): (255, 255, 255),
        (274, 364): (128, 128, 128),  # no fourth picture
    }.items():
        assert np.abs(sheet[y, x] - colour).max() < 8, (y, x)
    letters = [sheet[y : y + 31, x : x + 31] for y, x in ((0, 0), (0, 244), (184, 0))]
    assert all((letter > 200).any() and (letter < 40).any() for letter in letters)


SITE_CSS = Path(__file__).parents[3] / "book/_static/site.css"


def luminance(colour: np.ndarray) -> float:
    """WCAG 2.1 relative luminance of an sRGB colour in 0..1."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """WCAG 2.1 contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def on_a_dark_page(colour: np.ndarray) -> np.ndarray:
    """What the style sheet's filter makes of a colour: inverted, then its hue turned back."""
    rule = re.search(r"filter: invert\(([\d.]+)\) hue-rotate\(180deg\)", SITE_CSS.read_text())
    share = float(rule[1])
    inverted = share * (1 - colour) + (1 - share) * colour
    # CSS Filter Effects, hue-rotate at 180 degrees: cos = -1, sin = 0
    weights = np.array([0.213, 0.715, 0.072])
    return (2 * weights @ inverted - inverted).clip(0, 1)


@pytest.mark.parametrize("name", [*plotting.COLOURS, "black"])
def test_colours_of_figures_can_be_read_in_both_themes(name):
    colour = np.array(mpl.colors.to_rgb(plotting.COLOURS.get(name, name)))
    white, page = np.ones(3), np.array(mpl.colors.to_rgb("#15191d"))
    assert contrast(colour, white) >= 4.5
    assert contrast(on_a_dark_page(colour), on_a_dark_page(white)) >= 4.5
    assert contrast(on_a_dark_page(white), page) < 1.1  # no glaring board
