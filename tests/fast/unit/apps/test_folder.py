"""A model on disk: the same bytes each time, whole or not at all, and nothing is believed that was
altered."""

import hashlib
import json
import pickle
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mmtutor.apps import folder as module
from mmtutor.apps.classifier import SentimentModel
from mmtutor.apps.features import PostEncoder
from mmtutor.apps.folder import FILES, SUMS, ModelUnusable, check_free, load, save
from mmtutor.choosing.heads import OpinionCalibration, new_head
from mmtutor.files.weights import WEIGHTS

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


@pytest.fixture(scope="module")
def encoder(pictures, cache) -> PostEncoder:
    return PostEncoder(pictures, "cpu", cache)


@pytest.fixture
def model(encoder) -> SentimentModel:
    torch.manual_seed(0)
    heads = {"text": new_head({"text": 384}, 2), "image": new_head({"image": 1280}, 2)}
    for head in heads.values():
        for p in head.parameters():
            torch.nn.init.normal_(p)
    calibrations = {
        m: OpinionCalibration(t, (0.1, -0.2))
        for m, t in (("text", 1.5), ("image", 2.5), ("late", 0.7))
    }
    return SentimentModel(("schön", "好"), "late", heads, calibrations, (0.3, 0.7), "likeliest")


@pytest.fixture
def saved(model, encoder, tmp_path):
    return save(model, encoder, {"words": ["é"]}, "<html>é</html>", tmp_path / "model")


def forge(folder, name, content: bytes) -> None:
    """Alter a file and make SHA256SUMS fit."""
    (folder / name).write_bytes(content)
    sums = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in FILES}
    (folder / SUMS).write_text("".join(f"{digest}  {n}\n" for n, digest in sums.items()))


def test_a_loaded_model_is_the_saved_one(saved, model, encoder):
    loaded, config = load(saved, encoder)
    assert (
        loaded.classes == model.classes
        and loaded.method == "late"
        and loaded.decision == "likeliest"
    )
    assert loaded.calibrations == model.calibrations and loaded.shares == model.shares
    x = {"text": torch.randn(5, 384), "image": torch.randn(5, 1280)}
    there = {m: torch.ones(5, dtype=torch.bool) for m in x}
    assert torch.equal(
        loaded.predict(x, there).probabilities, model.predict(x, there).probabilities
    )
    assert config["encoders"]["text"]["name"] == "minilm" and torch.__version__.startswith(
        config["versions"]["torch"]
    )
    assert config["encoders"]["image"]["sha256"] == WEIGHTS["efficientnet-lite0"].sha256
    assert config["classes"] == ["schön", "好"]


def test_the_folder_holds_what_it_says_and_nothing_else(saved, tmp_path):
    assert {p.name for p in saved.iterdir()} == {*FILES, SUMS} and [
        p.name for p in tmp_path.iterdir()
    ] == ["model"]
    for line in (saved / SUMS).read_text().splitlines():
        digest, name = line.split("  ")  # as `sha256sum --check` reads it
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest
    with safe_open(saved / "weights.safetensors", "pt") as weights:
        assert "text.fusion.project.text.weight" in weights.keys()  # noqa: SIM118
    assert json.loads((saved / "report.json").read_text(encoding="utf-8")) == {"words": ["é"]}
    assert (saved / "report.html").read_text(encoding="utf-8") == "<html>é</html>"


def test_the_same_model_gives_the_same_bytes(saved, model, encoder, tmp_path):
    again = save(
        model, encoder, {"words": ["é"]}, "<html>é</html>", tmp_path / "elsewhere" / "again"
    )
    for name in (*FILES, SUMS):
        assert (saved / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "emptied"])
