"""Depth of samples: set, found, padded, grown, and what the networks and the detector get of it."""

import numpy as np
import pytest

from sparsematch_ros.data import Frame
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.media.depth import SampleDepth


def image(largest: int, shift: int = 0, dtype: type = np.uint16) -> np.ndarray:
    """Make a ramp `(16, 32, 3)` of all levels up to `largest`."""
    ramp = np.linspace(0, largest, 16 * 32).round().astype(dtype).reshape(16, 32, 1)
    return np.repeat(ramp << dtype(shift), 3, axis=2)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("padded", [False, True])
def test_the_depth_is_found_wherever_the_samples_lie_in_the_container(bits, padded):
    depth = SampleDepth()
    pixels = depth.pixels(image(2**bits - 1, 16 - bits if padded else 0))
    assert depth.bits == pixels["bits"] == bits
    assert f"{bits} bit (found" in depth.told
    np.testing.assert_array_equal(pixels["samples"], image(2**bits - 1)[..., 0])
    assert (pixels["image"].min(), pixels["image"].max()) == (0, 255)
    frame = Frame(0, 0, **pixels)
    # The levels keep the samples' steps: 255 spread over all of them.
    assert frame.quantum == pytest.approx(255 / (2**bits - 1))
    np.testing.assert_allclose(frame.levels, image(2**bits - 1)[..., 0] * frame.quantum, rtol=1e-6)


def test_a_set_depth_holds_for_dark_images_and_clips_what_is_above():
    depth = SampleDepth(12)
    assert depth.pixels(image(200))["bits"] == 12
    assert depth.pixels(image(200))["image"].max() == round(200 / 4095 * 255)
    assert depth.pixels(image(5000))["samples"].max() == 4095
    assert "12 bit (set)" in depth.told


def test_what_is_found_grows_and_never_shrinks():
    depth = SampleDepth()
    assert [depth.pixels(image(largest))["bits"] for largest in (900, 3000, 900)] == [10, 12, 12]


def test_8_bit_images_pass_unchanged_and_other_samples_are_refused():
    depth, plain = SampleDepth(), image(255, dtype=np.uint8)
    pixels = depth.pixels(plain)
    assert pixels["image"] is plain and pixels["samples"] is None and depth.told == ""
    with pytest.raises(BadFrameError, match="float32"):
        depth.pixels(plain.astype(np.float32))


def test_a_faint_star_keeps_its_brightness_below_one_grey_level():
    deep = np.zeros((16, 16, 3), np.uint16)
    deep[8, 8], deep[0, 0] = 9, 4095  # 9 of 4095 is 0.56 of 255.
    pixels = SampleDepth().pixels(deep)
    frame = Frame(0, 0, **pixels)
    assert frame.levels[8, 8] == pytest.approx(0.56, abs=0.005)
