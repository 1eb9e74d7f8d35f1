"""Speech made on this machine, with known timing, and its cache. Taught in chapter 2."""

from mmtutor.speech.espeak import SAMPLE_RATE, SpeechUnavailable
from mmtutor.speech.synthesis import (
    VARIANTS,
    VOICES,
    Mark,
    Request,
    Utterance,
    add_noise,
    insert_pauses,
    speak,
    speak_all,
)

__all__ = [
    "SAMPLE_RATE",
    "VARIANTS",
    "VOICES",
    "Mark",
    "Request",
    "SpeechUnavailable",
    "Utterance",
    "add_noise",
    "insert_pauses",
    "speak",
    "speak_all",
]
