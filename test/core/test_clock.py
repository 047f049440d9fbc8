"""The clock of the images: steady, paused, jumping for one frame, and set anew."""

import pytest

from sparsematch_ros.clock import FrameClock
from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import BadFrameError

DAY_S = 86400.0


def run(stamps_s: list[float], max_gap_s: float = 5.0) -> str:
    """Write a letter a stamp: u used, g used after a gap, r refused, n the clock was set anew."""
    clock, answers = FrameClock(max_gap_s), ""
    for stamp in stamps_s:
        try:
            anew = clock.check(round(stamp * NANOSECONDS))
        except BadFrameError:
            answers += "r"
        else:
            answers += "n" if anew else "g" if clock.gap else "u"
    return answers


@pytest.mark.parametrize(
    ("stamps_s", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3], "uuuu"),
        ([0.0, 10.0, 20.0, 30.0], "uguu"),  # A camera of 0.1 Hz: its own step is no gap.
        ([0.0, 0.1, 0.2, 8.0, 8.1], "uuugu"),
        ([0.0, 0.1, 0.1, 0.2], "uuru"),
        ([0.0, 0.1, 0.3, 0.2, 0.4], "uuuru"),  # Two frames in the wrong order.
        ([0.0, 0.1, DAY_S, 0.2, 0.3], "uuruu"),
        ([DAY_S, 0.1, 0.2, 0.3, 0.4], "urrnu"),
        ([50.0, 50.1, 3.0, 3.1, 3.2, 3.3], "uurrnu"),
        ([0.0, 0.1, DAY_S, DAY_S + 0.1, DAY_S + 0.2, DAY_S + 0.3], "uurrnu"),
        ([0.0, 0.1, DAY_S, 2 * DAY_S, 3 * DAY_S + 7, 0.2], "uurrnr"),  # A frame a day is a rate as well.
        ([9.0, 9.1, 1.0, 5.0, 5.1, 5.2], "uurrrn"),
        ([9.0, 9.1, 1.0, 9.2, 1.1, 9.3, 1.2, 9.4], "uururur" + "u"),  # Two clocks on one topic.
    ],
)
def test_which_stamps_are_used(stamps_s, expected):
    assert run(stamps_s) == expected


def test_what_happened_to_the_clock_is_told():
    clock = FrameClock(5.0)
    for stamp in (100, 101):
        assert clock.check(stamp * NANOSECONDS) == ""
    for stamp in (41, 42):
        with pytest.raises(BadFrameError, match="goes back by"):
            clock.check(stamp * NANOSECONDS)
    assert clock.check(43 * NANOSECONDS) == "the clock of the images was set back by 58.000 s"
