"""A model on disk: the same bytes each time, whole or not at all, and nothing is believed that was
altered."""

import hashlib
import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mmtutor.apps import folder as module
from mmtutor.apps.encoding import RowEncoder
from mmtutor.apps.folder import (
    FILES,
    FORMAT,
    SUMS,
    ModelUnusable,
    check_free,
    encoder_of,
    load,
    roles_of,
    save,
)
from mmtutor.apps.model import Model
from mmtutor.apps.rows import Roles
from mmtutor.choosing.choice import methods_of
from mmtutor.choosing.heads import NumberCalibration, OpinionCalibration, new_head
from mmtutor.files.weights import WEIGHTS

pytestmark = pytest.mark.usefixtures("own_cache", "small_models_on_one_thread")


ROLES = Roles(text="text", image="image", categories=("sky", "place"), label="label")
WORDS = (("rain", "sun"), ("park", "school", "station"))


@pytest.fixture(scope="module")
def encoder(pictures, cache) -> RowEncoder:
    return RowEncoder(ROLES, pictures, vocabulary=WORDS, device="cpu", cache=cache)


def heads_for(dims, knots, outputs, *names) -> dict:
    """Heads of random weights that have seen features: one for each of these modalities."""
    generator, heads = torch.Generator().manual_seed(0), {}
    for m in names:
        heads[m] = new_head({m: dims[m]}, outputs, knots)
        seen = torch.randint(0, 2, (20, dims[m]), generator=generator).float()
        heads[m].encoders[m].measure(seen, torch.arange(20))
        for p in heads[m].parameters():
            torch.nn.init.normal_(p, generator=generator)
    return heads


@pytest.fixture
def model(encoder) -> Model:
    heads = heads_for(encoder.dims, encoder.knots, 2, *encoder.dims)
    temperatures = {"text": 1.5, "image": 2.5, "categories": 1.1, "late": 0.7}
    calibrations = {m: OpinionCalibration(t, (0.1, -0.2)) for m, t in temperatures.items()}
    method = methods_of(encoder.dims)["late"]
    classes = ("schön", "好")
    return Model(classes, "late", method, heads, calibrations, (0.3, 0.7), "likeliest")


@pytest.fixture
def saved(model, encoder, tmp_path):
    return save(model, encoder, {"words": ["é"]}, "<html>é</html>", tmp_path / "model")


def forge(folder, name, content: bytes) -> None:
    """Alter a file and make SHA256SUMS fit."""
    (folder / name).write_bytes(content)
    sums = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in FILES}
    (folder / SUMS).write_text("".join(f"{digest}  {n}\n" for n, digest in sums.items()))


def seen(encoder, n=5) -> tuple[dict, dict]:
    """Features and presence of n rows; categories hold codes and whether they are known."""
    x = {m: torch.randn(n, d) for m, d in encoder.dims.items()}
    if "categories" in x:
        x["categories"] = torch.tensor([[1.0, 2, 1, 1], [0, 0, 1, 0]]).repeat(n, 1)[:n]
    return x, {m: torch.ones(n, dtype=torch.bool) for m in x}


def test_a_loaded_model_is_the_saved_one(saved, model, encoder):
    loaded, config = load(saved)
    for field in ("classes", "name", "method", "decision", "calibrations", "shares", "target"):
        assert getattr(loaded, field) == getattr(model, field), field
    x, there = seen(encoder)
    there["image"][:2] = False
    was, is_now = model.answer(x, there), loaded.answer(x, there)
    assert torch.equal(was.values, is_now.values) and was.read == is_now.read
    assert all(torch.equal(v, is_now.contributions[m]) for m, v in was.contributions.items())
    assert config["encoders"]["text"]["name"] == "minilm"
    assert torch.__version__.startswith(config["versions"]["torch"])
    assert config["encoders"]["image"]["sha256"] == WEIGHTS["efficientnet-lite0"].sha256
    assert config["classes"] == ["schön", "好"]


def test_columns_and_their_words_come_back_with_the_encoder(saved, encoder, pictures, cache):
    _, config = load(saved)
    assert roles_of(config) == ROLES
    again = encoder_of(config, saved, ROLES, folder=pictures, device="cpu", cache=cache)
    assert (again.vocabulary, again.knots, again.dims) == (WORDS, encoder.knots, encoder.dims)


