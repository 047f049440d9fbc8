"""The clock of the images: which stamps continue it, which are wrong, and when it was set anew."""

from __future__ import annotations

from itertools import pairwise

from sparsematch_ros.data import NANOSECONDS
from sparsematch_ros.errors import BadFrameError

# A stamp further ahead than a pause of a camera [s], and than so many of the last steps, does not continue the clock.
_LONGEST_PAUSE_S = 60.0
_MOST_STEPS = 3.0
# So many stamps in a row that continue each other, but not the clock, are the clock set anew.
_CONSISTENT = 3


class FrameClock:
    """Follows the stamps of the frames that are used.

    Attributes:
        gap: whether images are missing before the last frame.

    """

    def __init__(self, max_gap_s: float) -> None:
        """Start without a stamp; a step longer than `max_gap_s`, and than a slow camera's own, is a gap."""
        self.gap = False
        self._max_gap_ns = max_gap_s * NANOSECONDS
        self._last_ns: int | None = None
        self._step_ns = 0
        self._others_ns: list[int] = []

    def check(self, stamp_ns: int) -> str:
        """Take the next frame's stamp.

        Returns:
            "" where it continues the clock; else what happened to the clock, which starts anew with this frame.

        Raises:
            BadFrameError: where the frame must be left out: its stamp repeats, goes back or is far ahead, and the two
                before it do not say the same.

        """
        if self._last_ns is None:
            self._last_ns = stamp_ns
            return ""
        if self._continues(stamp_ns - self._last_ns):
            self._accept(stamp_ns, stamp_ns - self._last_ns)
            return ""
        step_s = (stamp_ns - self._last_ns) / NANOSECONDS
        what = (
            "repeats" if step_s == 0 else f"goes back by {-step_s:.6f} s" if step_s < 0 else f"is {step_s:.3f} s ahead"
        )
        if step_s == 0 or not self._set_anew(stamp_ns):
            raise BadFrameError(f"stamp {stamp_ns / NANOSECONDS:.6f} s {what}: stamps must grow steadily")
        self._accept(stamp_ns, stamp_ns - self._others_ns[-2])
        return f"the clock of the images was set {'back' if step_s < 0 else 'ahead'} by {abs(step_s):.3f} s"

    def _accept(self, stamp_ns: int, step_ns: int) -> None:
        self.gap = step_ns > max(self._max_gap_ns, _MOST_STEPS * self._step_ns)
        self._last_ns, self._step_ns, self._others_ns = stamp_ns, step_ns, []

    def _continues(self, step_ns: int) -> bool:
        return 0 < step_ns <= max(_LONGEST_PAUSE_S * NANOSECONDS, _MOST_STEPS * self._step_ns)

    def _set_anew(self, stamp_ns: int) -> bool:
        """Remember a stamp that does not continue the clock; test whether enough of them continue each other."""
        others = [*self._others_ns, stamp_ns]
        steps = [after - before for before, after in pairwise(others)]
        if any(step <= 0 for step in steps) or (steps and max(steps) > _MOST_STEPS * min(steps)):
            others = others[-2:] if steps[-1] > 0 else others[-1:]
        self._others_ns = others
        return len(others) >= _CONSISTENT
