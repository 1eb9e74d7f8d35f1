"""The encoders against what others compute: ImageNet's classes, timm, torchvision,
sentence-transformers, numpy."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from scipy.special import erf
from skimage import data

from mmtutor.encoders import ImageEncoder, TextEncoder, image
from mmtutor.files.weights import locate

PHOTOGRAPHS = {
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "astronaut": data.astronaut,
}
# ImageNet-1k's published class numbers: 281 to 285 are the domestic cats, 504 coffee mug, 967
# espresso, 657 missile, 744 projectile.
CLASSES = {"chelsea": range(281, 286), "coffee": (504, 967), "rocket": (657, 744)}

SENTENCES = [
    "A man is playing a guitar on stage.",
    "Someone performs music with a stringed instrument.",
    "The stock market fell sharply on Monday.",
    "Share prices dropped at the start of the week.",
    "Bake the cake for forty minutes.",
    "",
    "One two three four five six seven eight nine ten. "
    * 15,  # 167 word pieces: past the 128 of the tokenizer's file
    "word " * 3000,
]


@pytest.fixture(scope="module")
def image_encoder():
    return ImageEncoder(device="cpu", cache=False)


@pytest.fixture(scope="module")
def text_encoder():
    return TextEncoder(device="cpu", cache=False)


@pytest.mark.parametrize("name", CLASSES)
def test_photographs_are_classified_rightly(image_encoder, name):
    with torch.no_grad():
        logits = image_encoder.model.classifier(image_encoder.encode([PHOTOGRAPHS[name]()]))
    assert int(logits.argmax()) in CLASSES[name]


def test_features_are_those_of_timms_own_pipeline(image_encoder):
    """timm's published transform and pooled output; the two ways of cutting differ by less than a
    pixel."""
    config = timm.data.resolve_data_config({}, model=image_encoder.model)
    transform = timm.data.create_transform(**config, is_training=False)
    pictures = [Image.fromarray(make()) for make in PHOTOGRAPHS.values()]
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    # without the classifier
    values = list(torch.load(locate("efficientnet-lite0"), weights_only=True).values())[:-2]
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    with torch.no_grad():
        expected = model.eval()(torch.stack([transform(picture) for picture in pictures]))
    found = image_encoder.encode(pictures)
    likeness = torch.nn.functional.cosine_similarity(found[:, None], expected[None], dim=2)
    assert likeness.diagonal().min() > 0.99
    assert likeness.fill_diagonal_(0).max() < 0.8


def test_pixels_are_timms_where_the_sizes_divide(image_encoder):
    config = timm.data.resolve_data_config({}, model=image_encoder.model)
    transform = timm.data.create_transform(**config, is_training=False)
    picture = Image.fromarray(data.astronaut())  # 512 × 512: halves to 256, of which 224 are kept
    assert (
        transform(picture) - image_encoder.preprocess(picture)
    ).abs().max() <= 2 / 127.5  # two grey levels


@pytest.fixture
def random_resnet(tmp_path, monkeypatch):
    """A ResNet-18 with random weights, among the known encoders."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    recipe = image.Recipe(512, "resnet18", 0.875, Image.Resampling.BILINEAR, mean, std)
    monkeypatch.setitem(image.RECIPES, "resnet18", recipe)
    monkeypatch.setitem(image.WEIGHTS, "resnet18", image.WEIGHTS["efficientnet-lite0"])
    monkeypatch.setattr(image, "locate", lambda _: tmp_path / "resnet18.pth")
    network.fc = torch.nn.Identity()
    return network.eval()


def test_resnet18_agrees_with_torchvision(random_resnet):
    transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    picture = Image.fromarray(data.astronaut())
    encoder = ImageEncoder("resnet18", device="cpu", cache=False)
    with torch.no_grad():
        exact = random_resnet(encoder.preprocess(picture)[None])
        published = random_resnet(transform(picture)[None])
    found = encoder.encode([picture])
    assert found.shape == (1, 512)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, published, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(encoder.grid([picture]).mean(1), found, rtol=1e-4, atol=1e-5)


