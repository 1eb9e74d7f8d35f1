"""One look for all figures: colour-blind safe, direct labels, readable on a light and on a dark
page.

Taught in chapter 1.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as StoredImage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageOps
from PIL.ImageFont import load_default

# Okabe & Ito (2008), the five that keep 3:1 contrast on white; one colour per modality throughout
# the book
COLOURS = {
    "image": "#0072B2",
    "text": "#AA5A00",
    "audio": "#007A5A",
    "fusion": "#8A2F6B",
    "chance": "#6B6B6B",
}
MARKERS = {"image": "s", "text": "^", "audio": "v", "fusion": "o", "chance": "x"}


def use_style() -> None:
    """Set matplotlib's defaults for the book: white board, quiet axes, 12 pt, no legend frame, 100
    dpi, and a width of 5 inches, at which 12 pt can still be read on a phone.

    On a dark page the style sheet turns the board dark and keeps the hues.
    """
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.figsize": (5, 3.2),
            "savefig.dpi": 100,
            "savefig.facecolor": "white",
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 12,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.grid": True,
            "grid.color": "#E3E3E3",
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 2.2,
        }
    )


def dot_interval(
    ax: Axes, rows: dict[str, tuple[float, float, float]], colours: dict[str, str] | None = None
) -> None:
    """Draw one dot with its interval per row, top to bottom in the order given, the number written
    beside it.

    rows: label → (estimate, low, high). The axis starts where the data do: dots, unlike bars, need
    no zero.
    """
    for y, (label, (estimate, low, high)) in enumerate(rows.items()):
        colour = (colours or {}).get(label, COLOURS["fusion"])
        ax.plot([low, high], [y, y], color=colour, lw=2.5, solid_capstyle="round")
        ax.plot(estimate, y, "o", color=colour, ms=8)
        ax.annotate(
            f"{estimate:.3f}",
            (high, y),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)


def direct_label(ax: Axes, x: float, y: float, text: str, colour: str, **offset: int) -> None:
    """Write `text` beside a line's end at (x, y), in the line's colour, so that no legend is
    needed."""
    ax.annotate(
        text,
        (x, y),
        xytext=(offset.get("dx", 8), offset.get("dy", 0)),
        textcoords="offset points",
        color=colour,
        va="center",
        fontweight="bold",
    )


def flat_png(figure: Figure, colours: int = 48) -> StoredImage:
    """Return `figure` as a PNG output of few colours, the same bytes each time, and close it:
    drawings with much text weigh a third."""
    canvas, small = io.BytesIO(), io.BytesIO()
    figure.savefig(canvas, format="png")
    plt.close(figure)
    Image.open(canvas).convert("RGB").quantize(colours).save(small, format="png", optimize=True)
    return StoredImage(data=small.getvalue(), format="png")


def contact_sheet(
    pictures: Sequence[Path | np.ndarray],
    columns: int = 3,
    size: tuple[int, int] = (240, 180),
    quality: int = 75,
) -> StoredImage:
    """Return pictures side by side as one JPEG output, lettered A, B, C, ... row by row.

    pictures: paths, or arrays (H, W) in 0..1 or (H, W, 3) of bytes; each is cut to `size` (width,
    height, pixels) around its middle. There is no board that glares on a dark page: what each
    picture is stands in the text beside it.
    """
    width, height = size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 4) - 4, rows * (height + 4) - 4), "#808080")
    pen = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        x, y = place % columns * (width + 4), place // columns * (height + 4)
        image = Image.open(picture) if isinstance(picture, str | Path) else _to_image(picture)
        sheet.paste(ImageOps.fit(image.convert("RGB"), size), (x, y))
        pen.rectangle((x, y, x + 31, y + 31), fill="black")
        pen.text((x + 16, y + 16), chr(65 + place), "white", load_default(24), anchor="mm")
    canvas = io.BytesIO()
    sheet.save(canvas, format="jpeg", quality=quality, optimize=True)
    return StoredImage(data=canvas.getvalue(), format="jpeg")


def _to_image(values: np.ndarray) -> Image.Image:
    """Return an array as a picture, a grey one enlarged without smoothing."""
    if values.ndim == 3:
        return Image.fromarray(values)
    grey = Image.fromarray((values * 255).round().astype(np.uint8))
    return grey.resize((240, 240), Image.Resampling.NEAREST)
