"""`mmtutor train | evaluate | predict`: exit codes, what is said on which stream, and what is
written."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mmtutor.apps import commands
from mmtutor.apps.folder import FILES, SUMS
from mmtutor.cli import main

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")
CASES = ("--numbers", "age", "--categories", "sex,site", "--label", "verdict", "--group", "patient")


@pytest.fixture(autouse=True)
def shared_cache(cache, monkeypatch):
    """Let the commands find the features that were encoded before."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(cache.parent))


@pytest.fixture
def run(pictures, capsys):
    """Return a function: the words after `mmtutor` → exit code, stdout, stderr."""

    def run(action, *words, folder=pictures):
        code = main([action, *map(str, words), "--folder", str(folder), "--device", "cpu"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def started(*words, **more) -> subprocess.Popen:
    """Start `mmtutor` as a process of its own, with pipes."""
    call = [sys.executable, "-m", "mmtutor.cli", *map(str, words)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def lines_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def cases(tmp_path_factory, write):
    """A table of 120 patients' cases: the old are ill, more so with a spot on the leg."""
    rng, rows = np.random.default_rng(0), []
    for k in range(120):
        age, site, sex = int(rng.integers(20, 80)), ("arm", "leg")[k % 2], "fm"[k // 2 % 2]
        ill = age + 15 * (k % 2) + rng.normal(0, 8) > 60
        cells = {"age": age, "sex": sex, "site": site, "verdict": ("ill", "well")[not ill]}
        rows.append(cells | {"patient": k // 2})
    return write(tmp_path_factory.mktemp("cases") / "cases.csv", rows)


def test_train_evaluate_predict(run, posts, trained, tmp_path):
    model = tmp_path / "model"
    code, out, err = run("train", posts, "--out", model, "--folds", 3, "--repeats", 2)
    assert code == 0 and err == "" and "is chosen: macro-F1" in out
    assert out.endswith(f"{model}: open {model / 'report.html'} in a browser\n")
    for name in (*FILES, SUMS):
        assert (model / name).read_bytes() == (trained / name).read_bytes(), "as from Python"
    code, out, err = run("evaluate", model, posts, "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (code, err) == (0, "")
    for key in ("macro_f1", "accuracy", "n"):
        low, high = scores[key]["interval"]
        assert low <= scores[key]["value"] <= high
    assert json.loads(out) == {key: scores[key] for key in ("macro_f1", "accuracy", "n")}
    code, out, _ = run("evaluate", model, posts)
    assert code == 0 and json.loads(out) == scores
    code, out, _ = run("predict", model, posts)
    assert code == 0 and [answer["row"] for answer in lines_of(out)] == list(range(2, 50))
    code, told, _ = run("predict", model, posts, "--out", tmp_path / "answers.jsonl")
    assert code == 0 and told == f"{tmp_path / 'answers.jsonl'}: 48 rows\n"
    assert (tmp_path / "answers.jsonl").read_text(encoding="utf-8") == out
    assert {p.name for p in tmp_path.iterdir()} == {"model", "scores.json", "answers.jsonl"}


def test_a_table_of_cases_with_slices_and_a_positive_class(run, cases, tmp_path):
    model = tmp_path / "model"
    words = ("--slices", "age:40:60,sex", "--positive", "ill", "--folds", 3, "--repeats", 2)
    code, out, err = run("train", cases, "--out", model, *CASES, *words)
    assert (code, err) == (0, "")
    report = json.loads((model / "report.json").read_text(encoding="utf-8"))
    names = [row["slice"] for row in report["slices"]]
    assert names[0] == "all" and names[-2:] == ["sex f", "sex m"] and len(names) == 6
    everyone, *ages, women, men = report["slices"]
    assert everyone["n"] == 120 == women["n"] + men["n"] == sum(age["n"] for age in ages)
    assert everyone["positive"] == report["data"]["classes"]["ill"]
    assert "sensitivity" in everyone["scores"][report["full"]]
    assert report["data"]["groups"] == 60 and out.splitlines()[:-1] == report["words"]
    answers = tmp_path / "answers.csv"
    code, out, err = run("predict", model, cases, "--out", answers)
    assert (code, out, err) == (0, f"{answers}: 120 rows\n", "")
    with answers.open(encoding="utf-8", newline="") as file:
        said = list(csv.DictReader(file))
    assert [int(row["row"]) for row in said] == list(range(2, 122))
    columns = {"p(ill)", "p(well)", "from numbers", "from categories"}
    assert columns <= {*said[0]} and {row["label"] for row in said} == {"ill", "well"}
    code, out, _ = run("evaluate", model, cases, "--without", "categories")
    scores = json.loads(out)
    assert code == 0 and scores["answered_by"] == {"numbers": 120}
    code, out, _ = run("evaluate", model, cases, "--without", "categories,numbers")
    assert code == 1 and out == ""


def test_a_number_is_predicted_where_target_names_a_column(run, cases, tmp_path):
    model = tmp_path / "model"
    words = ("--categories", "sex,site,verdict", "--target", "age", "--folds", 3, "--repeats", 1)
    code, out, err = run("train", cases, "--out", model, *words)
    assert code == 0 and "is chosen: R²" in out and "not read: patient" in err
    code, out, _ = run("predict", model, cases)
    for answer in lines_of(out):
        low, high = answer["interval"]
        assert low < answer["label"] < high and "probabilities" not in answer
    code, out, _ = run("evaluate", model, cases, "--json", tmp_path / "scores.json")
    assert code == 0 and {*json.loads(out)} == {"r2", "mae", "n"}


def test_no_interval_of_an_f1_leaves_its_range(run, write, tmp_path):
    """Of twelve rows of noise, too."""
    rng = np.random.default_rng(1)
    rows = [{"a": f"{rng.normal():.3f}", "label": "ny"[k % 2]} for k in range(12)]
    table, model = write(tmp_path / "t.csv", rows), tmp_path / "model"
    code, *_ = run("train", table, "--out", model, "--numbers", "a", "--folds", 2, "--repeats", 1)
    assert code == 0
    report = json.loads((model / "report.json").read_text(encoding="utf-8"))
    low, high = report["methods"]["numbers"]["macro_f1"]["interval"]
    assert 0 <= low <= report["methods"]["numbers"]["macro_f1"]["value"] <= high <= 1
    assert high - low > 0.5, "so few rows say little"


def test_columns_delimiter_and_encoding_can_be_named(run, trained, tmp_path):
    table = tmp_path / "posts.txt"
    table.write_bytes(
        "nr|tweet|file|mood\n7|a sad été|bad-3.png|bad\n8|great|good-3.png|good\n".encode("latin-1")
    )
    columns = ("--text", "tweet", "--image", "file", "--label", "mood", "--id", "nr")
    words = (*columns, "--delimiter", "|", "--encoding", "latin-1")
    code, out, err = run("predict", trained, table, *words)
    assert (code, err) == (0, "") and [answer["id"] for answer in lines_of(out)] == ["7", "8"]
    assert run("evaluate", trained, table, *words)[0] == 0


@pytest.mark.parametrize("word", ["tab", "\\t", "\t"])
def test_a_tab_can_be_said(run, trained, tmp_path, word):
    (tmp_path / "posts.csv").write_text("text\tlabel\na\tbad\n")
    code, out, _ = run("predict", trained, tmp_path / "posts.csv", "--delimiter", word)
    assert code == 0 and len(lines_of(out)) == 1


def test_faulty_rows_are_told_on_stderr_and_the_rest_is_answered(run, trained, tmp_path):
    (tmp_path / "posts.csv").write_text("text,image,label\na,nothere.png,bad\nb,,bad\nc,,meh\n")
    code, out, err = run("predict", trained, tmp_path / "posts.csv")
    assert code == 0 and len(lines_of(out)) == 3
    told = "mmtutor: faulty rows were left out:\n1 × missing picture\n    row 2, column 'image'"
    assert err.startswith(told)
    code, out, err = run("evaluate", trained, tmp_path / "posts.csv")
    assert code == 0 and json.loads(out)["n"]["value"] == 1 and "1 × missing picture" in err
    assert "1 × unknown label\n    row 4, column 'label': 'meh'" in err


def test_remarks_are_told_on_stderr_by_each_command(run, posts, tmp_path):
    """Columns that are not read, an encoding that was found."""
    cells = posts.read_text(encoding="utf-8").replace("lovely", "schöne").splitlines()
    lines = [f"{line},{('note', 'x')[k > 0]}" for k, line in enumerate(cells)]
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("cp1252"))
    model = tmp_path / "model"
    for words in (
        ("train", tmp_path / "t.csv", "--out", model, "--folds", 2, "--repeats", 1),
        ("evaluate", model, tmp_path / "t.csv"),
        ("predict", model, tmp_path / "t.csv"),
    ):
        code, out, err = run(*words)
        assert code == 0 and "mmtutor: Columns not read: note." in err and "cp1252" in err
        assert words[0] != "predict" or len(lines_of(out)) == 48


def test_strict_stops_and_writes_nothing(run, trained, tmp_path):
    (tmp_path / "posts.csv").write_text("text,image,label\na,,bad\nb,nothere.png,bad\nc,,good\n")
    before = {p.name for p in tmp_path.iterdir()}
    for words in (
        ("train", tmp_path / "posts.csv", "--out", tmp_path / "model"),
        ("evaluate", trained, tmp_path / "posts.csv", "--json", tmp_path / "scores.json"),
        ("predict", trained, tmp_path / "posts.csv", "--out", tmp_path / "answers.csv"),
        ("predict", trained, tmp_path / "posts.csv"),
    ):
        code, out, err = run(*words, "--strict")
        assert (code, out) == (1, "")
        assert "row 3, column 'image': missing picture: nothere.png" in err
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.processes
def test_standard_input_is_a_table_and_an_ascii_terminal_gets_json(trained, tmp_path):
    """An error at a letter that the terminal lacks would end a run whose answers are known."""
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    with started("predict", trained, "-", "--id", "id", stdin=subprocess.PIPE, env=ascii_only) as p:
        out, err = p.communicate("id,text\nschön 😀,a happy day\n".encode())
    assert p.returncode == 0, err.decode()
    assert json.loads(out)["id"] == "schön 😀" and out.isascii()


WRONG = {
    "a table that is not there": (
        ("predict", "MODEL", "TMP/nothere.csv"),
        {},
        r"nothere\.csv",
    ),
    "a folder as a table": (("predict", "MODEL", "TMP"), {}, r"Is a directory; expected a table"),
    "no folder of pictures": (
        ("predict", "MODEL", "POSTS"),
        {"folder": "nothere"},
        "the folder of pictures and sounds, nothere,",
    ),
    "no model": (("predict", "TMP/nothere", "POSTS"), {}, "is no folder: expected a model"),
    "a taken place": (("train", "POSTS", "--out", "MODEL"), {}, "or say --overwrite"),
    "no parent": (("train", "POSTS", "--out", "TMP/a/model"), {}, "cannot be made: look at"),
    "no folder for scores": (
        ("evaluate", "MODEL", "POSTS", "--json", "TMP/a/b.json"),
        {},
        "its folder does not exist",
    ),
    "scores onto a folder": (("evaluate", "MODEL", "POSTS", "--json", "TMP"), {}, "reads|folder"),
    "answers of no kind": (
        ("predict", "MODEL", "POSTS", "--out", "TMP/a.xlsx"),
        {},
        r"written as \.jsonl or \.csv",
    ),
    "two delimiters": (
        ("predict", "MODEL", "POSTS", "--delimiter", ";;"),
        {},
        "';;' is not one character",
    ),
    "no such encoding": (
        ("predict", "MODEL", "POSTS", "--encoding", "klingon"),
        {},
        "cannot be read: unknown encoding: klingon",
    ),
    "one fold": (("train", "POSTS", "--out", "TMP/m", "--folds", "1"), {}, "folds"),
    "more folds than posts": (
        ("train", "POSTS", "--out", "TMP/m", "--folds", "30"),
        {},
        "at least 30 are needed",
    ),
    "no such column": (
        ("train", "POSTS", "--out", "TMP/m", "--group", "authors"),
        {},
        r"no column 'authors'.*\['text', 'image', 'label'\]",
    ),
    "no such slice": (
        ("train", "POSTS", "--out", "TMP/m", "--slices", "age:40:60"),
        {},
        "no column 'age'",
    ),
    "words as numbers": (
        ("train", "POSTS", "--out", "TMP/m", "--numbers", "text"),
        {},
        "48 × not a number",
    ),
    "a target of words": (
        ("train", "POSTS", "--out", "TMP/m", "--target", "label"),
        {},
        "48 × not a number",
    ),
}


@pytest.mark.parametrize(("words", "more", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_told(run, trained, posts, tmp_path, words, more, told):
    names = {"MODEL": str(trained), "POSTS": str(posts)}
    code, out, err = run(*(names.get(w, w.replace("TMP", str(tmp_path))) for w in words), **more)
    assert (code, out) == (1, "") and err.startswith("mmtutor: ")
    assert re.search(told, err), err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("train", "POSTS", "--out", "TMP/m", "--positive", "ill"),
        (
            "train",
            "CASES",
            "--out",
            "TMP/m",
            "--categories",
            "sex,site",
            "--target",
            "age",
            "--positive",
            "ill",
        ),
        ("evaluate", "MODEL", "POSTS", "--without", "sound"),
        ("predict", "MODEL", "POSTS", "--without", "sound"),
    ],
    ids=lambda words: f"{words[0]} {words[-4]} {words[-2]}",
)
def test_a_name_that_is_not_known_is_told(run, trained, posts, cases, tmp_path, words):
    names = {"MODEL": str(trained), "POSTS": str(posts), "CASES": str(cases)}
    code, out, err = run(*(names.get(w, w.replace("TMP", str(tmp_path))) for w in words))
    assert (code, out) == (1, "") and err.startswith("mmtutor: ") and words[-1] in err


@pytest.mark.parametrize(
    "words",
    [
        ("--categories", "sex,verdict", "--label", "verdict", "--group", "patient"),
        ("--text", "verdict", "--label", "verdict", "--group", "patient"),
        ("--numbers", "age", "--categories", "sex", "--target", "age"),
    ],
    ids=lambda words: words[0],
)
def test_a_column_that_is_to_be_told_cannot_be_read(run, cases, tmp_path, words):
    model = tmp_path / "m"
    code, *_ = run("train", cases, "--out", model, *words, "--folds", 2, "--repeats", 1)
    assert code == 1 and not model.exists()


def test_ends_of_a_slice_that_are_no_numbers_are_told_before_any_work(
    run, cases, tmp_path, monkeypatch
):
    monkeypatch.setattr(commands.gathering, "gather", lambda *a: pytest.fail("rows were encoded"))
    code, _, err = run("train", cases, "--out", tmp_path / "m", *CASES, "--slices", "age:x:60")
    assert code == 1 and "age:x:60" in err


def test_a_refusal_tells_what_was_lost(run, posts, tmp_path):
    """In a wrong folder no picture is found: that is why too few rows are left."""
    code, out, err = run("train", posts, "--out", tmp_path / "m", folder=tmp_path)
    assert (code, out) == (1, "") and "48 × missing picture" in err
    assert [p.name for p in tmp_path.iterdir()] == []


def test_ctrl_c_is_told(run, trained, posts, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(commands, "predict", stop)
    code, _, err = run("predict", trained, posts)
    assert code == 130 and "interrupted; features that were finished are kept" in err


@pytest.mark.processes
@pytest.mark.parametrize("module", ["accelerate", "torch", "mmtutor.apps.folder"])
def test_ctrl_c_in_the_first_seconds_is_told_too(module):
    """While libraries are loaded: SIGINT as one of them begins."""
    script = (
        "import sys, signal\n"
        "class Stop:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from mmtutor.cli import main\n"
        "sys.exit(main(['predict', 'model', 'table.csv']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130 and done.stdout == "", done.stderr
    assert done.stderr.startswith("mmtutor: interrupted") and "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_is_told(run, trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "new.csv").write_text("text\nnever seen before\n")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file"))
    code, _, err = run("predict", trained, tmp_path / "new.csv")
    assert code == 1 and "features cannot be stored in" in err and "MMTUTOR_CACHE" in err


def test_an_output_never_takes_the_place_of_what_is_read(run, trained, posts, tmp_path):
    """The table itself, by any of its names, and whatever lies in the model's folder."""
    table, link = tmp_path / "in.csv", tmp_path / "link.csv"
    shutil.copy(posts, table)
    link.hardlink_to(table)
    (tmp_path / "way").symlink_to(tmp_path)
    before = table.read_bytes()
    for words in (
        ("predict", trained, table, "--out", table),
        ("predict", trained, table, "--out", link),
        ("predict", trained, link, "--out", tmp_path / "way" / "in.csv"),
        ("predict", trained, table, "--out", trained / "answers.csv"),
        ("evaluate", trained, table, "--json", table),
        ("evaluate", trained, table, "--json", trained / "report.json"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (1, "") and "which this command reads" in err
    code, out, err = run("train", table, "--out", table, "--overwrite")
    assert (code, out) == (1, "") and "nothing was overwritten" in err
    assert table.read_bytes() == before == link.read_bytes()
    assert {path.name for path in trained.iterdir()} == {*FILES, SUMS}


@pytest.mark.processes
@pytest.mark.parametrize("count", [1, 2000])
def test_a_reader_that_has_enough_is_no_error(trained, tmp_path, count):
    """Also where all that is said fits into the buffer that Python empties at its end."""
    table = tmp_path / "posts.csv"
    table.write_text("text\n" + "a happy day\n" * count)
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with started("predict", trained, table, env=buffered) as running:
        if count > 1:
            assert running.stdout.readline().startswith(b'{"row": 2')
        running.stdout.close()
        told = running.stderr.read()
        assert running.wait() == 0 and b"Error" not in told and b"Traceback" not in told


def test_overwrite_decision_and_seed_reach_the_model(run, posts, tmp_path):
    model = tmp_path / "model"
    for words in ((), ("--overwrite", "--decision", "likeliest", "--seed", 3)):
        assert run("train", posts, "--out", model, "--folds", 2, "--repeats", 1, *words)[0] == 0
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    report = json.loads((model / "report.json").read_text(encoding="utf-8"))
    settings = {"splits": 2, "repeats": 1, "seed": 3, "decision": "likeliest"}
    assert config["decision"] == "likeliest" and report["settings"] == settings


def test_other_options_reach_the_reading(run, posts, trained, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("text,image,label\nkeine,,bad\nso,good-1.png,good\n")
    code, out, _ = run("predict", trained, table, "--missing", "keine")
    kinds = [answer.get("problem", {}).get("kind") for answer in lines_of(out)]
    assert code == 0 and kinds == ["empty row", None]
    _, out, _ = run("predict", trained, table, "--max-megabytes", "0.0001")
    assert lines_of(out)[1]["problem"]["kind"] == "picture too large"
    words = ("--text-encoder", "characters", "--folds", 2, "--repeats", 1)
    assert run("train", posts, "--out", tmp_path / "m", *words)[0] == 0
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert config["encoders"]["text"]["name"] == "characters"


def test_help_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys; from mmtutor import cli\n"
        "try: cli.main(['train', '--help'])\n"
        "finally: assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "--categories" in done.stdout
    assert "AssertionError" not in done.stderr


def test_the_package_offers_its_functions_and_says_what_it_has():
    import mmtutor.apps as package

    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match=r"no attribute 'learn'; it has .*Roles.*train"):
        package.learn  # noqa: B018
