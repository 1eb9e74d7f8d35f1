"""train, evaluate, predict from Python: real encoders on 48 small posts, numbers on 90 flats."""

import json
from collections import Counter
from dataclasses import replace
from types import GeneratorType

import numpy as np
import pytest
from PIL import Image

from mmtutor.apps import commands
from mmtutor.apps.commands import Options, evaluate, predict, train
from mmtutor.apps.faults import Faults, TableUnusable
from mmtutor.apps.folder import FILES, SUMS, ModelUnusable, load
from mmtutor.apps.rows import Roles
from mmtutor.encoders import TextEncoder
from mmtutor.evaluation import macro_f1

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


QUIET = Options(device="cpu", progress=False)


def answers(model, table, options, **more) -> list[dict]:
    return list(predict(model, table, options, **more))


def bare(said: list[dict]) -> list[dict]:
    """Answers without the numbers of their rows: a file has a header, records have none."""
    return [{k: v for k, v in each.items() if k != "row"} for each in said]


def counted(words) -> dict[str, int]:
    return dict(Counter(words))


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    """Flats: a price of metres, age and site, with noise."""
    rng, rows = np.random.default_rng(0), []
    for k in range(90):
        metres, age, site = rng.uniform(20, 100), rng.integers(1, 60), k % 3
        price = 10 * metres - 5 * age + (0, 90, -90)[site] + rng.normal(0, 40)
        cells = {"metres": f"{metres:.2f}", "age": str(age), "site": ("sea", "hill", "road")[site]}
        rows.append(cells | {"price": f"{price:.2f}"})
    return rows


@pytest.fixture(scope="module")
def numbers_model(records, tmp_path_factory):
    """A model of numbers and categories that tells a number."""
    out = tmp_path_factory.mktemp("flats") / "model"
    roles = Roles(numbers=("metres", "age"), categories=("site",), target="price")
    train(records, out, replace(QUIET, roles=roles), splits=5, repeats=2)
    return out


def test_a_trained_model_knows_its_posts(trained, posts, options, rows):
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert (
        report["data"]["classes"] == {"bad": 24, "good": 24} and report["data"]["compared_on"] == 48
    )
    assert report["methods"]["image"]["macro_f1"]["value"] > 0.9, "green and red are told apart"
    said = answers(trained, posts, options)
    assert [a["row"] for a in said] == list(range(2, 50))
    right = sum(a["label"] == row["label"] for a, row in zip(said, rows, strict=True))
    assert right >= 46
    for a in said:
        assert sum(a["probabilities"].values()) == pytest.approx(1, abs=1e-5) and list(
            a["probabilities"]
        ) == [
            "bad",
            "good",
        ]
        gain = a["probabilities"][a["label"]] - 0.5
        assert sum(a["contributions"].values()) == pytest.approx(gain, abs=1e-5)
        assert a["answered_by"] == " + ".join(load(trained)[0].method.reads)


def test_equal_runs_give_equal_bytes_and_another_seed_another_report(
    trained, posts, options, tmp_path
):
    again, other = tmp_path / "again", tmp_path / "other"
    train(posts, again, options, splits=3, repeats=2)
    train(posts, other, options, splits=3, repeats=2, seed=1)
    for name in (*FILES, SUMS):
        assert (again / name).read_bytes() == (trained / name).read_bytes(), name
    assert (other / "report.json").read_bytes() != (trained / "report.json").read_bytes()


def test_no_file_of_a_model_tells_where_it_was_made(trained, pictures, posts):
    for name in FILES:
        content = (trained / name).read_bytes()
        for place in (pictures, posts.parent, trained):
            assert str(place).encode() not in content, name


