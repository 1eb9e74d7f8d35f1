"""Whole tables through the tool: README's lines as typed, another language, every fault at once,
five modalities."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
import soundfile
from openpyxl import Workbook
from PIL import Image

from mmtutor import cli
from mmtutor.apps import Options, Roles, predict, train
from mmtutor.apps.faults import Faults
from mmtutor.encoders import EncoderUnavailable
from tests import chinese

README = Path(__file__).resolve().parents[4] / "README.md"
pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def letters(k: int) -> str:
    """Return two letters for a number: numbers do not tell reposts apart."""
    return chr(97 + k // 26) + chr(97 + k % 26)


def square(path: Path, colour: tuple[int, int, int]) -> None:
    Image.new("RGB", (24, 24), colour).save(path)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """The files that README's lines name: posts, cases and flats, 60 rows each."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    posts, cases, flats = [], [], []
    for k in range(60):
        good = k % 2
        shade = int(90 + 120 * good + rng.integers(0, 30))
        square(folder / "pictures" / f"{k}.png", (shade, k, 255 - shade))
        words = ("lovely", "sunny") if good else ("awful", "gloomy")
        posts.append(
            {
                "text": f"A {words[k // 2 % 2]} day, said {letters(k)}",
                "image": f"{k}.png",
                "label": good,
            }
        )
        age = int(rng.integers(20, 80))
        cases.append([f"{k}.png", age, "fm"[k // 2 % 2], ["arm", "leg"][k % 3 % 2], good, k // 2])
        flats.append(
            {
                "advert": f"flat {letters(k)} with a view",
                "rooms": k % 5 + 1,
                "metres": 20.0 * (k % 5 + 1) + k,
            }
            | {"rent": 300.0 * (k % 5 + 1) + rng.normal(0, 20)}
        )
    write(folder / "posts.csv", posts)
    write(folder / "new.csv", posts[:20])
    sheet = (book := Workbook()).active
    for row in [["photo", "age", "sex", "site", "verdict", "patient"], *cases]:
        sheet.append(row)
    book.save(folder / "cases.xlsx")
    polars.DataFrame(flats).write_parquet(folder / "flats.parquet")
    return folder


def test_every_line_of_readme_runs_as_typed(tables, monkeypatch, capsys):
    section = README.read_text(encoding="utf-8").partition("## A table of your own")[2]
    lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    assert [c[1] for c in commands] == ["train"] * 3 + ["evaluate", "predict", "demo"]
    monkeypatch.chdir(tables)
    for command in commands[:-1]:  # the demo has tests of its own
        assert command[0] == "mmtutor" and cli.main(command[1:]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "faulty" not in said.err and said.out.count("is chosen") == 3
    scores = json.loads((tables / "scores.json").read_text(encoding="utf-8"))
    assert scores["n"]["value"] == 20 and scores["accuracy"]["value"] > 0.8
    lines = (tables / "answers.csv").read_text(encoding="utf-8").splitlines()
    answers = list(csv.DictReader(lines))
    assert [int(row["row"]) for row in answers] == list(range(2, 22))
    cases = json.loads((tables / "cases" / "report.json").read_text(encoding="utf-8"))
    names = [row["slice"] for row in cases["slices"]]
    assert names[0] == "all" and {"age below 40", "age from 60", "sex f", "sex m"} <= {*names}
    flats = json.loads((tables / "flats" / "report.json").read_text(encoding="utf-8"))
    assert flats["score"] == "r2" and flats["methods"][flats["winner"]]["r2"]["value"] > 0.9
    assert "numbers" in flats["winner"] or flats["winner"] in ("early", "late")


def test_chinese_posts_are_read_by_their_characters(tmp_path):
    """By topic: a thing that was never seen is praised or blamed in words that were."""
    posts = chinese.posts()
    assert len(posts) == 200 and len({post["text"] for post in posts}) == 200
    options = Options(text_encoder="characters", progress=False, cache=tmp_path / "cache")
    report = train(posts, tmp_path / "model", options, repeats=1)
    assert report["methods"]["text"]["macro_f1"]["value"] > 0.95
    assert not report["problems"]["total"] and not report["problems"]["remarks"]
    answers = predict(tmp_path / "model", [{"text": "新来的咖啡店让人特别满意。"}], options)
    assert next(answers)["label"] == "好评"


def test_chinese_posts_through_the_english_encoder_are_told(tmp_path):
    report = train(
        chinese.posts(), tmp_path / "model", Options(progress=False), splits=2, repeats=1
    )
    (told,) = report["problems"]["remarks"]
    assert re.fullmatch(r"\d\d% of the word pieces are unknown .*--text-encoder characters\.", told)


def test_a_table_with_every_fault_at_once(tmp_path):
    """Windows-1252, an unclosed mark, too many cells, a missing and a corrupt picture, a path that
    leaves, no number, a duplicated id, no label, a control character: each costs its own row."""
    (tmp_path / "pictures").mkdir()
    lines = ["id,text,image,age,label,unread"]
    for k in range(40):
        good = k % 2
        square(tmp_path / "pictures" / f"{k}.png", (40 + 150 * good, 90, k))
        mood = "süß und schön" if good else "öde und trüb"
        lines.append(
            f"{k},Der Tag war {mood} {letters(k)},{k}.png,{20 + k},{('schlecht', 'gut')[good]},x"
        )
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG no picture")
    lines += [
        'q,"Nie wieder,1.png,30,gut,x',
        "c,a, comma,too many.png,30,gut,x,y",
        "m,ein Text,nowhere.png,30,gut,x",
        "b,ein Text,broken.png,30,gut,x",
        "o,ein Text,../outside.png,30,gut,x",
        "n,ein Text,2.png,thirty,gut,x",
        "0,ein Text,3.png,30,gut,x",
        "l,ein Text,4.png,30,N/A,x",
        "z,ein\x00Text,5.png,30,gut,x",
        "e,,,,gut,x",
    ]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    roles, faults = Roles(numbers=("age",)), Faults()
    options = Options(roles, tmp_path / "pictures", text_encoder="characters", progress=False)
    report = train(tmp_path / "t.csv", tmp_path / "m", options, splits=2, repeats=1, faults=faults)
    assert report["data"]["classes"] == {"gut": 20, "schlecht": 20}
    assert report["data"]["rows"] + faults.counts.total() == len(lines) - 1
    assert sorted(p.row for p in faults.first) == list(range(42, 52))
    assert faults.counts == {
        "broken quoting": 1,
        "wrong number of cells": 1,
        "missing picture": 1,
        "unreadable picture": 1,
        "path leaves the folder": 1,
        "not a number": 1,
        "duplicated id": 1,
        "missing label": 1,
        "not a text": 1,
        "empty row": 1,
    }
    told = " ".join(report["problems"]["remarks"])
    assert "cp1252" in told and "--encoding" in told and "unread" in told


def test_five_modalities_with_gaps_in_each(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for k in range(80):
        good, tone = k % 2, np.sin(np.arange(4000) * (0.2 if k % 2 else 0.9))
        square(tmp_path / f"{k}.png", (60 + 100 * good, k, 80))
        soundfile.write(tmp_path / f"{k}.wav", 0.3 * tone + rng.normal(0, 0.02, 4000), 8000)
        cells = {
            "text": ("sad", "happy")[good] + f" {letters(k)}",
            "image": f"{k}.png",
            "audio": f"{k}.wav",
            "age": str(good + rng.normal(0, 0.3)),
            "site": ("arm", "leg")[good],
        }
        gaps = [m for j, m in enumerate(cells) if (k // 2) % 8 == j]
        rows.append(cells | dict.fromkeys(gaps, "") | {"label": ("bad", "good")[good]})
    roles = Roles(numbers=("age",), categories=("site",))
    options = Options(roles, tmp_path, text_encoder="characters", progress=False)
    report = train(rows, tmp_path / "model", options, splits=3, repeats=1)
    assert report["data"]["with"] == {
        "text": 70, "image": 70, "audio": 70, "numbers": 70, "categories": 70
    }  # fmt: skip
    assert report["data"]["compared_on"] == 30 and len(report["worth"]) == 5
    asked = [{"age": "1.0"}, {"text": "happy"}, {"audio": "1.wav", "site": "leg"}, {"site": "toe"}]
    said = list(predict(tmp_path / "model", asked, options))
    assert [answer["label"] for answer in said[:3]] == ["good"] * 3
    assert said[2]["answered_by"] == "audio + categories"


def test_an_absent_library_is_told(tmp_path, monkeypatch):
    write(tmp_path / "t.csv", [{"audio": "a.wav", "label": k % 2} for k in range(20)])
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 8000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(EncoderUnavailable, match=r"mmtutor\[tables\]"):
        train(tmp_path / "t.csv", tmp_path / "model", Options(progress=False))
