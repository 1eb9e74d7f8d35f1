"""Speech: the same samples wherever it is made, times that fit the sound, and errors that say what
to do."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
import torch

from mmtutor import speech
from mmtutor.encoders.cache import CacheNotWritable
from mmtutor.speech import (
    Request,
    SpeechUnavailable,
    add_noise,
    espeak,
    insert_pauses,
    speak,
    speak_all,
)
from mmtutor.speech.timing import cut_open

HASH = "import hashlib; h = lambda u: hashlib.sha256(u.waveform.numpy().tobytes()).hexdigest()\n"
SPEAK = "from mmtutor.speech import speak\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speech"


def digest(utterance):
    return hashlib.sha256(utterance.waveform.numpy().tobytes()).hexdigest()


def in_another_process(code):
    done = subprocess.run(
        [sys.executable, "-c", HASH + SPEAK + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def rms(utterance, start, end):
    rate = utterance.sample_rate
    return utterance.waveform[round(start * rate) : round(end * rate)].square().mean().sqrt().item()


def fundamental(utterance):
    """The frequency, 60 to 350 Hz, whose period the loudest 100 ms repeat best."""
    loudest = max(1100, int(utterance.waveform.abs().argmax()))
    piece = utterance.waveform[loudest - 1100 : loudest + 1100]
    spectrum = torch.fft.rfft(piece, 4 * len(piece)).abs().square()
    repeats = torch.fft.irfft(spectrum)  # the autocorrelation
    first, last = utterance.sample_rate // 350, utterance.sample_rate // 60
    return utterance.sample_rate / (first + int(repeats[first:last].argmax()))


def refuse(*_args, **_keywords):
    raise OSError("a privilege is missing")


# Always the same sound


def test_the_same_in_another_order():
    asked = [
        ("seven", "en-us", None),
        ("seven stars", "en-029", "f1"),
        ("世界", "cmn", "m3"),
        ("seven", "en-us", "m8"),
    ]
    forth = [digest(speak(*one, cache=False)) for one in asked]
    back = [digest(speak(*one, cache=False)) for one in reversed(asked)]
    assert forth == back[::-1] and len(set(forth)) == 4


@pytest.mark.processes
def test_the_same_in_another_process():
    # cmn+f2 is a breathy voice: its noise comes from espeak's own generator, which starts from the
    # clock unless told.
    asked = [("seven stars", "cmn", "f2"), ("nine lives", "en-gb-x-rp", "f4", 140, 70)]
    code = (
        f"speak('warm up', 'yue', cache=False)\nfor one in {asked}: print(h(speak(*one,"
        " cache=False)))"
    )
    assert in_another_process(code) == [digest(speak(*one, cache=False)) for one in asked]


@pytest.mark.parametrize("links", [True, False])
def test_the_same_alone_and_in_a_batch(links, monkeypatch):
    asked = [
        Request("seven, 世界, 3.5", voice, variant)
        for voice in speech.VOICES
        for variant in ("f2", "m3", "m6", None)
    ]
    alone = [
        digest(speak(request.text, request.voice, request.variant, cache=False))
        for request in asked
    ]
    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    assert [digest(utterance) for utterance in speak_all(asked, cache=False)] == alone
    assert len(asked) >= espeak._MANY and len(set(alone)) == len(asked)


def test_the_same_from_four_threads_at_once():
    words = [f"{word} {other}" for word in ("one", "two") for other in ("sheep", "goats")]
    expected = [digest(speak(word, cache=False)) for word in words]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda word: digest(speak(word, cache=False)), words * 5))
    assert found == expected * 5


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_same_in_a_child_forked_while_a_thread_speaks():
    code = (
        "import os, threading\n"
        "expected = h(speak('hello', cache=False)); stop = threading.Event()\n"
        "def talk():\n"
        "    while not stop.is_set(): speak('on and on and on', cache=False)\n"
        "thread = threading.Thread(target=talk); thread.start()\n"
        "for _ in range(5):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0 if h(speak('hello', cache=False)) == expected else 3)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "stop.set(); thread.join()"
    )
    assert in_another_process(code) == ["0"] * 5


def test_the_same_while_somebody_else_holds_the_library():
    expected = digest(speak("seven stars", cache=False))
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    heard = []
    listen = espeak._Callback(lambda wave, n_samples, events: heard.append(n_samples) or 0)
    try:
        folder = os.fsencode(Path(espeakng_loader.get_data_path()).parent)
        assert library.espeak_Initialize(2, 0, folder, 0x8000) == 22050
        library.espeak_SetSynthCallback(listen)
        library.espeak_Synth(b"one", 4, 0, 0, 0, 1, None, None)
        before = sum(heard)
        assert digest(speak("seven stars", cache=False)) == expected
        library.espeak_Synth(b"two", 4, 0, 0, 0, 1, None, None)  # and theirs was left alone
        assert sum(heard) > before > 1000
    finally:
        library.espeak_Terminate()
        (
            espeak._ctypes.dlclose(library._handle)
            if os.name == "posix"
            else espeak._ctypes.FreeLibrary(library._handle)
        )


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="what is loaded is read from /proc"
)
def test_nothing_stays_loaded():
    speak_all([Request("seven")] * 3, cache=False)
    assert "espeak" not in Path("/proc/self/maps").read_text()


def test_data_under_a_path_that_espeak_would_cut_off(tmp_path, monkeypatch):
    expected = digest(speak("seven", cache=False))
    deep = tmp_path / ("d" * 150) / "espeak-ng-data"
    deep.parent.mkdir()
    deep.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep))
    assert digest(speak("seven", cache=False)) == expected


# What is said when


def test_words_and_phonemes_of_an_english_sentence():
    spoken = speak("Seven cats, one dog.")
    assert [word.text for word in spoken.words] == ["Seven", "cats", "one", "dog"]
    assert [p.text for p in spoken.phonemes if p.start < spoken.words[0].end] == [
        "s",
        "ˈɛ",
        "v",
        "ə",
        "n",
    ]
    assert spoken.waveform.dtype == torch.float32 and spoken.sample_rate == 22050
    for marks in (spoken.words, spoken.phonemes):
        times = [time for mark in marks for time in (mark.start, mark.end)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= spoken.duration


@pytest.mark.parametrize(
    ("text", "voice", "before"), [("Stop, go", "en-us", 0), ("你好，世界", "cmn", 0)]
)
def test_between_two_words_at_a_comma_is_silence(text, voice, before):
    spoken = speak(text, voice)
    first, second = spoken.words[before : before + 2]
    assert second.start - first.end > 0.1
    gap = rms(spoken, first.end + 0.02, second.start - 0.02)
    assert gap < 0.02 * min(
        rms(spoken, first.start, first.end), rms(spoken, second.start, second.end)
    )


def test_a_word_lasts_as_long_as_the_rate_asks_for():
    slow, fast = (speak("seven brave stars", rate=rate) for rate in (120, 240))
    assert slow.duration > 1.6 * fast.duration
    ratios = [a.start / b.start for a, b in zip(slow.words[1:], fast.words[1:], strict=True)]
    assert all(1.5 < ratio < 2.6 for ratio in ratios)


def test_chinese_words_are_their_characters():
    spoken = speak("今天天气很好", "cmn")
    assert [word.text for word in spoken.words] == ["今", "天", "天", "气", "很好"]
    assert [word.text for word in speak("你好世界", "yue").words] == list("你好世界")


def test_what_is_read_as_several_words_is_one_written_word():
    spoken = speak("hi 😀 there, cats cost 3.5 or 10,000 and don't")
    assert (
        " ".join(word.text for word in spoken.words)
        == "hi 😀 there cats cost 3.5 or 10,000 and don't"
    )


def test_pitch_volume_and_voices_are_heard():
    low, high = (fundamental(speak("aah", pitch=pitch)) for pitch in (10, 90))
    assert 50 < low < high / 1.3
    half, full = (rms(speak("aah", volume=volume), 0, 0.3) for volume in (50, 100))
    assert half / full == pytest.approx(0.5, abs=0.05)
    spoken = speak_all(
        [Request("seven", voice, v) for voice in list(speech.VOICES)[:4] for v in speech.VARIANTS]
    )
    assert len({digest(utterance) for utterance in spoken}) == 4 * 13


def test_pauses_are_silence_and_move_the_times_exactly():
    plain, paused = (
        speak("one brave new world"),
        speak("one brave new world", pauses={1: 100, 3: 250.5}),
    )
    added = [0, round(0.1 * 22050), round(0.1 * 22050), round(0.1 * 22050) + round(0.2505 * 22050)]
    for before, after, samples in zip(plain.words, paused.words, added, strict=True):
        assert round((after.start - before.start) * 22050) == samples
        assert after.end - after.start == pytest.approx(before.end - before.start, abs=1e-9)
    assert len(paused.waveform) - len(plain.waveform) == added[-1]
    assert rms(paused, paused.words[1].start - 0.1, paused.words[1].start) == 0
    assert [p.text for p in paused.phonemes] == [p.text for p in plain.phonemes]
    # No click: at a cut the sound changes no faster than it does elsewhere.
    cut = round(paused.words[3].start * 22050)
    jumps = paused.waveform.diff().abs()
    assert (
        jumps[cut - 5600 : cut + 60].max() <= jumps.max()
        and jumps[cut - 1 : cut + 1].max() < 0.1 * jumps.max()
    )


def test_sound_fades_to_nothing_at_a_cut_and_no_further_than_two_milliseconds():
    sound, _ = cut_open(np.ones(1000), [], [(400, 7)])
    fade = 44  # 2 ms
    assert (sound[: 400 - fade] == 1).all() and (sound[407 + fade :] == 1).all()
    assert (sound[399:408] == 0).all() and 0 < sound[398] < sound[390] < 1
    np.testing.assert_array_equal(sound[400 - fade : 400], sound[407 : 407 + fade][::-1])
    np.testing.assert_allclose(sound[407 : 407 + fade], np.arange(fade) / fade)


def test_one_number_puts_a_pause_before_every_word_but_the_first():
    plain = speak("one brave new world")
    assert speak("one brave new world", pauses=200).duration == pytest.approx(
        plain.duration + 0.6, abs=1e-3
    )
    assert insert_pauses(plain, 0.0) is plain and insert_pauses(plain, {}) is plain


@pytest.mark.parametrize(
    ("pauses", "error", "match"),
    [
        ({4: 10}, IndexError, "word 4"),
        (-1.0, ValueError, "from 0"),
        ({0: float("nan")}, ValueError, "from 0"),
    ],
)
def test_impossible_pauses(pauses, error, match):
    with pytest.raises(error, match=match):
        speak("one brave new world", pauses=pauses)


# Bad input


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"voice": "en-gb"},
            "unknown voice 'en-gb'; known: en-us, en-gb-x-rp, en-gb-scotland, en-029, cmn, yue",
        ),
        ({"variant": "+f1"}, "unknown variant.*f1, f2"),
        ({"variant": "m9"}, "unknown variant"),
        ({"rate": 20}, "rate must be a whole number from 80 to 450"),
        ({"rate": 175.5}, "rate must be"),
        ({"pitch": 100}, "pitch must be a whole number from 0 to 99"),
        ({"volume": float("nan")}, "volume must be"),
        ({"text": ""}, "something to say"),
        ({"text": " \n\t"}, "something to say"),
        ({"text": None}, "something to say"),
        ({"text": "a\0b"}, "NUL"),
        ({"text": "\ud83d"}, "surrogate"),
    ],
)
def test_what_cannot_be_asked_for(fields, match):
    with pytest.raises(ValueError, match=match):
        speak(**{"text": "seven"} | fields)


def test_voices_are_those_that_can_be_asked_for():
    assert tuple(speech.VOICES) == ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "cmn", "yue")


def test_text_with_nothing_to_say_is_a_short_silence():
    spoken = speak("...")
    assert spoken.words == () and spoken.phonemes == () and 0 < spoken.duration < 0.05
    assert not spoken.waveform.any()
    assert insert_pauses(spoken, 100).duration == spoken.duration


def test_ten_thousand_words_are_spoken_to_the_end():
    text = " ".join(["ho", "hum"] * 5000)
    spoken = speak(text, rate=450, cache=False)
    assert len(spoken.words) == 10_000 and {word.text for word in spoken.words} == {"ho", "hum"}
    assert rms(spoken, spoken.words[-1].start, spoken.words[-1].end) > 0.01
    assert spoken.duration - spoken.words[-1].end < 0.1


def test_a_word_of_ten_thousand_letters_and_markup_are_read_out():
    assert speak("x" * 10_000, rate=450, cache=False).duration > 10
    assert len(speak("<speak> hi </speak>").words) > 1


# espeak-ng is not there


def missing_library(monkeypatch, tmp_path):
    monkeypatch.setattr(
        espeakng_loader, "get_library_path", lambda: str(tmp_path / "libespeak-ng.so")
    )


def other_library(monkeypatch, tmp_path):
    name = (
        "msvcrt.dll"
        if os.name == "nt"
        else "libc.dylib"
        if sys.platform == "darwin"
        else "libc.so.6"
    )
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: name)


def no_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)


def no_data(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("data path not exists")

    monkeypatch.setattr(espeakng_loader, "get_data_path", fail)


def empty_data(monkeypatch, tmp_path):
    (tmp_path / "espeak-ng-data").mkdir()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "espeak-ng-data"))


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (missing_library, "libespeak-ng.so cannot be loaded"),
        (other_library, "espeak_ng_SetRandSeed"),
        (no_package, "espeakng-loader cannot be used .*espeakng_loader"),
        (no_data, "data path not exists"),
        (empty_data, "did not start with the data"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_what_to_install(broken, match, monkeypatch, tmp_path):
    broken(monkeypatch, tmp_path)
    with pytest.raises(SpeechUnavailable, match=match) as caught:
        speak("seven", cache=False)
    assert "pip install 'espeakng-loader" in str(caught.value)


def test_a_build_without_a_voice_is_named(monkeypatch):
    monkeypatch.setitem(speech.VOICES, "en-xx", "English, of nowhere")
    with pytest.raises(SpeechUnavailable, match="no voice 'en-xx'"):
        speak("seven", "en-xx", cache=False)
    assert digest(speak("seven", cache=False)) == digest(speak("seven", cache=False))


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def fail(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", fail)
    with pytest.raises(SpeechUnavailable, match="espeakng-loader cannot be used"):
        speak("seven")


# The cache


def test_a_second_time_nothing_is_synthesised(cache, monkeypatch):
    asked = [Request("seven"), Request("世界", "cmn")]
    first = speak_all(asked)
    monkeypatch.setattr(espeak, "synthesise", lambda asked: pytest.fail(f"spoke again: {asked}"))
    second = speak_all(asked)
    assert [(digest(u), u.words, u.phonemes) for u in first] == [
        (digest(u), u.words, u.phonemes) for u in second
    ]
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_another_request_or_another_library_is_another_file(cache, monkeypatch):
    speak("seven")
    speak("seven", pitch=51)
    monkeypatch.setattr(metadata, "version", lambda name: "99")
    speak("seven")
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "other"])
def test_a_damaged_file_is_made_again(damage, cache):
    expected = digest(speak("seven"))
    (path,) = cache.iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(
        {"cut": content[:middle], "flip": flipped, "empty": b"", "text": b"hello"}.get(damage, b"")
    )
    if damage == "other":
        with path.open("wb") as file:
            np.savez(
                file,
                samples=np.zeros(3, np.int16),
                lengths=np.array([9]),
                marks=np.frombuffer(b"[]", np.uint8),
            )
    assert digest(speak("seven")) == expected
    assert path.stat().st_size == len(content)
    assert list(cache.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MMTUTOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheNotWritable, match="MMTUTOR_CACHE"):
        speak("seven")
    assert speak("seven", cache=False).duration > 0.2


def test_an_interrupted_write_leaves_nothing(cache, monkeypatch):
    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmtutor.files.whole.os.replace", fail)
    with pytest.raises(CacheNotWritable, match="No space left"):
        speak("seven")
    assert list(cache.iterdir()) == []


@pytest.mark.processes
def test_two_processes_that_speak_at_once_leave_one_whole_file(cache):
    code = HASH + SPEAK + "print(h(speak('seven stars')))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert said == [digest(speak("seven stars", cache=False))] * 2
    assert len(list(cache.iterdir())) == 1 and digest(speak("seven stars")) == said[0]


def test_nothing_asked_is_nothing_said(cache):
    assert speak_all([]) == [] and not cache.exists()


# Noise


@pytest.mark.parametrize("snr_db", [-16.0, 0.0, 10.0])
def test_noise_has_the_power_asked_for_in_each_row(snr_db):
    time = torch.arange(200_000) / 22050
    signal = torch.stack([torch.sin(1000 * time), 0.1 * torch.sin(3000 * time)])
    noise = add_noise(signal, snr_db, torch.Generator().manual_seed(0)) - signal
    measured = 10 * torch.log10(signal.square().mean(-1) / noise.square().mean(-1))
    torch.testing.assert_close(measured, torch.full((2,), snr_db), atol=0.05, rtol=0)
    spectrum = torch.fft.rfft(noise[0]).abs().square()
    # white
    assert spectrum[:50_000].mean() / spectrum[50_000:].mean() == pytest.approx(1, abs=0.03)


def test_noise_comes_from_its_generator():
    signal = torch.ones(100)
    same, again, other = (
        add_noise(signal, 0.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(same, again) and not torch.equal(same, other)
    assert torch.equal(add_noise(signal, float("inf"), torch.Generator()), signal)


@pytest.mark.parametrize(
    ("waveform", "snr_db", "match"),
    [
        (torch.zeros(100), 0.0, "silent"),
        (torch.stack([torch.ones(9), torch.zeros(9)]), 0.0, "silent"),
        (torch.empty(0), 0.0, "not empty"),
        (torch.tensor([1.0, float("nan")]), 0.0, "NaN or inf"),
        (torch.ones(9, dtype=torch.int16), 0.0, "noise: torch.int16, expected float tensors"),
        (torch.ones(9), float("nan"), "decibels"),
        (torch.ones(9), float("-inf"), "decibels"),
    ],
)
def test_noise_needs_a_signal(waveform, snr_db, match):
    error = ValueError if waveform.is_floating_point() else TypeError
    with pytest.raises(error, match=match):
        add_noise(waveform, snr_db, torch.Generator())