def test_posts_of_one_modality_or_none_are_answered_by_what_there_is(
    trained, options, write, tmp_path
):
    table = [
        {"id": "a", "text": "a lovely day", "image": ""},
        {"id": "b", "text": "", "image": "bad-3.png"},
        {"id": "c", "text": "", "image": ""},
        {"id": "d", "text": "words", "image": "nothere.png"},
        {"id": "e", "text": "a sad day", "image": "bad-4.png"},
        {"id": "a", "text": "again", "image": ""},
    ]
    faults = Faults()
    known = replace(options, roles=Roles(id="id"))
    said = answers(trained, write(tmp_path / "posts.csv", table), known, faults=faults)
    assert [a["row"] for a in said] == [2, 3, 4, 5, 6, 7]
    assert [a.get("answered_by") for a in said][:4] == ["text", "image", None, None]
    assert [a.get("id") for a in said] == ["a", "b", None, None, "e", None]
    assert said[0]["contributions"]["image"] == 0 == said[1]["contributions"]["text"]
    assert [a["problem"]["kind"] for a in said if "problem" in a] == [
        "empty row",
        "missing picture",
        "duplicated id",
    ]
    assert said[2]["label"] is None and faults.counts == {
        "empty row": 1,
        "missing picture": 1,
        "duplicated id": 1,
    }
    assert said[1]["label"] == "bad"


def test_predict_is_a_stream(trained, options, write, tmp_path, rows, monkeypatch):
    """The first part is answered before the second is read, in which a strict run stops."""
    monkeypatch.setattr("mmtutor.apps.encoding.CHUNK", 4)
    table = write(tmp_path / "posts.csv", [*rows[:6], {"text": "", "image": "", "label": ""}])
    stream = predict(trained, table, replace(options, strict=True))
    assert isinstance(stream, GeneratorType)
    assert [next(stream)["row"] for _ in range(4)] == [2, 3, 4, 5]
    with pytest.raises(TableUnusable, match="row 8, column 'text': empty row"):
        next(stream)


def test_chunks_do_not_change_answers(trained, posts, options, monkeypatch):
    whole = answers(trained, posts, options)
    monkeypatch.setattr("mmtutor.apps.encoding.CHUNK", 5)
    assert answers(trained, posts, options) == whole


def test_evaluation_scores_the_answers_that_prediction_gives(
    trained, posts, options, rows, write, tmp_path
):
    wrong = [{**row, "label": row["label"] if i % 3 else "good"} for i, row in enumerate(rows)]
    wrong[4]["image"], wrong[5]["text"] = "", ""
    table = write(tmp_path / "posts.csv", wrong)
    found = evaluate(trained, table, options)
    said = answers(trained, table, options)
    y = [("bad", "good").index(row["label"]) for row in wrong]
    guess = [("bad", "good").index(a["label"]) for a in said]
    assert found["macro_f1"]["value"] == pytest.approx(macro_f1(guess, y))
    assert found["accuracy"]["value"] == pytest.approx(
        sum(g == t for g, t in zip(guess, y, strict=True)) / 48
    )
    assert found["n"] == {"value": 48, "interval": [48, 48]}
    assert found["answered_by"] == counted(a["answered_by"] for a in said)
    low, high = found["accuracy"]["interval"]
    assert low < found["accuracy"]["value"] < high
    assert found["classes"] == ["bad", "good"] and found["problems"]["total"] == 0


def test_evaluation_names_what_it_cannot_judge_on(trained, options, rows, write, tmp_path):
    table = [
        *rows[:6],
        {**rows[6], "label": "meh"},
        {**rows[7], "label": ""},
        {**rows[8], "image": "nothere.png"},
    ]
    path = write(tmp_path / "posts.csv", table)
    found = evaluate(trained, path, options)
    assert found["n"]["value"] == 6
    assert [(p["row"], p["column"], p["kind"]) for p in found["problems"]["first"]] == [
        (8, "label", "unknown label"),
        (9, "label", "missing label"),
        (10, "image", "missing picture"),
    ]
    assert found["problems"]["first"][0]["detail"] == "'meh'; the model knows bad, good"
    with pytest.raises(TableUnusable, match="row 8, column 'label': unknown label: 'meh'"):
        evaluate(trained, path, replace(options, strict=True))
    with pytest.raises(TableUnusable, match=r"holds no row to judge on\.\n1 × unknown label"):
        evaluate(trained, write(tmp_path / "posts.csv", table[6:7]), options)
    with pytest.raises(TableUnusable, match="has no column 'label'"):
        evaluate(trained, write(tmp_path / "posts.csv", [{"text": "a"}]), options)


