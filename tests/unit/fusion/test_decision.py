import torch

from mmtutor.fusion import decision

CONFIDENT = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
DOUBTFUL = torch.tensor([[0.5, 0.5], [0.6, 0.4]])


def test_average_is_the_mean_opinion_by_hand():
    out = decision.average({"image": CONFIDENT, "text": DOUBTFUL})
    torch.testing.assert_close(out, torch.tensor([[0.7, 0.3], [0.4, 0.6]]))


def test_average_asks_only_those_who_are_there():
    present = {"image": torch.tensor([True, False]), "text": torch.tensor([False, False])}
    out = decision.average({"image": CONFIDENT, "text": DOUBTFUL}, present)
    torch.testing.assert_close(out, torch.tensor([[0.9, 0.1], [0.5, 0.5]]))


def test_average_keeps_half_precision():
    out = decision.average({"image": CONFIDENT.bfloat16(), "text": DOUBTFUL.bfloat16()})
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), torch.tensor([[0.7, 0.3], [0.4, 0.6]]), atol=5e-3, rtol=0)
