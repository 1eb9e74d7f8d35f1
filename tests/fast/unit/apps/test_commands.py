"""train, evaluate, predict from Python: real encoders on 48 small posts."""

import json
import re
from dataclasses import replace
from types import GeneratorType

import pytest
from PIL import Image

from mmtutor.apps import commands
from mmtutor.apps.answers import write_answers
from mmtutor.apps.commands import Options, evaluate, predict, predict_one, train
from mmtutor.apps.faults import Faults, PostsUnusable
from mmtutor.apps.folder import FILES, SUMS, ModelUnusable, load
from mmtutor.encoders import TextEncoder
from mmtutor.evaluation import macro_f1

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


def answers(model, table, options, **more) -> list[dict]:
    return list(predict(model, table, options, **more))


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
        assert a["answered_by"] == report["winner"]


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
    said = answers(trained, write(tmp_path / "posts.csv", table), options, faults=faults)
    assert [a["row"] for a in said] == [2, 3, 4, 5, 6, 7]
    assert [a.get("answered_by") for a in said][:4] == ["text", "image", None, None]
    assert [a.get("id") for a in said] == ["a", "b", None, None, "e", None]
    assert said[0]["contributions"]["image"] == 0 == said[1]["contributions"]["text"]
    assert [a["problem"]["kind"] for a in said if "problem" in a] == [
        "empty post",
        "missing picture",
        "duplicated id",
    ]
    assert said[2]["label"] is None and faults.counts == {
        "empty post": 1,
        "missing picture": 1,
        "duplicated id": 1,
    }
    assert said[1]["label"] == "bad"


def test_predict_is_a_stream(trained, options, write, tmp_path, rows, monkeypatch):
    """The first part is answered before the second is read, in which a strict run stops."""
    monkeypatch.setattr("mmtutor.apps.features.CHUNK", 4)
    table = write(tmp_path / "posts.csv", [*rows[:6], {"text": "", "image": "", "label": ""}])
    stream = predict(trained, table, replace(options, strict=True))
    assert isinstance(stream, GeneratorType)
    assert [next(stream)["row"] for _ in range(4)] == [2, 3, 4, 5]
    with pytest.raises(PostsUnusable, match="row 8, column 'text': empty post"):
        next(stream)


def test_chunks_do_not_change_answers(trained, posts, options, monkeypatch):
    whole = answers(trained, posts, options)
    monkeypatch.setattr("mmtutor.apps.features.CHUNK", 5)
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
    assert found["posts_with"] == {"text": 1, "image": 1, "both": 46}
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
    with pytest.raises(PostsUnusable, match="row 8, column 'label': unknown label: 'meh'"):
        evaluate(trained, path, replace(options, strict=True))
    with pytest.raises(PostsUnusable, match=r"holds no post to judge on\.\n1 × unknown label"):
        evaluate(trained, write(tmp_path / "posts.csv", table[6:7]), options)
    with pytest.raises(PostsUnusable, match="has no column 'label'"):
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


def test_one_post_is_answered_as_a_table_of_one(trained, options, pictures, write, tmp_path):
    (said,) = answers(
        trained,
        write(tmp_path / "posts.csv", [{"text": "a sad day", "image": "bad-3.png"}]),
        options,
    )
    alone = predict_one(
        trained, " a sad day ", pictures / "bad-3.png", replace(options, images=None)
    )
    assert alone == {k: v for k, v in said.items() if k not in ("row", "id")}
    assert predict_one(trained, "a sad day", None, options)["answered_by"] == "text"
    assert predict_one(trained, "", str(pictures / "bad-3.png"), options)["answered_by"] == "image"
    (tmp_path / "link.png").symlink_to(pictures / "bad-3.png")
    assert predict_one(trained, "a sad day", tmp_path / "link.png", options) == alone


def test_one_post_that_cannot_be_answered_is_told(trained, text_only, options, tmp_path, pictures):
    for image in (None, ""):
        with pytest.raises(
            PostsUnusable, match="neither a text nor a picture: say --text, --image or both"
        ):
            predict_one(trained, "  ", image, options)
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(PostsUnusable, match=r"corrupt picture: bad\.png: no readable picture"):
        predict_one(trained, "words", tmp_path / "bad.png", options)
    with pytest.raises(PostsUnusable, match=r"missing picture: nothere\.png is not in"):
        predict_one(trained, "words", tmp_path / "nothere.png", options)
    with pytest.raises(
        PostsUnusable, match="unknown modality: the model was trained without any image"
    ):
        predict_one(text_only, "", pictures / "bad-3.png", options)