def test_reposts_are_one_group_when_scores_get_their_interval(
    trained, options, rows, write, tmp_path
):
    """The same two pictures ten times each: two groups, so the interval reaches from one's score to
    the other's."""
    table = [{"image": "good-0.png", "label": "good"}, {"image": "bad-0.png", "label": "good"}] * 10
    found = evaluate(trained, write(tmp_path / "posts.csv", table), options)
    assert found["accuracy"]["value"] == 0.5 and found["accuracy"]["interval"] == [0, 1]
    texts = [
        {"text": t, "label": "good"}
        for t in ("A happy day!", "RT @x a happy day", "a sad day", "@me a SAD day")
    ]
    found = evaluate(trained, write(tmp_path / "posts.csv", texts * 5), options)
    assert found["accuracy"] == {"value": 0.5, "interval": [0, 1], "level": 0.95}


def test_a_record_is_answered_as_a_table_of_one(trained, options, write, tmp_path):
    post = {"text": "a sad day", "image": "bad-3.png"}
    said = answers(trained, write(tmp_path / "posts.csv", [post]), options)
    assert said[0].pop("row") == 2  # a header is row 1
    assert answers(trained, [post], options) == [{"row": 1, **said[0]}]
    assert answers(trained, [{"text": "a sad day"}], options)[0]["answered_by"] == "text"
    assert answers(trained, [{"image": "bad-3.png"}], options)[0]["answered_by"] == "image"