def test_a_file_that_is_not_as_it_was_written_is_named(saved, name, how):
    path = saved / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes(
            {"truncated": content[: len(content) // 2], "altered": flipped, "emptied": b""}[how]
        )
    words = (
        "is missing: the model was copied in part"
        if how == "missing"
        else r"is not as it was written \(its sha256"
    )
    with pytest.raises(ModelUnusable, match=rf"{name.replace('.', '[.]')} {words}"):
        load(saved)


def test_a_folder_without_sums_or_that_is_none_is_told(saved, tmp_path):
    (saved / SUMS).write_bytes(b"\xff\x00 nonsense")
    with pytest.raises(ModelUnusable, match=r"config\.json is not as it was written"):
        load(saved)
    (saved / SUMS).unlink()
    with pytest.raises(
        ModelUnusable, match="has no SHA256SUMS: it is no model, or one that was copied in part"
    ):
        load(saved)
    for wrong in (tmp_path / "nothere", saved / "config.json"):
        with pytest.raises(
            ModelUnusable, match="is no folder: expected a model made by `mmtutor sentiment train`"
        ):
            load(wrong)


def test_other_encoders_are_refused_and_named(saved, encoder, monkeypatch):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    config["encoders"]["image"]["sha256"] = "0" * 64
    forge(saved, "config.json", json.dumps(config).encode())
    with pytest.raises(
        ModelUnusable, match=r"was trained behind the image encoder .*'0000.*train it again"
    ):
        load(saved, encoder)
    assert load(saved)[0].method == "late", "without an encoder there is nothing to compare"


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_no_code_is_run_from_a_forged_folder(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("weights.safetensors", "config.json"):
        forge(saved, name, pickle.dumps(Bomb()))
        with pytest.raises(ModelUnusable, match="does not hold a model of this tool"):
            load(saved)
    assert not (tmp_path / "exploded").exists()


FORGED = [
    ({"format": 2}, "has format 2; this version of mmtutor reads 1"),
    ({"heads": {"text": {"text": 383}}}, "size mismatch"),
    ({"heads": {"sound": {"sound": 3}}}, "calibrations holds what"),
    ({"heads": None}, "TypeError"),
    ({"calibrations": {"text": {}}}, "KeyError: 'temperature'"),
    ({"classes": ["only"]}, "classes holds what no model has"),
    ({"classes": ["a", "a"]}, "classes holds what"),
    ({"classes": ["a", 1]}, "classes holds what"),
    ({"classes": ["a", "b", "c"]}, "shares holds what"),
    ({"method": "vote"}, "method holds what"),
    ({"decision": "best"}, "decision holds what"),
    ({"shares": [0.5]}, "shares holds what"),
    ({"shares": [0.9, 0.9]}, "shares holds what"),
    ({"shares": [1.5, -0.5]}, "shares holds what"),
    ({"shares": [float("nan"), 0.5]}, "shares holds what"),
    ({"calibrations": {}}, "calibrations holds what"),
    ({"encoders": {}}, None),
]


@pytest.mark.parametrize(("change", "words"), FORGED)
def test_a_config_that_does_not_fit_is_told(saved, change, words, encoder):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    forge(saved, "config.json", json.dumps(config | change).encode())
    if words is None:
        assert load(saved)[0].method == "late"
        return
    with pytest.raises(ModelUnusable, match=words):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"offsets": [0.0]},
        {"offsets": [0.0, float("nan")]},
        {"offsets": [0.0, float("-inf")]},
    ],
)
def test_forged_numbers_are_named(saved, change):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    config["calibrations"]["text"] |= change
    forge(saved, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelUnusable, match="calibrations of 'text' holds what no model has"):
        load(saved)


def test_forged_weights_are_named(saved):
    tensors = load_tensors((saved / "weights.safetensors").read_bytes())
    name = next(name for name, x in tensors.items() if x.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    forge(saved, "weights.safetensors", save_tensors(tensors))
    with pytest.raises(ModelUnusable, match=f"weights {name} holds what"):
        load(saved)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"{}", b"\xff"])
def test_a_config_that_is_no_config_is_told(saved, content):
    forge(saved, "config.json", content)
    with pytest.raises(ModelUnusable, match="does not hold a model of this tool"):
        load(saved)


def test_an_encoder_missing_from_the_config_is_told(saved, encoder):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    del config["encoders"]
    forge(saved, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelUnusable, match="KeyError: 'encoders'"):
        load(saved, encoder)


