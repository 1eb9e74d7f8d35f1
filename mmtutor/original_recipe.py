"""The original recipe: what the article that this project grew from sketches, kept runnable.

ResNet-18 (ImageNet, last layer removed) and BERT-base (pooler output), concatenated, one linear
layer, everything trained with Adam at 1e-3. The article pairs the same texts with every batch and
draws its labels at random; here the caller brings real pairs and labels.

Taught in chapter 1.
"""

import torch
from torch import Tensor, nn

from mmtutor.fusion import ConcatFusion

IMAGE_FEATURES, TEXT_FEATURES = 512, 768


class OriginalRecipe(nn.Module):
    """logits = W · [resnet18(image); bert(text)] + b, trained end to end.

    image: (B, 3, H, W) float; tokens: (B, T) int64 WordPiece ids; mask: (B, T) int, 1 for real
    tokens, None: all are → (B, classes). The networks start from random weights, since this class
    is here to be measured: a step costs the same whatever they are. He et al. 2016 (arXiv
    1512.03385); Devlin et al. 2019 (arXiv 1810.04805).
    """

    def __init__(self, classes: int = 10) -> None:
        """Build both networks with random weights; 121 M parameters."""
        from torchvision.models import resnet18
        from transformers import BertConfig, BertModel

        super().__init__()
        self.image = resnet18(weights=None)
        self.image.fc = nn.Identity()  # (B, 512)
        # BERT-base is the default configuration. Plain attention, and no id that means padding (the
        # mask says where it is), so that operations can be counted from shapes alone: transformers
        # 4 looks for that id among the tokens.
        config = BertConfig(attn_implementation="eager", pad_token_id=None)  # type: ignore[call-arg]
        self.text = BertModel(config)
        self.fusion = ConcatFusion({"image": IMAGE_FEATURES, "text": TEXT_FEATURES})
        self.head = nn.Linear(self.fusion.out_features, classes)

    def forward(self, image: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, classes)."""
        text = self.text(input_ids=tokens, attention_mask=mask).pooler_output  # (B, 768)
        return self.head(self.fusion({"image": self.image(image), "text": text}))


def flops_per_sample(model: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply-adds, counted as two operations each, of forward and backward divided by
    the batch size.

    Counted by torch.utils.flop_counter from shapes alone, so models and inputs may live on the
    "meta" device, which takes neither time nor memory; the count is the same on every machine.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(*inputs).sum().backward()
    return counter.get_total_flops() // len(inputs[0])


def meta_inputs(batch: int, size: int = 224, tokens: int = 48) -> tuple[Tensor, Tensor]:
    """Return shapes only: pictures (batch, 3, size, size) and token ids (batch, tokens), on the
    "meta" device."""
    return (
        torch.empty(batch, 3, size, size, device="meta"),
        torch.zeros(batch, tokens, dtype=torch.long, device="meta"),
    )
