import io

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


def luminance(colour: str) -> float:
    """WCAG 2.1 relative luminance."""
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", plotting.COLOURS.values())
def test_each_colour_can_be_read_as_text_on_the_figures_card(colour):
    assert (1.05) / (luminance(colour) + 0.05) >= 4.5  # WCAG AA for text on white


def test_no_two_modalities_share_colour_or_marker():
    assert len(set(plotting.COLOURS.values())) == len(plotting.COLOURS)
    assert len(set(plotting.MARKERS.values())) == len(plotting.MARKERS)
    assert plotting.COLOURS.keys() == plotting.MARKERS.keys()


def test_figures_stand_on_a_white_card_in_both_themes():
    assert plt.rcParams["figure.facecolor"] == plt.rcParams["savefig.facecolor"] == "white"


def test_dot_interval_draws_what_it_was_given_top_to_bottom():
    _, ax = plt.subplots()
    plotting.dot_interval(ax, {"first": (0.5, 0.4, 0.6), "second": (0.7, 0.65, 0.75)})
    bars, dots = ax.lines[0::2], ax.lines[1::2]
    assert [tuple(line.get_xdata()) for line in bars] == [(0.4, 0.6), (0.65, 0.75)]
    assert [float(line.get_xdata()[0]) for line in dots] == [0.5, 0.7]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top


def test_jpeg_is_a_picture_of_the_figure_and_closes_it():
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.imshow(np.random.default_rng(0).random((50, 100)))
    image = plotting.jpeg(figure)
    assert Image.open(io.BytesIO(image.data)).size == (200, 100)
    assert not plt.fignum_exists(figure.number)


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


def test_picture_grid_shows_each_picture_once_and_hides_empty_places(tmp_path):
    Image.new("RGB", (4, 3), "red").save(tmp_path / "red.png")
    figure = plotting.picture_grid(
        [tmp_path / "red.png", np.eye(3), np.eye(2)], ["a", "b", "c"], columns=2
    )
    shown = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == 4 and [ax.get_title(loc="left") for ax in shown] == ["a", "b", "c"]
    assert (shown[0].images[0].get_array()[0, 0] == [255, 0, 0]).all()
