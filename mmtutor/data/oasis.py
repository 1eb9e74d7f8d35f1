"""OASIS: 590 photographs rated for valence and arousal, each with a human and a machine
caption. Taught in chapter 1.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmtutor.checks import one_of, require
from mmtutor.data.dataset import Dataset
from mmtutor.files.store import Manifest, fetched

CAPTIONS = {"human": "captions.csv", "machine": "auto_generated_captions.csv"}
CLASSES = ("negative", "neutral", "positive")
# The data card's stricter grouping: themes whose pictures are of a kind.
KINDRED = (
    ("Alcohol", "Bar", "Drink", "Toast", "Party"),
    ("Cemetery", "Memorial"),
    ("Lightning", "Thunderstorm"),
    ("Rocks", "Sidewalk"),
    ("Jail", "Prison", "Fence"),
    ("Gun", "Soldiers", "Police"),
    ("Fire", "Explosion"),
)


def load(
    cuts: tuple[float, float] = (4.0, 5.2),
    captions: str = "human",
    merge_themes: bool = False,
    accept_licence: bool = False,
) -> Dataset:
    """Return the 590 pictures with their captions; label = how the viewer feels.

    modalities: image (list of Path, JPEG), text (list of str). Labels from valence v (1..7) by cuts
    a ≤ b: negative (0) if v < a, positive (2) if v > b, neutral (1) otherwise. targets: valence
    (1..7), valence_sd, raters (how many rated it), arousal (1..7), category (int64, into
    card["categories"]: animal, object, person, scenery).
    Groups: the theme, that is the picture's name without its number (188); with `merge_themes` the
    kindred themes that the data card lists count as one.
    Raises ValueError for cuts out of order or range and for unknown captions, and what
    `store.fetch` raises. Kurdi, Lozano & Banaji, Behavior Research Methods 49, 2017.
    """
    low, high = cuts
    require(
        1 <= low <= high <= 7, f"cuts must satisfy 1 ≤ a ≤ b ≤ 7 (the rating scale), got {cuts}"
    )
    one_of("captions", captions, CAPTIONS)
    data, folder = fetched("oasis", accept_licence)
    table = _table(data, folder, captions)
    valence = torch.tensor(table["Valence_mean"].to_numpy())
    kinds, kind = np.unique(table["Category"].str.strip(), return_inverse=True)
    group_names, groups = np.unique(
        [theme_of(name, merge_themes) for name in table.index], return_inverse=True
    )
    return Dataset(
        name="oasis",
        modalities={
            "image": [folder / "images" / f"{name}.jpg" for name in table.index],
            "text": list(table["caption"]),
        },
        labels=1 + (valence > high).long() - (valence < low).long(),
        classes=CLASSES,
        groups=groups.astype(np.int64),
        group_names=tuple(str(name) for name in group_names),
        card={**data.facts(), "categories": tuple(str(name) for name in kinds)},
        targets={
            "valence": valence.float(),
            "valence_sd": torch.tensor(table["Valence_SD"].to_numpy()).float(),
            "arousal": torch.tensor(table["Arousal_mean"].to_numpy()).float(),
            "raters": torch.tensor(table["Valence_N"].to_numpy()).float(),
            "category": torch.tensor(kind),
        },
    )


def theme_of(name: str, merge: bool = False) -> str:
    """Return the theme of a picture, "Dog 12" → "Dog"; with `merge`, kindred ones share a name,
    "Fire/Explosion"."""
    theme = name.rstrip(" 0123456789")
    if merge:
        return next(("/".join(family) for family in KINDRED if theme in family), theme)
    return theme


def _table(data: Manifest, folder: Path, captions: str) -> pd.DataFrame:
    """Return ratings and captions of the pictures that the manifest lists, one row each, by name,
    in the table's order.

    The tables hold 310 more rows, some of them explicit: they are dropped here and go nowhere.
    """
    pictures = {Path(file.path).stem for file in data.files if file.path.endswith(".jpg")}
    # The lines of this table end in CR alone, which pandas reads.
    ratings = pd.read_csv(folder / "OASIS.csv").set_index("Theme")
    words = pd.read_csv(
        folder / CAPTIONS[captions],
        sep="|",
        skiprows=1,
        names=["id", "image_file", "caption"],
        quoting=3,
        keep_default_na=False,
    )
    words.index = pd.Index(words["image_file"].str.removesuffix(".jpg"), name="Theme")
    return ratings[ratings.index.isin(pictures)].join(
        words[["caption"]], how="inner", validate="one_to_one"
    )
