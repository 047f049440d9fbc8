"""NOS3's generic_adcs: the CCSDS command packets that set its inertial quaternion and its mode.

The header is big-endian; the four doubles of `Generic_ADCS_Quat_cmd_t.qbn` stand packed behind it in the processor's
own order, little-endian as its ground system sends them (`GENERIC_ADCS_CMD.txt`), vector part first. The mode takes an
attitude alone and brakes the body's rate to zero: a moving target is followed with a lag.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import ArrayLike

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.pointing.conventions import rotation

# GENERIC_ADCS_CMD_MID, and the function codes and mode of generic_adcs_msg.h and generic_adcs_adac.h.
COMMAND_ID = 0x1940
SET_MODE = 2
INERTIAL_QUATERNION = 9
INERTIAL_MODE = 3
# CCSDS sequence flags: a packet of its own.
STANDALONE = 0xC000


def inertial_quaternion_command(q_NB_xyzw: ArrayLike, sequence: int = 0) -> bytes:
    """Make the packet of 40 bytes that sets the quaternion which INERTIAL_MODE goes to.

    Args:
        q_NB_xyzw: `(4,)` attitude, `v_N = q v_B`.
        sequence: CCSDS sequence count, 0 to 16383.

    Raises:
        SparsematchError: where the quaternion is none or the count is out of range.

    """
    rotation(q_NB_xyzw)
    return _packet(INERTIAL_QUATERNION, struct.pack("<4d", *np.asarray(q_NB_xyzw, dtype=np.float64)), sequence)


def inertial_mode_command(sequence: int = 0) -> bytes:
    """Make the packet of 9 bytes that switches to INERTIAL_MODE."""
    return _packet(SET_MODE, bytes([INERTIAL_MODE]), sequence)


def _packet(function_code: int, payload: bytes, sequence: int) -> bytes:
    """Put the primary header (length: bytes behind it, less 1) and the command header with checksum 0 before it."""
    if not 0 <= sequence < 0x4000:
        raise SparsematchError(f"sequence count {sequence}: must be in [0, 16383]")
    return struct.pack(">HHHBB", COMMAND_ID, STANDALONE | sequence, len(payload) + 1, function_code, 0) + payload