def test_resnet18_sees_torchvisions_pixels(random_resnet):
    picture = Image.fromarray(data.astronaut())
    transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    seen = ImageEncoder("resnet18", device="cpu", cache=False).preprocess(picture)
    assert (seen - transform(picture)).abs().max() <= 2 / 255 / 0.224


def test_sentences_agree_with_sentence_transformers(text_encoder):
    """Its pipeline scales vectors to length one, ours leaves them; all else must agree, the cut at
    256 included."""
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="comes with the packaged weights"
    )
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    other = sentence_transformers.SentenceTransformer(str(locate("minilm").parent), device="cpu")
    expected = torch.from_numpy(other.encode(SENTENCES, show_progress_bar=False))
    found = torch.nn.functional.normalize(text_encoder.encode(SENTENCES))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def read_tables() -> dict[str, np.ndarray]:
    import safetensors.numpy

    return safetensors.numpy.load_file(locate("minilm"))


def bert_in_numpy(
    ids: list[int], w: dict[str, np.ndarray], heads: int = 12, layers: int = 6
) -> np.ndarray:
    """BERT's forward pass from its paper's equations, in float64: ids (T,) → last layer (T,
    384)."""

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ w[f"{name}.weight"].T.astype(float) + w[f"{name}.bias"]

    places = w["embeddings.position_embeddings.weight"][: len(ids)].astype(float)
    x = (
        w["embeddings.word_embeddings.weight"][ids]
        + places
        + w["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(ids), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])  # (heads, T, T)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = (share @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(
            x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def test_sentences_agree_with_bert_written_in_numpy(text_encoder):
    """Independent of transformers and torch: tables straight from the file, no padding, no
    batches."""
    vocabulary = (locate("minilm").parent / "vocab.txt").read_text(encoding="utf-8").split("\n")
    sentence = "a dog runs along the beach ."
    ids = [vocabulary.index(word) for word in ("[CLS] " + sentence + " [SEP]").split()]
    hidden = bert_in_numpy(ids, read_tables())
    found, mask = text_encoder.tokens([sentence, SENTENCES[0] * 3])
    assert mask[0].sum() == len(ids)
    np.testing.assert_allclose(found[0, : len(ids)].numpy(), hidden, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        text_encoder.encode([sentence])[0].numpy(), hidden.mean(0), rtol=1e-3, atol=1e-4
    )


def test_sentences_on_one_topic_are_nearer(text_encoder):
    unit = torch.nn.functional.normalize(text_encoder.encode(SENTENCES[:5]))
    likeness = unit @ unit.T
    for one, two in ((0, 1), (2, 3)):
        others = [i for i in range(5) if i not in (one, two)]
        assert likeness[one, two] > likeness[one, others].max() + 0.2
        assert likeness[one, two] > likeness[two, others].max() + 0.2


def test_pictures_like_each_other_are_nearer(image_encoder):
    names = list(PHOTOGRAPHS)
    pictures = [Image.fromarray(PHOTOGRAPHS[name]()) for name in names]
    mirrored = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
    unit = torch.nn.functional.normalize(image_encoder.encode(pictures + mirrored))
    likeness = unit[: len(names)] @ unit[len(names) :].T
    assert likeness.argmax(1).tolist() == list(range(len(names)))


def test_real_pictures_are_read_as_they_are(image_encoder):
    """Every file of the picture set can be read and gives a finite vector of its own."""
    from mmtutor.files import store

    try:
        folder = Path(store.find(store.manifest("oasis")))
    except store.DatasetUnavailable as reason:
        pytest.skip(f"oasis: {reason}")
    paths = sorted(folder.rglob("*.jpg"))[::50]
    features = image_encoder.encode(paths)
    assert len(paths) > 5
    assert features.isfinite().all()
    assert torch.cdist(features, features).fill_diagonal_(math.inf).min() > 1
