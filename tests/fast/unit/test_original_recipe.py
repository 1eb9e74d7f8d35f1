"""The original recipe: its shapes, its size, and the count of its operations against one made by
hand."""

import pytest
import torch
from torch import nn

from mmtutor.original_recipe import OriginalRecipe, flops_per_sample, meta_inputs


@pytest.fixture(scope="module")
def shapes() -> OriginalRecipe:
    with torch.device("meta"):
        return OriginalRecipe(classes=3)


def test_it_is_resnet18_and_bert_base_and_one_linear_layer(shapes):
    count = {
        name: sum(p.numel() for p in part.parameters()) for name, part in shapes.named_children()
    }
    # torchvision's published size, less the removed layer
    assert count["image"] == 11_689_512 - (512 * 1000 + 1000)
    assert count["text"] == 109_482_240  # BERT-base uncased as published
    assert count["fusion"] == 0 and count["head"] == (512 + 768) * 3 + 3
    assert shapes(*meta_inputs(2)).shape == (2, 3)


def test_operations_of_a_linear_layer_by_hand():
    x = torch.empty(4, 1664, device="meta")
    linear = nn.Linear(1664, 3, device="meta")
    # forward and the weights' gradient: two passes of 2 · 1664 · 3; the input needs none
    assert flops_per_sample(linear, x) == 2 * (2 * 1664 * 3)


def test_operations_of_the_recipe_are_near_the_textbook_figure(shapes):
    flops = flops_per_sample(shapes, *meta_inputs(2))
    # forward: ResNet-18 at 224 px 1.82 G multiply-adds; BERT: 85 M weights × 48 tokens, attention
    # 12 · 2 · 48² · 768
    forward = 2 * (1.82e9 + 85e6 * 48 + 12 * 2 * 48**2 * 768)
    assert flops == pytest.approx(3 * forward, rel=0.05)  # backward costs twice the forward pass
    assert flops == flops_per_sample(shapes, *meta_inputs(4))


def test_no_token_means_padding(shapes):
    """transformers 4, which Colab brings, would look for such tokens by value, and shapes have
    none."""
    assert shapes.text.config.pad_token_id is None
    assert shapes.text.embeddings.word_embeddings.padding_idx is None


def test_it_trains_end_to_end():
    torch.manual_seed(0)
    model = OriginalRecipe(classes=3)
    pictures, tokens = torch.randn(2, 3, 32, 32), torch.randint(0, 1000, (2, 5))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    model(pictures, tokens, mask).sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None]
    assert still == []
    model.eval()
    changed = tokens.clone()
    changed[1, 3] += 1  # behind the mask
    with torch.no_grad():
        torch.testing.assert_close(model(pictures, changed, mask), model(pictures, tokens, mask))
