"""From raw signals to vectors: a frozen pretrained network per modality, its features cached by
content.

Every encoder has `.name`, `.dim` and `.encode(samples) -> Tensor (N, D)`. The libraries that carry
the networks are imported when a network is first needed.
"""

from mmtutor.encoders.audio import AudioEncoder
from mmtutor.encoders.image import ImageEncoder
from mmtutor.encoders.text import TextEncoder
from mmtutor.files.weights import EncoderUnavailable

__all__ = ["AudioEncoder", "EncoderUnavailable", "ImageEncoder", "TextEncoder"]