def test_a_model_of_numbers_comes_back(tmp_path):
    roles = Roles(numbers=("age", "weight"), target="price")
    encoder = RowEncoder(roles)
    calibrations = {"numbers": NumberCalibration(0.9, 0.1, 0.5)}
    heads = heads_for(encoder.dims, encoder.knots, 1, "numbers")
    method = methods_of(["numbers"], numbers=True)["numbers"]
    model = Model((), "numbers", method, heads, calibrations, (), target=(100.0, 20.0))
    loaded, config = load(save(model, encoder, {}, "", tmp_path / "model"))
    assert roles_of(config) == roles and loaded.calibrations == calibrations
    x = {"numbers": torch.tensor([[0.5, 0.2, 1, 1], [0.9, 0, 1, 0]])}
    there = {"numbers": torch.tensor([True, True])}
    assert torch.equal(loaded.answer(x, there).values, model.answer(x, there).values)
    assert loaded.spread(("numbers",)) == pytest.approx(10)


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
        "is missing: train the model, or copy it, again"
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
    with pytest.raises(ModelUnusable, match="SHA256SUMS is missing: train the model, or copy it"):
        load(saved)
    for wrong in (tmp_path / "nothere", saved / "config.json"):
        with pytest.raises(ModelUnusable, match=r"is no folder: .* made by `mmtutor train`"):
            load(wrong)


def config_in(folder) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def change_config(folder, change) -> None:
    forge(folder, "config.json", json.dumps(config_in(folder) | change).encode())


def test_other_encoders_are_refused_and_named(saved, pictures):
    encoders = config_in(saved)["encoders"]
    encoders["image"]["sha256"] = "0" * 64
    change_config(saved, {"encoders": encoders})
    model, config = load(saved)
    assert model.name == "late", "without an encoder there is nothing to compare"
    with pytest.raises(ModelUnusable, match=r"with the encoders .*'0000.*train it again"):
        encoder_of(config, saved, ROLES, folder=pictures)


def test_columns_that_are_more_than_were_learnt_are_refused_and_named(saved):
    _, config = load(saved)
    more = replace(ROLES, categories=("sky", "place", "month"))
    with pytest.raises(ModelUnusable, match=r"with the dims .*'categories': 4.*'categories': 6"):
        encoder_of(config, saved, more)


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


NAN = float("nan")
FORGED = [
    ({"format": 1}, f"has format 1; this version of mmtutor reads {FORMAT}"),
    ({"dims": {"text": 383, "image": 1280, "categories": 4}}, "size mismatch"),
    ({"dims": {"image": 1280, "categories": 4}}, "heads holds what"),
    ({"heads": {"sound": ["sound"]}}, "heads holds what"),
    ({"heads": {"text": ["text"], "early": ["text"]}}, "heads holds what"),
    ({"heads": None}, "TypeError"),
    ({"knots": {}}, "RuntimeError"),
    ({"knots": {"categories": 4}}, "size mismatch"),
    ({"calibrations": {"text": {}}}, "calibrations holds what"),
    ({"calibrations": {}}, "calibrations holds what"),
    ({"classes": ["only"]}, "classes holds what no model has"),
    ({"classes": ["a", "a"]}, "classes holds what"),
    ({"classes": ["a", 1]}, "classes holds what"),
    ({"classes": ["a", "b", "c"]}, "shares holds what"),
    ({"classes": []}, "shares holds what"),
    ({"method": "vote"}, "method holds what"),
    ({"method": None}, "method holds what"),
    ({"decision": "best"}, "decision holds what"),
    ({"shares": [0.5]}, "shares holds what"),
    ({"shares": [0.9, 0.9]}, "shares holds what"),
    ({"shares": [1.5, -0.5]}, "shares holds what"),
    ({"shares": [NAN, 0.5]}, "shares holds what"),
    ({"target": [NAN, 1.0]}, "target holds what"),
    ({"target": [0.0, 0.0]}, "target holds what"),
    ({"target": [0.0, -1.0]}, "target holds what"),
    ({"target": [0.0, float("inf")]}, "target holds what"),
    ({"target": [0.0]}, "target holds what|does not hold"),
    ({"target": []}, "target holds what|does not hold"),
]


@pytest.mark.parametrize(("change", "words"), FORGED)
def test_a_config_that_does_not_fit_is_told(saved, change, words):
    change_config(saved, change)
    with pytest.raises(ModelUnusable, match=words):
        load(saved)


def test_a_method_whose_head_is_not_there_is_told(saved):
    calibrations = config_in(saved)["calibrations"]
    calibrations["early"] = calibrations["late"]
    change_config(saved, {"method": "early", "calibrations": calibrations})
    with pytest.raises(ModelUnusable):
        load(saved)


