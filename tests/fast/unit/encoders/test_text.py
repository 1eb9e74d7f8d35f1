"""Texts of every kind → vectors; what is no text → an error that names it."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel
from transformers.utils import logging

from mmtutor.encoders import TextEncoder, text
from mmtutor.files.weights import locate

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = [
    "A dog runs along the beach.",
    "",
    "Two people sit at a table, laughing, while a waiter brings them a second bottle of wine.",
    "😀😀🎉",
    "一只狗在海滩上奔跑",
    "no",
]


def test_each_text_gets_its_own_vector_in_order(text_encoder):
    features = text_encoder.encode(TEXTS)
    assert features.shape == (6, 384)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert torch.cdist(features, features).fill_diagonal_(9).min() > 0.5
    for index, sentence in enumerate(TEXTS):
        torch.testing.assert_close(
            text_encoder.encode([sentence])[0], features[index], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_result_does_not_depend_on_batch_size(text_encoder, batch_size):
    other = TextEncoder(device="cpu", cache=False, batch_size=batch_size)
    other.model, other.tokenizer = text_encoder.model, text_encoder.tokenizer
    torch.testing.assert_close(
        other.encode(TEXTS), text_encoder.encode(TEXTS), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        other.tokens(TEXTS)[0], text_encoder.tokens(TEXTS)[0], rtol=1e-4, atol=1e-4
    )


def test_same_call_same_bits(text_encoder):
    assert torch.equal(text_encoder.encode(TEXTS), text_encoder.encode(TEXTS))


def test_empty_text_is_its_two_marks(text_encoder):
    assert text_encoder.pieces("") == ["[CLS]", "[SEP]"]
    hidden, mask = text_encoder.tokens(["", "a dog"])
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    torch.testing.assert_close(
        text_encoder.encode([""])[0], hidden[0, :2].mean(0), rtol=1e-4, atol=1e-5
    )


def test_tokens_average_to_the_vector_and_padding_is_zero(text_encoder):
    hidden, mask = text_encoder.tokens(TEXTS)
    assert hidden.shape == (6, len(text_encoder.pieces(TEXTS[2])), 384)
    assert mask.sum(1).tolist() == [len(text_encoder.pieces(sentence)) for sentence in TEXTS]
    assert torch.equal(hidden[~mask], torch.zeros_like(hidden[~mask]))
    mean = hidden.sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(mean, text_encoder.encode(TEXTS), rtol=1e-4, atol=1e-5)
    empty, none = text_encoder.tokens([])
    assert (empty.shape, none.shape) == ((0, 0, 384), (0, 0))


def test_long_text_is_cut_at_the_limit(text_encoder):
    words = ["dog", "beach", "wine", "table"] * 2500
    long = " ".join(words)
    assert len(text_encoder.pieces(long)) == 256
    assert torch.equal(text_encoder.encode([long]), text_encoder.encode([" ".join(words[:254])]))
    changed = " ".join([*words[:253], "guitar", *words[254:]])
    assert not torch.allclose(
        text_encoder.encode([long]), text_encoder.encode([changed]), atol=1e-4
    )


def test_a_lower_limit_is_kept_and_cached_apart(text_encoder):
    short = TextEncoder(device="cpu", max_tokens=8)
    short.model, short.tokenizer = text_encoder.model, text_encoder.tokenizer
    assert len(short.pieces(TEXTS[2])) == 8
    assert short.cache.folder != TextEncoder().cache.folder
    for limit in (2, 257, 0, -1, 9.5):
        with pytest.raises(ValueError, match=r"from 3 to 256, not .*: minilm has that limit"):
            TextEncoder(max_tokens=limit)


def test_emoji_and_chinese_are_defined(text_encoder):
    assert text_encoder.pieces("😀") == ["[CLS]", "[UNK]", "[SEP]"]
    assert len(text_encoder.pieces("一只狗")) == 5  # one piece per character, and the marks
    empty, emoji, chinese = text_encoder.encode(["", "😀", "一只狗"])
    assert emoji.isfinite().all() and chinese.isfinite().all()
    distances = torch.cdist(torch.stack([emoji, chinese]), torch.stack([empty, emoji]))
    assert distances[0, 0] > 0.5 and distances[1].min() > 0.5, (
        "neither is taken for a text without words"
    )


@pytest.mark.parametrize("bad", [None, 3, b"bytes", float("nan"), ["nested"]])
def test_what_is_no_text_is_a_type_error_with_its_index(bad):
    for method in (TextEncoder(cache=False).encode, TextEncoder().encode, TextEncoder().tokens):
        with pytest.raises(TypeError, match=f"sample 1 is a {type(bad).__name__}"):
            method(["a text", bad])


def test_one_text_instead_of_a_list_is_a_type_error():
    with pytest.raises(TypeError, match=r"write \[text\]"):
        TextEncoder().encode("a text")


@pytest.mark.parametrize("cached", [False, True])
def test_half_a_surrogate_pair_is_named(cached):
    with pytest.raises(ValueError, match="sample 2 is no valid text"):
        TextEncoder(cache=cached).encode(["a", "b", "\ud83d"])


def test_empty_list_gives_no_rows():
    assert TextEncoder().encode([]).shape == (0, 384)


def test_keys_of_other_samples_are_refused(text_encoder):
    keys = text_encoder.keys(["one", "two"])
    for few in (keys[:1], [], [*keys, keys[0]]):
        with pytest.raises(ValueError, match=f"{len(few)} keys for 2 samples"):
            text_encoder.encode(["one", "two"], keys=few)


def test_only_new_texts_run(text_encoder, monkeypatch):
    encoder = TextEncoder(device="cpu", batch_size=2)
    encoder.model, encoder.tokenizer = text_encoder.model, text_encoder.tokenizer
    seen = []
    original = encoder._run
    monkeypatch.setattr(encoder, "_run", lambda ids: (seen.append(len(ids)), original(ids))[1])
    first = encoder.encode(TEXTS)
    assert sum(seen) == 6
    again = encoder.encode([*TEXTS, "a new one", TEXTS[0]])
    assert sum(seen) == 7
    assert torch.equal(again[:6], first)
    assert torch.equal(again[7], first[0])
    torch.testing.assert_close(first, text_encoder.encode(TEXTS), rtol=1e-4, atol=1e-5)


def test_transformers_settings_are_left_as_they_were():
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    text.load(locate("minilm").parent)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.fixture
def small_bert(tmp_path, monkeypatch):
    """The folder of a BERT of BERT-base's width with one random layer, and the network."""
    folder = tmp_path / "bert"
    torch.manual_seed(0)
    BertModel(BertConfig(num_hidden_layers=1, intermediate_size=64)).eval().save_pretrained(folder)
    minilm = locate("minilm").parent  # its vocabulary is BERT-base's
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes((minilm / name).read_bytes())
    return folder, BertModel.from_pretrained(folder).eval()


