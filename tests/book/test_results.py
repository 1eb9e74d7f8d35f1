"""Stored results: as they were measured, and their counted operations counted again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmtutor.original_recipe import OriginalRecipe, flops_per_sample, meta_inputs
from mmtutor.report import load_results

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
RESULTS = sorted(BOOK.glob("*/results/*.json"))
STUDIES = sorted(BOOK.glob("*/study.py"))


def change_a_digit(value):
    """Return the same nest of values with one number in it moved a little."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if (changed := change_a_digit(inner)) != inner:
                return value | {key: changed}
    if isinstance(value, list):
        changed = [change_a_digit(inner) for inner in value]
        place = next((n for n, new in enumerate(changed) if new != value[n]), None)
        return value if place is None else [*value[:place], changed[place], *value[place + 1 :]]
    return value * 1.01 if isinstance(value, int | float) and value else value


def test_there_are_results():
    assert RESULTS, "book/ holds no results file, so none was tested"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.relative_to(BOOK).as_posix())
def test_results_are_as_measured_and_an_altered_copy_is_refused(path, tmp_path):
    assert load_results(path)["rows"]
    content = json.loads(path.read_text(encoding="utf-8"))
    altered = tmp_path / path.name
    altered.write_text(
        json.dumps(content | {"rows": change_a_digit(content["rows"])}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="not as it was measured"):
        load_results(altered)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.relative_to(BOOK).as_posix())
def test_results_name_the_study_of_their_own_chapter(path):
    python, study, *part = load_results(path)["command"].split()
    assert python == "python" and ROOT / study == path.parents[1] / "study.py"
    assert (ROOT / study).exists() and part in ([], [path.stem])


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.parent.name)
def test_a_study_runs_from_the_root_and_refuses_an_unknown_part(study):
    """Names of all files that it writes are named; nothing is measured."""
    written = sorted(path.stem for path in RESULTS if path.parents[1] == study.parent)
    command = [sys.executable, str(study.relative_to(ROOT)), "nonsense"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert answer.returncode == 1 and "unknown part 'nonsense'" in answer.stderr
    known = answer.stderr.split("expected")[1]
    assert len(written) == 1 or all(f"'{name}'" in known for name in written)


def test_operations_of_the_original_recipe_and_of_the_head_are_counted_anew():
    """Three classes, 224 px, 48 tokens; the head sees 1280 + 384 cached features."""
    rows = load_results(BOOK / "01_first_fusion" / "results" / "original_recipe.json")["rows"]
    with torch.device("meta"):
        recipe, head = OriginalRecipe(3), nn.Linear(1280 + 384, 3)
    assert flops_per_sample(recipe, *meta_inputs(4)) == rows["recipe"]["flops_per_sample"]
    assert (
        flops_per_sample(head, torch.empty(4, 1280 + 384, device="meta"))
        == rows["head"]["flops_per_sample"]
    )
