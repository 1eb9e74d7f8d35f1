"""MVSA-Single: tweets with a picture, labelled for sentiment (2000 posts). Measure on it; never
show a post. Taught in chapter 10.
"""

import re

import numpy as np
import pandas as pd
import torch

from mmtutor.data.dataset import Dataset
from mmtutor.files.store import fetched
from mmtutor.files.text import decode

CLASSES = ("negative", "neutral", "positive")


def load(accept_licence: bool = False) -> Dataset:
    """Return the 2000 posts: modalities image (list of Path, JPEG) and text (list of str), labels
    of the whole post.

    Groups: posts whose text is the same once links, mentions, "RT" and all but letters are dropped,
    so that a retweet never stands on both sides of a split. (Posts of which nothing is left then
    are one group, too.) card["encodings"] counts how the texts were decoded. Raises what
    `store.fetch` raises. Niu, Zhu, Pang & El Saddik, MultiMedia Modeling 2016.
    """
    data, folder = fetched("mvsa", accept_licence)
    listed = {file.path for file in data.files}
    labels = folder / "label" / "train.txt"
    tags = pd.read_csv(labels, encoding="ascii", dtype=str).set_index("guid")["tag"]
    # The table names 4000 posts; those without files are not in this half of the set.
    posts = sorted((guid for guid in tags.index if f"data/{guid}.txt" in listed), key=int)
    decoded = [decode((folder / "data" / f"{guid}.txt").read_bytes()) for guid in posts]
    texts = [text.strip() for text, _ in decoded]
    _, groups = np.unique([normalise(text) for text in texts], return_inverse=True)
    encodings = [encoding for _, encoding in decoded]
    return Dataset(
        name="mvsa",
        modalities={"image": [folder / "data" / f"{guid}.jpg" for guid in posts], "text": texts},
        labels=torch.tensor([CLASSES.index(tags[guid]) for guid in posts]),
        classes=CLASSES,
        groups=groups.astype(np.int64),
        card={
            **data.facts(),
            "encodings": {name: encodings.count(name) for name in sorted(set(encodings))},
        },
    )


def normalise(text: str) -> str:
    """Return the letters of a post in lower case, without links, @mentions and the mark RT: equal
    for retweets."""
    text = re.sub(r"https?:\S*|@\w+|\brt\b", " ", text.lower())
    return "".join(character for character in text if character.isalpha())