def test_a_model_without_pictures_answers_texts_and_names_posts_that_have_none(
    text_only, options, write, tmp_path
):
    table = [
        {"text": "a happy day", "file": ""},
        {"text": "", "file": "good-1.png"},
        {"text": "a sad day", "file": "good-2.png"},
    ]
    columns = replace(options.columns, image="file")
    faults = Faults()
    path = write(tmp_path / "posts.csv", table)
    said = answers(text_only, path, replace(options, columns=columns), faults=faults)
    assert [a.get("answered_by") for a in said] == ["text", None, "text"]
    assert (
        str(faults.first[0])
        == "row 3, column 'file': unknown modality: the model was trained without any image, and"
        " this post has nothing else"
    )
    assert said[2]["contributions"]["image"] == 0 and said[1]["problem"]["column"] == "file"
    only = write(tmp_path / "only.csv", [{"file": "good-1.png", "label": "good"}])
    with pytest.raises(PostsUnusable, match=r"no post to judge on\.\n1 × unknown modality"):
        evaluate(text_only, only, replace(options, columns=columns))


def test_pictures_alone_can_be_learnt(options, rows, write, tmp_path):
    table = write(tmp_path / "posts.csv", [{k: row[k] for k in ("image", "label")} for row in rows])
    report = train(table, tmp_path / "model", options, splits=3, repeats=1)
    assert list(report["methods"]) == ["image"] and report["comparison"] is None
    assert any("nothing was compared" in sentence for sentence in report["words"])
    (said,) = answers(
        tmp_path / "model", write(tmp_path / "one.csv", [{"image": "bad-1.png"}]), options
    )
    assert said["label"] == "bad" and said["contributions"]["text"] == 0


def test_the_tables_own_folder_is_the_default_for_pictures(trained, pictures, options, write, rows):
    table = write(pictures / "posts.csv", rows[:2])
    said = answers(trained, table, replace(options, images=None))
    table.unlink()
    assert [a["answered_by"] for a in said] == [load(trained)[0].method] * 2


BAD_TRAINING = [
    ({"images": "nothere"}, "the folder of pictures, nothere, is no folder"),
    ({"strict": True}, "row 4, column 'image': missing picture: nothere.png .*nothing was written"),
]


@pytest.mark.parametrize(("change", "words"), BAD_TRAINING)
def test_training_that_cannot_go_on_writes_nothing(options, rows, write, tmp_path, change, words):
    table = write(
        tmp_path / "posts.csv", [rows[0], rows[1], {**rows[2], "image": "nothere.png"}, *rows[3:]]
    )
    with pytest.raises(PostsUnusable, match=words):
        train(table, tmp_path / "model", replace(options, **change), splits=3, repeats=1)
    assert [p.name for p in tmp_path.iterdir() if p.name != "own-cache"] == ["posts.csv"]


def test_ten_posts_and_one_class_are_refused_and_nothing_is_written(options, rows, write, tmp_path):
    for some, words in (
        (
            rows[:8],
            r"8 samples are too few .* of \{'bad': 4, 'good': 4\}.* say fewer --folds",
        ),
        (rows[::2], "all 24 usable posts are 'good': nothing to tell apart"),
        ([{**rows[0], "label": "nan"}], r"holds no usable post\.\n1 × missing label"),
    ):
        with pytest.raises(PostsUnusable, match=words):
            train(write(tmp_path / "posts.csv", some), tmp_path / "model", options)
    assert not (tmp_path / "model").exists()


def test_a_taken_place_is_told_before_anything_is_encoded(trained, posts, options, monkeypatch):
    monkeypatch.setattr(commands, "read_table", lambda *a: pytest.fail("posts were read"))
    with pytest.raises(FileExistsError, match="say --overwrite"):
        train(posts, trained, options)
    with pytest.raises(FileExistsError, match="is no folder that can be written to"):
        train(posts, trained / "config.json" / "model", options)


