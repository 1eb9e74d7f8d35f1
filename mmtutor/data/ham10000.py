"""HAM10000: 3000 pictures of skin lesions, each with the patient's age and sex and the body site.

A teaching data set: nothing trained on it may be used to judge a real lesion. Waits for chapter 12.
"""

import numpy as np
import pandas as pd
import torch

from mmtutor.data.dataset import Dataset
from mmtutor.files.store import fetched

DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = ("akiec", "bcc", "mel")


def load(accept_licence: bool = False) -> Dataset:
    """Return the 3000 lesions; label = the diagnosis, by the abbreviations of the data card.

    modalities: image (list of Path, JPEG, 200 × 150), record (list of dicts: age in years, NaN
    where unknown; sex; site, both "unknown" where unknown). targets: malignant (N,) bool (mel, bcc
    and akiec), confirmed_by (list of str: histo, follow_up, consensus, confocal), how the diagnosis
    was made, which gives it away: never a model's input. Groups: the lesion; each has one picture.
    Raises what `store.fetch` raises. Tschandl, Rosendahl & Kittler, Scientific Data 5, 2018.
    """
    data, folder = fetched("ham10000", accept_licence)
    table = pd.read_csv(folder / "HAM10000_metadata.csv").set_index("image_id")
    # The table has all 10,015 pictures, of which the manifest lists one per lesion.
    listed = {file.path for file in data.files}
    table = table[table.index.map(lambda name: f"images/{name}.jpg" in listed)].sort_index()
    lesions, groups = np.unique(table["lesion_id"], return_inverse=True)
    record = table[["age", "sex", "localization"]].rename(columns={"localization": "site"})
    return Dataset(
        name="ham10000",
        modalities={
            "image": [folder / "images" / f"{name}.jpg" for name in table.index],
            "record": record.to_dict("records"),
        },
        groups=groups,
        labels=torch.tensor([DIAGNOSES.index(diagnosis) for diagnosis in table["dx"]]),
        classes=DIAGNOSES,
        group_names=tuple(map(str, lesions)),
        targets={
            "malignant": torch.tensor(table["dx"].isin(MALIGNANT).to_numpy()),
            "confirmed_by": list(table["dx_type"]),
        },
        card=data.facts(),
    )
