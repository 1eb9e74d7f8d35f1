import torch

from mmtutor.fusion import ConcatFusion, FusionClassifier

X = {"a": torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), "b": torch.ones(5, 1)}


def test_linear_head_is_one_matrix_product():
    model = FusionClassifier(ConcatFusion({"a": 2, "b": 1}), classes=4).eval()
    linear = model.head[-1]
    expected = torch.cat([X["a"], X["b"]], 1) @ linear.weight.T + linear.bias
    torch.testing.assert_close(model(X), expected)


def test_hidden_layer_and_masks_reach_the_fusion():
    model = FusionClassifier(ConcatFusion({"a": 2, "b": 1}), classes=4, hidden=8, dropout=0.5).eval()
    assert sum(p.numel() for p in model.parameters()) == (3 * 8 + 8) + (8 * 4 + 4)
    absent = {"a": torch.zeros(5, dtype=torch.bool)}
    rows = model(X, absent)
    torch.testing.assert_close(rows, rows[:1].expand(5, -1))
