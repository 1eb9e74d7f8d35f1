"""`mmtutor sentiment ...`: exit codes, what is said on which stream, and what is written."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from mmtutor.apps import actions
from mmtutor.apps.folder import FILES, SUMS
from mmtutor.cli import main

pytestmark = pytest.mark.usefixtures("small_models_on_one_thread")


@pytest.fixture(autouse=True)
def shared_cache(cache, monkeypatch):
    """Let the commands find the features that were encoded before."""
    monkeypatch.setenv("MMTUTOR_CACHE", str(cache.parent))


@pytest.fixture
def run(pictures, capsys):
    """Return a function: the words after `mmtutor sentiment` → exit code, stdout, stderr."""

    def run(action, *words, images=pictures):
        code = main(
            ["sentiment", action, *map(str, words), "--images", str(images), "--device", "cpu"]
        )
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def test_train_evaluate_predict(run, posts, trained, tmp_path):
    model = tmp_path / "model"
    code, out, err = run("train", posts, "--out", model, "--folds", 3, "--repeats", 2)
    assert (
        code == 0
        and "won with macro-F1" in out
        and f"{model}: the model; open" in out
        and err == ""
    )
    for name in (*FILES, SUMS):
        assert (model / name).read_bytes() == (trained / name).read_bytes(), "as from Python"
    code, out, err = run("evaluate", model, posts, "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert code == 0 and err == "" and set(scores) >= {"macro_f1", "accuracy", "n"}
    for key in ("macro_f1", "accuracy", "n"):
        low, high = scores[key]["interval"]
        assert low <= scores[key]["value"] <= high
    assert f"macro_f1 {scores['macro_f1']['value']:.3f} [" in out and "n 48" in out
    code, out, _ = run("evaluate", model, posts)
    assert code == 0 and json.loads(out) == scores
    code, out, _ = run("predict", model, posts)
    assert code == 0 and [json.loads(line)["row"] for line in out.splitlines()] == list(
        range(2, 50)
    )
    code, told, _ = run("predict", model, posts, "--out", tmp_path / "answers.jsonl")
    assert code == 0 and told == f"{tmp_path / 'answers.jsonl'}: 48 rows\n"
    assert (tmp_path / "answers.jsonl").read_text(encoding="utf-8") == out
    assert {p.name for p in tmp_path.iterdir()} == {"model", "scores.json", "answers.jsonl"}


def test_one_post(run, trained, pictures):
    code, out, _ = run("predict", trained, "--text", "a sad day", "--image", pictures / "bad-3.png")
    said = json.loads(out)
    assert code == 0 and said["label"] == "bad" and set(said["contributions"]) == {"text", "image"}
    assert json.loads(run("predict", trained, "--text", "a sad day")[1])["answered_by"] == "text"
    assert (
        json.loads(run("predict", trained, "--image", pictures / "bad-3.png")[1])["answered_by"]
        == "image"
    )


def test_a_call_without_a_post_or_with_both_kinds_is_wrong(run, trained, posts):
    for words in ((), (posts, "--text", "a"), ("--text", "")):
        code, out, err = run("predict", trained, *words)
        assert (code, out) == (2, "") and err.startswith(
            "mmtutor: name a table of posts, or one post with --text"
        )


def test_a_blank_text_is_no_post(run, trained):
    code, out, err = run("predict", trained, "--text", "  ")
    assert (code, out) == (1, "") and "neither a text nor a picture" in err


def test_columns_delimiter_and_encoding_can_be_named(run, trained, tmp_path):
    table = tmp_path / "posts.txt"
    table.write_bytes(
        "nr|tweet|file|mood\n7|a sad été|bad-3.png|bad\n8|great|good-3.png|good\n".encode("latin-1")
    )
    words = (
        "--text-column",
        "tweet",
        "--image-column",
        "file",
        "--label-column",
        "mood",
        "--id-column",
        "nr",
        "--delimiter",
        "|",
        "--encoding",
        "latin-1",
    )
    code, out, _ = run("predict", trained, table, *words)
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == ["7", "8"]
    assert run("evaluate", trained, table, *words)[0] == 0


@pytest.mark.parametrize("word", ["tab", "\\t", "\t"])
def test_a_tab_can_be_said(run, trained, tmp_path, word):
    (tmp_path / "posts.csv").write_text("text\tlabel\na\tbad\n")
    code, _, err = run("predict", trained, tmp_path / "posts.csv")
    assert code == 1 and "say --delimiter '\\t'" in err
    assert run("predict", trained, tmp_path / "posts.csv", "--delimiter", word)[0] == 0


def test_faulty_rows_are_told_on_stderr_and_the_rest_is_answered(run, trained, tmp_path):
    (tmp_path / "posts.csv").write_text("text,image,label\na,nothere.png,bad\nb,,bad\nc,,meh\n")
    code, out, err = run("predict", trained, tmp_path / "posts.csv")
    assert code == 0 and len(out.splitlines()) == 3
    assert err.startswith(
        "mmtutor: faulty rows were left out:\n1 × missing picture\n    row 2, column 'image'"
    )
    code, out, err = run("evaluate", trained, tmp_path / "posts.csv")
    assert code == 0 and json.loads(out)["n"]["value"] == 1
    assert (
        "1 × missing picture" in err
        and "1 × unknown label\n    row 4, column 'label': 'meh'" in err
    )


def test_strict_stops_and_writes_nothing(run, trained, tmp_path):
    (tmp_path / "posts.csv").write_text("text,image,label\na,,bad\nb,nothere.png,bad\n")
    before = {p.name for p in tmp_path.iterdir()}
    for words in (
        ("train", tmp_path / "posts.csv", "--out", tmp_path / "model"),
        ("evaluate", trained, tmp_path / "posts.csv", "--json", tmp_path / "scores.json"),
        ("predict", trained, tmp_path / "posts.csv", "--out", tmp_path / "answers.csv"),
        ("predict", trained, tmp_path / "posts.csv"),
    ):
        code, out, err = run(*words, "--strict")
        assert (code, out) == (
            1,
            "",
        ) and "row 3, column 'image': missing picture: nothere.png" in err
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.processes
def test_a_terminal_without_the_letter_gets_it_escaped(trained, tmp_path):
    """An error there would end a run whose answers are known."""
    (tmp_path / "posts.csv").write_text("id,text\nschön,a happy day\n", encoding="utf-8")
    call = [
        sys.executable,
        "-m",
        "mmtutor.cli",
        "sentiment",
        "predict",
        str(trained),
        str(tmp_path / "posts.csv"),
    ]
    ended = subprocess.run(
        call, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert json.loads(ended.stdout)["id"] == "schön"


WRONG = [
    (
        "a table that is not there",
        ("predict", "MODEL", "TMP/nothere.csv"),
        {},
        "nothere.csv does not exist",
    ),
    (
        "a folder as a table",
        ("predict", "MODEL", "TMP"),
        {},
        "is a folder: expected a table of posts",
    ),
    (
        "no folder of pictures",
        ("predict", "MODEL", "POSTS"),
        {"images": "nothere"},
        "the folder of pictures, nothere,",
    ),
    ("no model", ("predict", "TMP/nothere", "POSTS"), {}, "is no folder: expected a model"),
    (
        "a taken place",
        ("train", "POSTS", "--out", "MODEL"),
        {},
        "say --overwrite to replace a model",
    ),
    (
        "no parent",
        ("train", "POSTS", "--out", "TMP/a/model"),
        {},
        "is no folder that can be written to",
    ),
    (
        "no folder for scores",
        ("evaluate", "MODEL", "POSTS", "--json", "TMP/a/b.json"),
        {},
        "its folder does not exist",
    ),
    ("scores onto a folder", ("evaluate", "MODEL", "POSTS", "--json", "TMP"), {}, "it is a folder"),
    (
        "answers of no kind",
        ("predict", "MODEL", "POSTS", "--out", "TMP/a.xlsx"),
        {},
        "written as .jsonl or .csv",
    ),
    (
        "two delimiters",
        ("predict", "MODEL", "POSTS", "--delimiter", ";;"),
        {},
        "';;' is not one character",
    ),
    (
        "no such encoding",
        ("predict", "MODEL", "POSTS", "--encoding", "klingon"),
        {},
        "cannot be read as klingon",
    ),
    ("one fold", ("train", "POSTS", "--out", "TMP/m", "--folds", "1"), {}, "cut into 1 folds"),
    (
        "more folds than posts",
        ("train", "POSTS", "--out", "TMP/m", "--folds", "30"),
        {},
        "at least 30 are needed",
    ),
    (
        "a picture that is none",
        ("predict", "MODEL", "--image", "POSTS"),
        {},
        "corrupt picture: posts.csv",
    ),
]


@pytest.mark.parametrize(
    ("words", "more", "told"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_what_cannot_be_done_is_told_in_one_line(run, trained, posts, tmp_path, words, more, told):
    names = {"MODEL": str(trained), "POSTS": str(posts)}
    code, out, err = run(*(names.get(w, w.replace("TMP", str(tmp_path))) for w in words), **more)
    assert code == 1 and out == "" and err.startswith("mmtutor: ") and told in err
    assert not (tmp_path / "m").exists()


def test_ctrl_c_is_told(run, trained, posts, monkeypatch):
    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(actions, "_predict", stop)
    code, _, err = run("predict", trained, posts)
    assert code == 130 and "interrupted; features that were finished are kept" in err


def test_a_cache_that_cannot_be_written_is_told(run, trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file"))
    code, _, err = run("predict", trained, "--text", "never seen before")
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
    assert table.read_bytes() == before == link.read_bytes()
    assert {path.name for path in trained.iterdir()} == {*FILES, SUMS}


@pytest.mark.processes
@pytest.mark.parametrize("count", [1, 2000])
def test_a_reader_that_has_enough_is_no_error(trained, tmp_path, count):
    """Also where all that is said fits into the buffer that Python empties at its end."""
    table = tmp_path / "posts.csv"
    table.write_text("text\n" + "a happy day\n" * count)
    call = [sys.executable, "-m", "mmtutor.cli", "sentiment", "predict", str(trained), str(table)]
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(call, env=buffered, **pipes) as running:
        if count > 1:
            assert running.stdout.readline().startswith(b'{"row": 2')
        running.stdout.close()
        assert running.wait() == 0 and running.stderr.read() == b""


def test_overwrite_and_decision_reach_the_model(run, posts, tmp_path):
    model = tmp_path / "model"
    for words in ((), ("--overwrite", "--decision", "likeliest", "--seed", 3)):
        assert run("train", posts, "--out", model, "--folds", 2, "--repeats", 1, *words)[0] == 0
    assert (
        json.loads((model / "config.json").read_text(encoding="utf-8"))["decision"] == "likeliest"
    )
    report = json.loads((model / "report.json").read_text(encoding="utf-8"))
    assert report["settings"] == {"splits": 2, "repeats": 1, "seed": 3}


def test_help_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys; from mmtutor import cli\n"
        "try: cli.main(['sentiment', 'train', '--help'])\n"
        "finally: assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (
        done.returncode == 0
        and "--label-column" in done.stdout
        and "AssertionError" not in done.stderr
    )


def test_the_package_offers_its_functions_and_says_what_it_has():
    import mmtutor.apps as sentiment

    for name in sentiment.__all__:
        assert getattr(sentiment, name).__name__ == name
    with pytest.raises(AttributeError, match=r"no attribute 'learn'; it has Columns, .*train"):
        sentiment.learn  # noqa: B018