def test_faulty_posts_are_left_out_and_told_in_the_report(options, rows, write, tmp_path):
    odd = [
        {**rows[0], "image": "../escape.png"},
        {**rows[1], "label": "NaN"},
        {"text": "<script>alert(1)</script>", "image": "", "label": "<b>"},
    ]
    table = write(tmp_path / "posts.csv", [*odd[:2], *rows])
    report = train(table, tmp_path / "model", options, splits=3, repeats=1)
    assert report["data"]["posts"] == 48 and report["problems"]["counts"] == {
        "missing label": 1,
        "path leaves the folder": 1,
    }
    assert (report["problems"]["first"][0]["row"], report["problems"]["first"][1]["row"]) == (2, 3)
    page = (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    assert "2 faulty rows were left out" in page and "path leaves the folder" in page
    with pytest.raises(PostsUnusable, match=r"of \{'<b>': 0\}"):
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
    own = replace(options, cache=tmp_path / "features", images=None)
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
    assert sorted(done) == sorted({row["text"] + " again" for row in rows}), (
        "each text was encoded once"
    )


def test_half_a_model_is_refused_by_each_command(trained, posts, options, tmp_path):
    (tmp_path / "model").mkdir()
    for name in FILES:
        (tmp_path / "model" / name).write_bytes((trained / name).read_bytes())
    for call in (
        lambda m: evaluate(m, posts, options),
        lambda m: answers(m, posts, options),
        lambda m: predict_one(m, "a", None, options),
    ):
        with pytest.raises(ModelUnusable, match="has no SHA256SUMS"):
            call(tmp_path / "model")


def test_the_report_says_what_was_found(trained, posts):
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert report["settings"] == {"splits": 3, "repeats": 2, "seed": 0}
    assert report["data"]["table"] == "posts.csv" and report["data"]["encodings"] == {"utf-8": 49}
    assert set(report["methods"]) == {"text", "image", "early", "late"}
    for m in report["methods"].values():
        folds = m["folds"]
        assert len(folds) == 6 and m["macro_f1"]["value"] == pytest.approx(sum(folds) / 6, abs=1e-5)
    best = max(report["methods"], key=lambda m: report["methods"][m]["macro_f1"]["value"])
    winner = report["winner"]
    assert report["methods"][best]["macro_f1"] == report["methods"][winner]["macro_f1"]
    confusion = report["per_class"]["confusion"]
    assert sum(map(sum, confusion)) == 48
    assert report["per_class"]["classes"]["bad"]["recall"] == confusion[0][0] / sum(confusion[0])
    assert report["words"][0].startswith(report["methods"][winner]["name"].capitalize())


def test_the_page_needs_nothing_else_and_is_well_formed(trained):
    from html.parser import HTMLParser

    page = (trained / "report.html").read_text(encoding="utf-8")
    assert (
        not re.search(r"""(src|href)=["'](?!data:)""", page)
        and "<script" not in page
        and "@import" not in page
    )
    opened, figures = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "img":
                figures.append(dict(attributes)["alt"])
            if tag not in ("meta", "link", "img"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Parser().feed(page)
    assert opened == [] and len(figures) == 1
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    for m in report["methods"].values():
        assert f"{m['name']} {m['macro_f1']['value']:.2f}" in figures[0] and m["name"] in page


def test_options_that_are_left_out_are_the_defaults(trained, posts, pictures, write, rows):
    table = write(pictures / "defaults.csv", rows[:1])
    said = list(predict(trained, table))
    table.unlink()
    assert said[0]["label"] == rows[0]["label"] and Options().max_megabytes == 50


def test_answers_to_a_table_with_a_huge_picture_obey_the_limit(trained, options, tmp_path, write):
    Image.new("RGB", (300, 300)).save(tmp_path / "a.bmp")
    table = write(tmp_path / "posts.csv", [{"text": "a", "image": "a.bmp"}])
    small = replace(options, images=tmp_path, max_megabytes=0.1)
    (said,) = answers(trained, table, small)
    assert (
        said["problem"]["kind"] == "picture too large"
        and "has 0 MB, the limit is 0.1 MB" in said["problem"]["detail"]
    )


def test_answers_written_as_csv_and_json_lines_hold_the_same(
    trained, options, write, tmp_path, rows
):
    import csv

    table = write(
        tmp_path / "posts.csv",
        [{"id": "é", **rows[0]}, {"id": "b", **rows[1], "image": "nothere.png"}],
    )
    said = answers(trained, table, options)
    assert write_answers(iter(said), tmp_path / "out.jsonl", ("bad", "good")) == 2
    assert write_answers(iter(said), tmp_path / "out.csv", ("bad", "good")) == 2
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == said
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["id"] == "é" and first["label"] == said[0]["label"] and first["problem"] == ""
    assert float(first["p(good)"]) == said[0]["probabilities"]["good"]
    assert float(first["from image"]) == said[0]["contributions"]["image"]
    assert (second["row"], second["label"], second["p(bad)"]) == ("3", "", "")
    assert (
        second["problem"] == "image: missing picture: nothere.png is not in the folder of pictures"
    )