def test_a_place_is_free_where_nothing_or_an_empty_folder_is(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (
        check_free(tmp_path / "new") == tmp_path / "new"
        and check_free(tmp_path / "empty") == tmp_path / "empty"
    )
    with pytest.raises(
        FileExistsError, match=r"cannot be made: .*nothere is no folder that can be written to"
    ):
        check_free(tmp_path / "nothere" / "model")


def test_a_model_is_overwritten_only_when_told_and_nothing_else_ever(saved, tmp_path):
    with pytest.raises(
        FileExistsError, match="exists already: name another folder, or say --overwrite"
    ):
        check_free(saved)
    assert check_free(saved, overwrite=True) == saved
    for name, content in (("thesis.tex", "years of work"), ("SHA256SUMS.txt", "x")):
        other = tmp_path / name.partition(".")[0]
        other.mkdir()
        (other / name).write_text(content)
        with pytest.raises(
            FileExistsError, match="holds no model of this tool, so it is not overwritten"
        ):
            check_free(other, overwrite=True)
    (saved / "predictions.csv").write_text("answers")
    with pytest.raises(
        FileExistsError,
        match=r"holds more than a model, \['predictions.csv'\], so it is not overwritten",
    ):
        check_free(saved, overwrite=True)
    with pytest.raises(FileExistsError, match="holds no model"):
        check_free(saved / "config.json", overwrite=True)


def test_an_unwritable_parent_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(FileExistsError, match="is no folder that can be written to"):
        check_free(tmp_path / "model")


def test_the_old_model_stays_until_the_new_one_stands(saved, model, encoder, tmp_path, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def unchanged():
        assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
        assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing is left lying about"

    for stage, error in (
        ("write_bytes", OSError("disk full")),
        ("write_text", KeyboardInterrupt()),
    ):
        with monkeypatch.context() as patch:

            def fail(*args, error=error, **options):
                raise error

            patch.setattr(module.Path, stage, fail)
            with pytest.raises(type(error)):
                save(model, encoder, {}, "new", saved, overwrite=True)
        unchanged()
    rename = module.Path.rename
    for error in (OSError("busy"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:

            def fail_once(self, target, error=error):
                if target == saved and not self.name.endswith(".old"):
                    raise error
                return rename(self, target)

            patch.setattr(module.Path, "rename", fail_once)
            with pytest.raises(type(error)):
                save(model, encoder, {}, "new", saved, overwrite=True)
        unchanged()
    save(model, encoder, {}, "new", saved, overwrite=True)
    assert (saved / "report.html").read_text() == "new" and [
        p.name for p in tmp_path.iterdir()
    ] == ["model"]


def test_a_link_to_a_model_is_followed(saved, model, encoder, tmp_path):
    (tmp_path / "latest").symlink_to(saved)
    save(model, encoder, {}, "new", tmp_path / "latest", overwrite=True)
    assert (tmp_path / "latest").is_symlink() and (saved / "report.html").read_text() == "new"
    assert {p.name for p in tmp_path.iterdir()} == {"latest", "model"}


def test_the_current_folder_can_be_the_place(model, encoder, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(model, encoder, {}, "new", check_free("."))
    assert load(tmp_path / "here")[0].method == "late"


def test_a_copy_is_as_good(saved, encoder, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert load(tmp_path / "copy", encoder)[0].classes == ("schön", "好")


def test_what_json_cannot_hold_is_not_written(model, encoder, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(model, encoder, {"f1": float("nan")}, "", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_appears_while_a_model_is_made_is_never_removed(saved, model, encoder, tmp_path):
    """Checked at the last moment, too: another run's model, a stranger's file in an old one."""
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    with pytest.raises(FileExistsError, match="exists already"):
        save(model, encoder, {}, "new", saved)
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds more than a model"):
        save(model, encoder, {}, "new", saved, overwrite=True)
    with pytest.raises(FileExistsError, match=r"holds \['notes.txt'\] since just now"):
        partial = tmp_path / "partial"
        partial.mkdir()
        module._swap(partial, saved)
    assert (saved / "notes.txt").read_text() == "mine"
    (saved / "notes.txt").unlink()
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
