import pytest
import torch

from mmtutor.fusion import ConcatFusion


def test_concat_lays_modalities_side_by_side_in_the_order_of_dims():
    fusion = ConcatFusion({"b": 1, "a": 2})
    out = fusion({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0]])})
    assert out.tolist() == [[3.0, 1.0, 2.0]]
    assert fusion.out_features == 3


def test_concat_puts_zero_where_a_modality_is_absent():
    fusion = ConcatFusion({"a": 2, "b": 1})
    x = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([[5.0], [6.0]])}
    out = fusion(x, {"a": torch.tensor([True, False])})
    assert out.tolist() == [[1.0, 2.0, 5.0], [0.0, 0.0, 6.0]]


@pytest.mark.parametrize("dims", [{}, {"a": 0}])
def test_concat_refuses_dims_that_hold_nothing(dims):
    with pytest.raises(ValueError, match="at least one modality"):
        ConcatFusion(dims)