def test_any_model_in_a_folder_is_read_as_the_mean_over_its_pieces(small_bert, tmp_path):
    folder, network = small_bert
    encoder = TextEncoder(str(folder), device="cpu", cache=tmp_path / "cache")
    features = encoder.encode(TEXTS)
    assert features.shape == (6, 768) and encoder.name == str(folder)
    for index, sentence in enumerate(TEXTS):
        ids = encoder.tokenizer.convert_tokens_to_ids(encoder.pieces(sentence))
        with torch.no_grad():
            mean = network(torch.tensor([ids])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(features[index], mean, rtol=1e-4, atol=1e-5)
    assert len(encoder.pieces("dog " * 10_000)) == 512
    assert encoder.cache.folder.parent == tmp_path / "cache", (
        "whatever the model's folder is called"
    )


def test_what_of_texts_is_not_read_is_counted(text_encoder):
    """In one sum; the marks at both ends are no pieces."""
    texts = ["", "a dog", "dog " * 300, "dog 😀 dog 😀", "cat " * 255]
    assert text_encoder.unread(texts) == {"cut": 2, "pieces": 2 + 300 + 4 + 255, "unknown": 2}
    assert text_encoder.unread([]) == text_encoder.unread([""]) == {
        "cut": 0, "pieces": 0, "unknown": 0
    }  # fmt: skip


@pytest.mark.parametrize("limit", [3, 8, 256])
def test_a_text_is_cut_where_one_word_more_changes_nothing(text_encoder, limit):
    encoder = TextEncoder(device="cpu", cache=False, max_tokens=limit)
    encoder.model, encoder.tokenizer = text_encoder.model, text_encoder.tokenizer
    for words in (limit - 3, limit - 2, limit - 1):  # two pieces are the marks
        text = "dog " * words
        one, more = encoder.encode([text, text + "guitar"])
        assert encoder.unread([text])["cut"] == (words > limit - 2)
        assert torch.equal(one, more) == (words >= limit - 2)
        assert encoder.unread([text])["pieces"] == words, "cut or not"


@pytest.mark.parametrize(
    ("text", "share"), [("😀😀🎉", 1), ("🤢 dog 🤢 cat", 0.5), ("一只狗", 2 / 3), ("naïve", 0)]
)
def test_unknown_pieces_are_those_that_the_network_sees_as_unknown(text_encoder, text, share):
    found, pieces = text_encoder.unread([text]), text_encoder.pieces(text)[1:-1]
    assert found["unknown"] == pieces.count("[UNK]") == share * found["pieces"]
    assert found["pieces"] == len(pieces)


def test_counting_needs_no_weights_and_leaves_the_tokenizer_as_it_was(caplog):
    encoder = TextEncoder(cache=False)
    before = encoder.pieces("dog " * 300)
    encoder.unread(["dog " * 3000])  # longer than the network's positions, which is no warning
    assert encoder.pieces("dog " * 300) == before and len(before) == 256
    assert "model" not in vars(encoder) and not caplog.records


def test_the_tokenizer_is_that_of_the_models_folder_and_is_read_once(small_bert):
    folder, _ = small_bert
    encoder = TextEncoder(str(folder), device="cpu", cache=False)
    assert encoder.tokenizer is encoder.tokenizer
    assert encoder.tokenizer.name_or_path == str(folder)
    assert encoder.unread(["dog " * 510, "dog " * 511, "😀"]) == {
        "cut": 1, "pieces": 510 + 511 + 1, "unknown": 1
    }  # fmt: skip


def test_a_tokenizer_without_an_unknown_piece_counts_none(small_bert):
    """As those that fall back to bytes."""
    encoder = TextEncoder(str(small_bert[0]), device="cpu", cache=False)
    encoder.tokenizer.unk_token = None
    assert encoder.unread(["a dog"]) == {"cut": 0, "pieces": 2, "unknown": 0}


def test_other_weights_in_the_same_folder_are_another_encoder(small_bert):
    folder, network = small_bert
    before = TextEncoder(str(folder)).cache.folder
    network.embeddings.word_embeddings.weight.data[0, 0] += 1
    network.save_pretrained(folder)
    assert TextEncoder(str(folder)).cache.folder != before


def test_absent_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="'cuda' was asked for"):
        TextEncoder(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_agrees_with_the_processor(text_encoder):
    features = TextEncoder(device="cuda", cache=False).encode(TEXTS)
    assert features.device.type == "cpu"
    torch.testing.assert_close(features, text_encoder.encode(TEXTS), rtol=1e-2, atol=1e-2)
