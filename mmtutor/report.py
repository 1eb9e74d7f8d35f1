"""Numbers the prose cites, and tables made from results: nothing in the book is typed by hand.

Taught in chapter 1.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display

from mmtutor import GLUE_MIME
from mmtutor.checks import require
from mmtutor.evaluation import corrected_interval, paired_comparison
from mmtutor.files.whole import whole


def glue(name: str, value: float | int | str, *, tol: float = 0.0, fmt: str = "{}") -> None:
    r"""Record `value` under `name`, so that prose on the same page can say {glue:text}\`name\`.

    The page shows fmt.format(value). tol ≥ 0: by how much the number may differ when CI runs the
    notebook again (same unit as shown); it travels with the stored output. Nothing is printed.
    Raises ValueError for a negative tolerance or a number that is not finite.
    """
    require(tol >= 0, f"tol for {name!r} is {tol}, expected 0 or more")
    require(
        not isinstance(value, int | float) or np.isfinite(value),
        f"{name!r} is {value}: a number that prose cites must be finite",
    )
    display(
        {GLUE_MIME + "text/plain": repr(fmt.format(value))},
        metadata={
            "scrapbook": {"name": name, "mime_prefix": GLUE_MIME},
            "mmtutor": {"tolerance": tol},
        },
        raw=True,
    )


def comparison_table(
    scores: dict[str, np.ndarray],
    *,
    against: str,
    n_train: int | None = None,
    n_test: int | None = None,
    test_fraction: float | None = None,
    score: str = "score",
) -> pd.DataFrame:
    """One row per method: mean score over folds with its interval, and the paired difference from
    `against`.

    scores[method]: (folds,) one value per fold, the same folds in the same order for all. n_train,
    n_test: typical sizes of a fold's parts; both intervals (95 %) carry the Nadeau–Bengio
    correction, since folds overlap. test_fraction=0 instead says that each value comes from data of
    its own, and leaves the correction out. p and the number of folds won are left to
    `paired_comparison`: a column of p values invites picking.
    Raises KeyError where `against` is not among the methods.
    """
    require(
        against in scores, f"against={against!r} is not among the methods {list(scores)}", KeyError
    )
    sizes: dict[str, Any] = {"n_train": n_train, "n_test": n_test, "test_fraction": test_fraction}
    rows = {}
    for method, values in scores.items():
        mean = corrected_interval(values, **sizes)
        rows[method] = [f"{mean.estimate:.3f}", f"[{mean.low:.3f}, {mean.high:.3f}]", "", ""]
        if method != against:
            pair = paired_comparison(values, scores[against], **sizes)
            rows[method][2:] = f"{pair.difference:+.3f}", f"[{pair.low:+.3f}, {pair.high:+.3f}]"
    columns = [score, "95 % interval", f"minus {against}", "its 95 % interval"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def save_results(path: Path, *, command: str, machine: str, rows: dict) -> None:
    """Write results too long for a notebook as JSON, with a sha256 over the rest of the file,
    atomically.

    command: what regenerates the file; machine: where it was measured; rows: name → figures.
    """
    content = {"command": command, "machine": machine, "rows": rows}
    content["sha256"] = _digest(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_results(path: Path | str) -> dict:
    """Return what `save_results` wrote: {"command", "machine", "rows"}.

    Raises FileNotFoundError saying which command makes the file, ValueError naming the file where
    it is no whole JSON or was changed by hand.
    """
    path = Path(path)
    require(
        path.exists(), f"{path} is missing: `make results` measures it again", FileNotFoundError
    )
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # cut short, not UTF-8, or no object at all
        raise ValueError(
            f"{path} holds no whole results ({error}): `make results` measures them again"
        ) from error
    require(
        content.pop("sha256", None) == _digest(content),
        f"{path} is not as it was measured (its sha256 differs): run `{content.get('command')}`"
        " again",
    )
    return content


def _digest(content: dict) -> str:
    """Return the sha256 of the content in one canonical spelling."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