@pytest.mark.parametrize("key", ["classes", "method", "heads", "dims", "knots", "calibrations"])
def test_an_entry_that_is_not_there_is_told(saved, key):
    config = config_in(saved)
    del config[key]
    forge(saved, "config.json", json.dumps(config).encode())
    with pytest.raises(ModelUnusable, match=f"does not hold a model of this tool: .*'{key}'"):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": NAN},
        {"temperature": float("inf")},
        {"offsets": [0.0]},
        {"offsets": [0.0, NAN]},
        {"offsets": [0.0, float("-inf")]},
    ],
)
@pytest.mark.parametrize("m", ["text", "late"])
def test_forged_numbers_are_named(saved, change, m):
    calibrations = config_in(saved)["calibrations"]
    calibrations[m] |= change
    change_config(saved, {"calibrations": calibrations})
    with pytest.raises(ModelUnusable, match=f"calibrations of '{m}' holds what no model has"):
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


ENTRIES = [
    *({"roles": entry} for entry in (None, 7)),
    *({"vocabulary": entry} for entry in (None, 7, {"text": 7}, [["rain", "sun"]])),
    *({"encoders": entry} for entry in (None, 7, {"text": 7})),
]


@pytest.mark.parametrize(
    "change",
    [
        *ENTRIES,
        {"roles": {"text": 7}},
        {"roles": {}},
        {"encoders": {}},
        {"encoders": {"text": {}}},
    ],
)
def test_what_the_encoder_is_made_from_is_checked_too(saved, change):
    """However it was forged, the model is what cannot be used."""
    change_config(saved, change)
    with pytest.raises(ModelUnusable):
        _, config = load(saved)
        encoder_of(config, saved, roles_of(config))


def test_a_place_is_free_where_nothing_or_an_empty_folder_is(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (
        check_free(tmp_path / "new") == tmp_path / "new"
        and check_free(tmp_path / "empty") == tmp_path / "empty"
    )
    with pytest.raises(FileExistsError, match=r"cannot be made: look at .*nothere;"):
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
            FileExistsError, match=r"holds no model of this tool: .*nothing was overwritten"
        ):
            check_free(other, overwrite=True)
    (saved / "predictions.csv").write_text("answers")
    with pytest.raises(
        FileExistsError,
        match=r"holds more than a model, \['predictions.csv'\]: move them away",
    ):
        check_free(saved, overwrite=True)
    with pytest.raises(FileExistsError, match="holds no model"):
        check_free(saved / "config.json", overwrite=True)


def test_an_unwritable_parent_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(FileExistsError, match="cannot be made: look at"):
        check_free(tmp_path / "model")


def test_the_old_model_stays_until_the_new_one_stands(saved, model, encoder, tmp_path, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def unchanged():
        assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
        assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing is left lying about"

    for stage, error in (
        ("write_bytes", OSError("disk full")),
        ("write_bytes", KeyboardInterrupt()),
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
    assert load(tmp_path / "here")[0].name == "late"


def test_a_copy_is_as_good(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert load(tmp_path / "copy")[0].classes == ("schön", "好")


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
    assert (saved / "notes.txt").read_text() == "mine"
    (saved / "notes.txt").unlink()
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_appears_at_the_very_swap_stays(saved, model, encoder, tmp_path, monkeypatch):
    """After the last check: what was put into the old model is found once it is out of the way."""
    before, free = {p.name: p.read_bytes() for p in saved.iterdir()}, module.check_free

    def late_arrival(folder, overwrite=False):
        found = free(folder, overwrite)
        (folder / "notes.txt").write_text("mine")
        return found

    monkeypatch.setattr(module, "check_free", late_arrival)
    with pytest.raises(FileExistsError, match=r"holds \['notes.txt'\] since just now"):
        save(model, encoder, {}, "new", saved, overwrite=True)
    assert (saved / "notes.txt").read_text() == "mine"
    (saved / "notes.txt").unlink()
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_place_that_is_taken_while_features_are_encoded_stays(model, encoder, tmp_path):
    """It was free when the run began; when it ends, another run's model stands there."""
    place = check_free(tmp_path / "model")
    save(model, encoder, {}, "the other run's", place)
    with pytest.raises(FileExistsError, match="exists already"):
        save(model, encoder, {}, "new", place)
    assert (place / "report.html").read_text() == "the other run's"


def test_a_calibration_that_some_row_will_need_is_asked_for(saved):
    """A row of other modalities than the method reads is answered by late fusion."""
    calibrations = config_in(saved)["calibrations"]
    del calibrations["late"]
    change_config(saved, {"calibrations": calibrations})
    with pytest.raises(ModelUnusable, match="calibrations holds what no model has"):
        load(saved)
