"""Run by test_training under python and under torchrun: train, then print the number of processes
and the weights."""

import os

import torch

from mmtutor.fusion import ConcatFusion, FusionClassifier
from mmtutor.training import fit
from mmtutor.types import Samples

g = torch.Generator().manual_seed(0)
x = {"a": torch.randn(121, 6, generator=g), "b": torch.randn(121, 4, generator=g)}
data = Samples(x, (x["a"][:, 0] * x["b"][:, 0] > 0).long())
torch.manual_seed(0)
model = FusionClassifier(ConcatFusion({"a": 6, "b": 4}), 2, hidden=5)
history = fit(model, data[:101], data[101:], epochs=4, lr=0.01, batch_size=10, device="cpu")
if int(os.environ.get("RANK", 0)) == 0:
    numbers = [history.validation_loss, *(p.flatten().tolist() for p in model.parameters())]
    print(os.environ.get("WORLD_SIZE", 1), *(f"{v:.6f}" for row in numbers for v in row))
