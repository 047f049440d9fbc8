"""42's command script (`Inp_Cmd.txt`): `<SimTime> SC[<i>] qrn = [q0 q1 q2 q3]`, vector part first.

`FswCmdInterpreter` in 42's `Source/42fsw.c` reads the line. `qrn` is an attitude alone: 42 takes its rate as zero, so a
moving target is followed by lines that come often enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import rotation
from sparsematch_ros.pointing.slew import Slew

# 42 reads a line into 512 characters and takes a first blank for a comment.
HEADER = "<<<<<<<<<<<<<<<<<  42:  Command Script File  >>>>>>>>>>>>>>>>>"


def command_line(time_s: float, q_NR_xyzw: ArrayLike, spacecraft: int = 0) -> str:
    """Write the line that commands an inertial attitude.

    Args:
        time_s: 42's SimTime at which it is executed [s].
        q_NR_xyzw: `(4,)` attitude, `v_N = q v_R`.
        spacecraft: number of the spacecraft in 42.

    Raises:
        SparsematchError: where the quaternion is none or the time is not finite and positive.

    """
    if not 0.0 <= time_s < np.inf:
        raise SparsematchError(f"time {time_s} s: 42 counts from 0")
    rotation(q_NR_xyzw)
    # Rounded and with 0 added, so that none reads -0.
    numbers = " ".join(f"{round(value, 12) + 0.0:.12f}" for value in np.asarray(q_NR_xyzw, dtype=np.float64).tolist())
    return f"{time_s:.6f} SC[{spacecraft}] qrn = [{numbers}]"


def slew_lines(slew: Slew, start_s: float, step_s: float, spacecraft: int = 0) -> list[str]:
    """Write a line every `step_s` [s] along a slew that begins at SimTime `start_s` [s], and one for its end.

    Raises:
        SparsematchError: where the step is not above 0.

    """
    if not step_s > 0.0:
        raise SparsematchError(f"step {step_s} s: must be above 0")
    times_s = np.append(np.arange(0.0, slew.duration_s, step_s), slew.duration_s)
    attitudes = slew.reference(times_s).q_NR_xyzw
    return [command_line(start_s + time_s, q, spacecraft) for time_s, q in zip(times_s.tolist(), attitudes)]


def script(lines: Sequence[str]) -> str:
    """Write the file: 42 skips its first line and stops at `EOF`."""
    return "\n".join([HEADER, *lines, "EOF", ""])