def test_a_record_that_cannot_be_answered_is_told(trained, options, pictures, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    told = [
        ({"text": "  "}, "empty row"),
        ({"text": "a", "image": "nothere.png"}, "missing picture"),
        ({"text": "a", "image": "../x.png"}, "path leaves the folder"),
        ({"text": "a", "image": "bad.png"}, "unreadable picture"),
    ]
    for record, kind in told:
        (said,) = answers(trained, [record], replace(options, folder=tmp_path))
        assert said["label"] is None and said["problem"]["kind"] == kind
    (said,) = answers(trained, [{"text": "a", "image": "bad-3.png"}], replace(options, folder=None))
    assert said["problem"]["kind"] == "no folder of pictures"


def test_a_model_without_pictures_answers_texts_and_refuses_what_it_cannot_read(text_only, options):
    table = [{"text": "a happy day", "image": ""}, {"text": "", "image": "good-1.png"}]
    faults = Faults()
    said = answers(text_only, table, options, faults=faults)
    assert [a.get("answered_by") for a in said] == ["text", None]
    assert faults.counts == {"empty row": 1} and "Columns not read: image." in faults.remarks
    with pytest.raises(TableUnusable, match="text"):
        answers(text_only, [{"image": "good-1.png"}], options)
    with pytest.raises(ModelUnusable, match="was trained with the encoders"):
        answers(text_only, table, replace(options, roles=Roles(image="image")))


@pytest.mark.parametrize(("m", "other"), [("image", "text"), ("text", "image")])
def test_a_modality_that_is_taken_as_absent_says_nothing(trained, posts, options, rows, m, other):
    """The same answers as where its cells are empty; rows that have nothing else are named."""
    blind = answers(trained, [row | {m: ""} for row in rows], options)
    without = replace(options, without=(m,))
    assert bare(answers(trained, posts, without)) == bare(blind)
    (said,) = answers(trained, [{other: "", m: rows[0][m]}], without)
    assert said["problem"]["kind"] == "unknown modality"
    assert said["problem"]["detail"] == f"the model reads {other}, and this row has none of it"
    found = evaluate(trained, posts, without)
    assert found["answered_by"] == {other: 48}
    right = sum(a["label"] == row["label"] for a, row in zip(blind, rows, strict=True))
    assert found["accuracy"]["value"] == pytest.approx(right / 48)


def test_a_modality_to_leave_out_must_be_one_of_the_model(trained, posts, options):
    with pytest.raises((KeyError, ValueError), match=r"pictures.*text.*image"):
        answers(trained, posts, replace(options, without=("pictures",)))


def test_pictures_alone_can_be_learnt(options, rows, write, tmp_path):
    table = write(tmp_path / "posts.csv", [{k: row[k] for k in ("image", "label")} for row in rows])
    report = train(table, tmp_path / "model", options, splits=3, repeats=1)
    assert list(report["methods"]) == ["image"] and report["comparison"] is None
    assert any("Nothing was compared" in sentence for sentence in report["words"])
    (said,) = answers(
        tmp_path / "model", write(tmp_path / "one.csv", [{"image": "bad-1.png"}]), options
    )
    assert said["label"] == "bad" and list(said["contributions"]) == ["image"]


def test_the_tables_own_folder_is_the_default_for_pictures(trained, pictures, options, write, rows):
    table = write(pictures / "posts.csv", rows[:2])
    said = answers(trained, table, replace(options, folder=None))
    table.unlink()
    assert [a["answered_by"] for a in said] == [" + ".join(load(trained)[0].method.reads)] * 2


BAD_TRAINING = [
    ({"folder": "nothere"}, "the folder of pictures and sounds, nothere, is no folder"),
    ({"strict": True}, "row 4, column 'image': missing picture: nothere.png .*nothing was written"),
]


@pytest.mark.parametrize(("change", "words"), BAD_TRAINING)
def test_training_that_cannot_go_on_writes_nothing(options, rows, write, tmp_path, change, words):
    table = write(
        tmp_path / "posts.csv", [rows[0], rows[1], {**rows[2], "image": "nothere.png"}, *rows[3:]]
    )
    with pytest.raises(TableUnusable, match=words):
        train(table, tmp_path / "model", replace(options, **change), splits=3, repeats=1)
    assert [p.name for p in tmp_path.iterdir() if p.name != "own-cache"] == ["posts.csv"]


def test_ten_posts_and_one_class_are_refused_and_nothing_is_written(options, rows, write, tmp_path):
    for some, words in (
        (
            rows[:8],
            r"8 samples are too few .*\{'bad': 4, 'good': 4\}.* fewer folds, 4, .*--folds says",
        ),
        (rows[::2], "all usable rows are 'good': nothing to tell apart"),
        ([{**rows[0], "label": "nan"}], r"holds no usable row\.\n1 × missing label"),
    ):
        with pytest.raises(TableUnusable, match=words):
            train(write(tmp_path / "posts.csv", some), tmp_path / "model", options)
    assert not (tmp_path / "model").exists()


def test_a_taken_place_is_told_before_anything_is_encoded(trained, posts, options, monkeypatch):
    monkeypatch.setattr(commands.gathering, "gather", lambda *a: pytest.fail("rows were encoded"))
    with pytest.raises(FileExistsError, match="say --overwrite"):
        train(posts, trained, options)
    with pytest.raises(FileExistsError, match="cannot be made: look at"):
        train(posts, trained / "config.json" / "model", options)


def test_faulty_posts_are_left_out_and_told_in_the_report(options, rows, write, tmp_path):
    odd = [
        {**rows[0], "image": "../escape.png"},
        {**rows[1], "label": "NaN"},
        {"text": "<script>alert(1)</script>", "image": "", "label": "<b>"},
    ]
    table = write(tmp_path / "posts.csv", [*odd[:2], *rows])
    report = train(table, tmp_path / "model", options, splits=3, repeats=1)
    assert report["data"]["rows"] == 48 and report["problems"]["counts"] == {
        "missing label": 1,
        "path leaves the folder": 1,
    }
    assert (report["problems"]["first"][0]["row"], report["problems"]["first"][1]["row"]) == (2, 3)
    page = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    assert "2 faulty rows were left out" in page and "path leaves the folder" in page
    with pytest.raises(TableUnusable, match=r"of \{'<b>': 1\}.* is there once cannot"):
        train(write(tmp_path / "posts.csv", [*rows, odd[2]]), tmp_path / "other", options, splits=3)


def test_overwriting_replaces_the_model(options, rows, write, tmp_path):
    table = write(tmp_path / "posts.csv", rows)
    train(table, tmp_path / "model", options, splits=3, repeats=1)
    before = (tmp_path / "model" / "config.json").read_bytes()
    train(
        table,
        tmp_path / "model",
        options,
        splits=3,
        repeats=1,
        decision="likeliest",
        overwrite=True,
    )
    assert load(tmp_path / "model")[0].decision == "likeliest"
    assert before != (tmp_path / "model" / "config.json").read_bytes()
    with pytest.raises(ValueError, match="unknown decision 'coin'; known: balanced, likeliest"):
        train(
            table, tmp_path / "model", options, splits=3, repeats=1, decision="coin", overwrite=True
        )
    assert load(tmp_path / "model")[0].decision == "likeliest", "what was there is kept"


def test_an_interrupted_training_is_resumed_from_what_was_encoded(
    options, rows, write, tmp_path, monkeypatch
):
    """Ctrl-C while texts are encoded: no model, and the next run encodes only the rest."""
    own = replace(options, cache=tmp_path / "features", folder=None)
    texts = write(
        tmp_path / "texts.csv",
        [{"text": row["text"] + " again", "label": row["label"]} for row in rows],
    )
    batches, done = TextEncoder._batches, []

    def watch(self, samples, positions, stop=None):
        for n, (part, features) in enumerate(batches(self, samples, positions)):
            if n == stop:
                raise KeyboardInterrupt
            done.extend(samples[i] for i in part)
            yield part, features

    monkeypatch.setattr(TextEncoder, "_batches", lambda self, s, p: watch(self, s, p, stop=1))
    with pytest.raises(KeyboardInterrupt):
        train(texts, tmp_path / "model", own, splits=3, repeats=1)
    assert 0 < len(done) < 48 and not (tmp_path / "model").exists()
    monkeypatch.setattr(TextEncoder, "_batches", watch)
    train(texts, tmp_path / "model", own, splits=3, repeats=1)
    once = sorted({row["text"] + " again" for row in rows})
    assert sorted(done) == once, "each text was encoded once"


def test_half_a_model_is_refused_by_each_command(trained, posts, options, tmp_path):
    (tmp_path / "model").mkdir()
    for name in FILES:
        (tmp_path / "model" / name).write_bytes((trained / name).read_bytes())
    for call in (
        lambda m: evaluate(m, posts, options),
        lambda m: answers(m, posts, options),
    ):
        with pytest.raises(ModelUnusable, match="SHA256SUMS is missing"):
            call(tmp_path / "model")


def test_the_report_says_what_was_found(trained):
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert report["settings"] == {"splits": 3, "repeats": 2, "seed": 0, "decision": "balanced"}
    assert report["data"]["table"] == "posts.csv"
    assert report["data"]["with"] == {"text": 48, "image": 48}
    assert list(report["methods"]) == ["text", "image", "early", "late", "product"]
    for m in report["methods"].values():
        folds = m["folds"]
        assert len(folds) == 6 and m["macro_f1"]["value"] == pytest.approx(sum(folds) / 6, abs=1e-5)
    best = max(report["methods"], key=lambda m: report["methods"][m]["macro_f1"]["value"])
    highest = report["methods"][best]["macro_f1"]["value"]
    assert report["methods"][report["best"]]["macro_f1"]["value"] == highest
    confusion = report["judged"]["confusion"]
    assert sum(map(sum, confusion)) == 48
    hits = confusion[0][0] + confusion[1][1]
    assert report["judged"]["accuracy"]["value"] == pytest.approx(hits / 48)
    chosen = report["methods"][report["winner"]]["name"]
    assert report["words"][0].startswith(f"{chosen.capitalize()} is chosen")


def test_options_that_are_left_out_are_the_defaults(trained, posts, pictures, write, rows):
    table = write(pictures / "defaults.csv", rows[:1])
    said = list(predict(trained, table))
    table.unlink()
    assert said[0]["label"] == rows[0]["label"] and Options().max_megabytes == 50


def test_answers_to_a_table_with_a_huge_picture_obey_the_limit(trained, options, tmp_path, write):
    Image.new("RGB", (300, 300)).save(tmp_path / "a.bmp")
    table = write(tmp_path / "posts.csv", [{"text": "a", "image": "a.bmp"}])
    small = replace(options, folder=tmp_path, max_megabytes=0.1)
    (said,) = answers(trained, table, small)
    assert (
        said["problem"]["kind"] == "picture too large"
        and "has 0 MB, the limit is 0.1 MB" in said["problem"]["detail"]
    )


def test_numbers_are_learnt_with_an_interval_that_holds_most_of_them(numbers_model, records):
    report = json.loads((numbers_model / "report.json").read_text(encoding="utf-8"))
    assert report["score"] == "r2" and report["data"]["classes"] == {}
    assert report["methods"]["numbers"]["r2"]["value"] > 0.8
    prices = np.array([float(row["price"]) for row in records])
    assert report["data"]["target"] == pytest.approx(
        {"mean": prices.mean(), "deviation": prices.std()}, rel=1e-5
    )
    said = list(predict(numbers_model, records, QUIET))
    inside = [a["interval"][0] <= p <= a["interval"][1] for a, p in zip(said, prices, strict=True)]
    assert 0.8 < np.mean(inside) < 1
    for a in said:
        assert sum(a["interval"]) / 2 == pytest.approx(a["label"], abs=1e-4)
        total = sum(a["contributions"].values())
        assert total == pytest.approx(a["label"] - prices.mean(), abs=1e-3)
    found = evaluate(numbers_model, records, QUIET)
    values = np.array([a["label"] for a in said])
    assert found["mae"]["value"] == pytest.approx(np.abs(values - prices).mean(), abs=1e-5)
    unexplained = ((values - prices) ** 2).sum() / ((prices - prices.mean()) ** 2).sum()
    assert found["r2"]["value"] == pytest.approx(1 - unexplained, abs=1e-6)


def test_a_category_that_was_not_learnt_is_told_and_says_nothing(numbers_model):
    faults = Faults()
    row = {"metres": "50", "age": "3"}
    known, unknown, empty = predict(
        numbers_model, [row | {"site": site} for site in ("hill", "moon", "")], QUIET, faults
    )
    assert "1 × 'moon' in 'site', a category that was not learnt." in faults.remarks
    assert known["contributions"]["categories"] != 0 == empty["contributions"]["categories"]
    assert unknown["label"] is not None and unknown["label"] != known["label"]


def test_the_order_of_columns_and_columns_beside_them_change_nothing(
    numbers_model, records, write, tmp_path
):
    turned = [{"note": "x"} | dict(reversed(row.items())) for row in records]
    faults = Faults()
    table = write(tmp_path / "turned.csv", turned)
    said = bare(answers(numbers_model, table, QUIET, faults=faults))
    assert said == bare(answers(numbers_model, records, QUIET))
    assert any("not read" in r and "note" in r for r in faults.remarks)


def test_columns_that_are_absent_are_taken_as_empty_and_told(numbers_model, records):
    faults = Faults()
    some = [{"metres": row["metres"]} for row in records[:5]]
    said = list(predict(numbers_model, some, QUIET, faults))
    full = [row | {"age": "", "site": ""} for row in some]
    assert said == list(predict(numbers_model, full, QUIET))
    assert "Columns missing, and taken as empty: age, site." in faults.remarks


def test_two_of_48_rows_with_a_picture_train_on_the_texts(options, rows, tmp_path):
    """Also one of them, which once was an IndexError."""
    for some in (1, 2):
        table = [row | {"image": row["image"] if k < some else ""} for k, row in enumerate(rows)]
        report = train(table, tmp_path / f"model {some}", options, splits=3, repeats=1)
        assert report["left_out"] == ["image"] and report["winner"] == "text"
        assert any("Left out" in s and "image" in s for s in report["words"])
        assert report["data"]["compared_on"] == 48


def test_positive_names_a_class(options, posts, tmp_path):
    with pytest.raises(KeyError, match=r"positive.*'ill'.*'bad', 'good'"):
        train(posts, tmp_path / "model", options, positive=("ill",))
    assert not (tmp_path / "model").exists()


def test_every_refusal_tells_what_was_lost(options, rows, tmp_path):
    lost = [row | {"image": "nothere.png"} for row in rows[8:]]
    with pytest.raises(TableUnusable, match=r"(?s)cannot be compared.*40 × missing picture"):
        train([*rows[:8], *lost], tmp_path / "model", options)
    lost = [row | {"label": "N/A"} for row in rows]
    with pytest.raises(TableUnusable, match="48 × missing label"):
        train(lost, tmp_path / "model", options)


def test_the_last_record_of_a_generator_is_read(trained, options, rows):
    said = answers(trained, (row for row in rows[:3]), options)
    assert [a["row"] for a in said] == [a["row"] for a in answers(trained, rows[:3], options)]
