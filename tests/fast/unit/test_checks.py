"""The one validator room: what it lets through, and what its refusals name."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from mmtutor.checks import finite, one_of, positive, proper_fraction, shaped, whole_number


@pytest.mark.parametrize("value", [0, 7, np.int64(3), np.uint8(4)])
def test_whole_numbers_of_python_and_numpy_come_back_as_int(value):
    number = whole_number("k", value, 0, 7)
    assert type(number) is int and number == value


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "3", None, -1, 8])
def test_what_is_no_whole_number_of_the_range_is_refused_by_name(value):
    with pytest.raises(ValueError, match="k must be a whole number from 0 to 7, not ") as refusal:
        whole_number("k", value, 0, 7)
    assert repr(value) in str(refusal.value)


def test_a_range_may_be_open_above():
    assert whole_number("epochs", 10**9, 1) == 10**9
    with pytest.raises(ValueError, match="epochs must be a whole number of 1 or more, not 0"):
        whole_number("epochs", 0, 1)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "strong", None])
def test_what_is_no_finite_number_above_zero_is_refused_by_name(value):
    positive("rate", np.float32(0.5), " of hertz")
    with pytest.raises(ValueError, match="rate must be a finite number of hertz above 0, not "):
        positive("rate", value, " of hertz")


@pytest.mark.parametrize("value", [-0.1, 1, float("nan"), True, "half", None, [0.5]])
def test_what_is_no_proper_fraction_is_refused_by_name(value):
    proper_fraction("level", np.float32(0.5))
    proper_fraction("dropout", 0, zero=True)
    with pytest.raises(ValueError, match="level must be a number between 0 and 1, not "):
        proper_fraction("level", value)
    with pytest.raises(ValueError, match=r"dropout must be a number in \[0, 1\), not "):
        proper_fraction("dropout", value, zero=True)


def test_a_name_is_one_of_the_known_or_refused_with_all_of_them():
    assert one_of("voice", "en", {"en": 1, "yue": 2}) == "en"
    with pytest.raises(ValueError, match="unknown voice 'cmn'; known: en, yue"):
        one_of("voice", "cmn", (name for name in ("en", "yue")))


def test_a_shape_may_leave_lengths_open():
    shaped("x", torch.zeros(4, 3), ("B", 3))
    shaped("x", np.zeros((0, 3)), (0, 3))
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\), expected \(B, 2\): why"):
        shaped("x", torch.zeros(4, 3), ("B", 2), ": why")
    for other in (torch.zeros(3), torch.zeros(4, 3, 1)):  # too few axes, too many
        with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
            shaped("x", other, ("B", 3))


@pytest.mark.parametrize("sign", [1, -1])
def test_one_infinity_may_have_a_meaning_the_other_has_none(sign):
    infinity = sign * math.inf
    assert finite("cost", [1, infinity], 1, besides=infinity).tolist() == [1, infinity]
    for wrong in (-infinity, math.nan):
        with pytest.raises(ValueError, match=re.escape(f"NaN or {-infinity:+}, the first at (1,)")):
            finite("cost", [infinity, wrong], 1, besides=infinity)
    with pytest.raises(ValueError, match="NaN or infinite"):
        finite("cost", [infinity], 1)
