import math

import numpy as np
import pytest
import torch

from mmtutor.evaluation import Interval, accuracy, bootstrap_interval, macro_f1
from mmtutor.robustness import Curve, effective_robustness, relative_robustness, robustness_curve

Y = torch.arange(60) % 3
RIGHT = torch.eye(3)[Y]


def curve(severities: list[float], scores: list[float]) -> Curve:
    return Curve(severities, [Interval(s, s - 0.1, s + 0.1) for s in scores])


def spoilt(samples: torch.Tensor, severity: float) -> torch.Tensor:
    """The first `severity` of the samples get the next class: the accuracy is 1 - severity."""
    wrong = round(severity * len(samples))
    return torch.cat([samples[:wrong].roll(1, 1), samples[wrong:]])


def test_the_curve_holds_the_score_at_each_severity():
    seen = []

    def change(samples, severity):
        seen.append(severity)
        return spoilt(samples, severity)

    found = robustness_curve(lambda x: x, RIGHT, change, [0, 0.25, 0.5, 1], Y, accuracy)
    assert seen == found.severities == [0, 0.25, 0.5, 1]
    assert found.estimates == pytest.approx([1, 0.75, 0.5, 0])
    assert (found.scores[0].low, found.scores[0].high) == (1, 1)
    assert found.scores[2].low < 0.5 < found.scores[2].high


def test_labels_and_any_score_will_do_and_the_interval_is_the_bootstrap_of_that_score():
    found = robustness_curve(
        lambda x: x.argmax(1).numpy(),
        RIGHT,
        spoilt,
        np.array([0.3]),
        Y,
        macro_f1,
        level=0.8,
        seed=4,
        resamples=300,
    )
    columns = np.stack([spoilt(RIGHT, 0.3).argmax(1).numpy(), Y.numpy()], 1)
    expected = bootstrap_interval(
        columns, 0.8, seed=4, statistic=lambda r: macro_f1(r[:, 0], r[:, 1]), resamples=300
    )
    assert found.scores == [expected]


def test_groups_are_redrawn_whole():
    groups = np.arange(60) // 15  # four groups, one of them all wrong
    alone, grouped = (
        robustness_curve(lambda x: x, RIGHT, spoilt, [0.25], Y, accuracy, given).scores[0]
        for given in (None, groups)
    )
    assert grouped.estimate == alone.estimate == 0.75
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert grouped.low in (0.0, 0.25)  # shares of four groups


def test_every_severity_is_scored_on_the_same_redrawn_samples():
    a, b = robustness_curve(
        lambda x: x, RIGHT, lambda x, s: spoilt(x, 0.4), [0.2, 0.9], Y, accuracy
    ).scores
    assert a == b


def test_a_prediction_of_another_length_is_refused():
    with pytest.raises(
        ValueError, match=r"predict returned shape \(59, 3\) at severity 0.5, y has shape \(60,\)"
    ):
        robustness_curve(lambda x: x[1:], RIGHT, spoilt, [0.5], Y, accuracy)


@pytest.mark.parametrize(
    "severities", [[], [0.5, 0.5], [0.5, 0.2], [-0.1, 0.5], [0, 1.5], [math.nan], [0, math.nan]]
)
def test_severities_must_rise_within_the_range(severities):
    with pytest.raises(ValueError, match=r"severities are .*increasing, in \[0, 1\]"):
        robustness_curve(lambda x: x, RIGHT, spoilt, severities, Y, accuracy)
    with pytest.raises(ValueError, match="increasing"):
        curve(severities, [0.5] * len(severities))


def test_a_curve_needs_a_score_for_each_severity():
    with pytest.raises(ValueError, match="2 severities but 1 scores"):
        curve([0, 1], [0.5])


def test_effective_robustness_is_the_distance_to_doing_without():
    fusion = curve([0, 0.5, 1], [0.9, 0.8, 0.6])
    assert effective_robustness(fusion, 0.7) == pytest.approx([0.2, 0.1, -0.1])
    assert effective_robustness(fusion, curve([0, 0.5, 1], [0.7, 0.8, 0.5])) == pytest.approx(
        [0.2, 0.0, 0.1]
    )


def test_relative_robustness_is_the_share_of_the_clean_gain():
    fusion = curve([0, 0.4, 0.5, 1], [0.9, 0.8, 0.7, 0.6])
    assert relative_robustness(fusion, 0.7) == pytest.approx([1, 0.5, 0, -0.5])
    falling = curve([0, 0.4, 0.5, 1], [0.7, 0.7, 0.6, 0.4])
    assert relative_robustness(fusion, falling) == pytest.approx([1, 0.5, 0.5, 1])


def test_questions_without_an_answer_are_refused():
    fusion = curve([0, 0.5], [0.7, 0.6])
    for ask in (effective_robustness, relative_robustness):
        with pytest.raises(
            ValueError, match=r"over severities \[0, 1\], the curve over \[0, 0.5\]"
        ):
            ask(fusion, curve([0, 1], [0.6, 0.6]))
    for reference in (0.7, 0.8, math.nan):
        with pytest.raises(ValueError, match=r"clean gain is .*expected more than 0"):
            relative_robustness(fusion, reference)
    with pytest.raises(ValueError, match=r"begins at severity 0.1, expected 0"):
        relative_robustness(curve([0.1, 0.5], [0.7, 0.6]), 0.5)
