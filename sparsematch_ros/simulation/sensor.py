"""From electrons to grey levels: point-spread function, noise, quantisation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.simulation.camera_specs import SensorSpec
from sparsematch_ros.simulation.object_specs import PointSpec

# Images of 8 bit, or of up to 16.
Samples = NDArray[np.uint8] | NDArray[np.uint16]


def blur_core(light: NDArray[np.float32], sensor: SensorSpec) -> NDArray[np.float32]:
    """Blur sharp light `(H, W, 3)` with the Gaussian core of the point-spread function."""
    return np.asarray(cv2.GaussianBlur(light, (0, 0), sensor.psf_sigma_px, borderType=cv2.BORDER_REPLICATE))


def add_halo(light: NDArray[np.float32], sensor: SensorSpec) -> NDArray[np.float32]:
    """Move a share of the light `(H, W, 3)` into the wide halo of the point-spread function."""
    if sensor.halo_fraction == 0:
        return light
    halo = cv2.GaussianBlur(light, (0, 0), sensor.halo_sigma_px, borderType=cv2.BORDER_REPLICATE)
    return light * np.float32(1 - sensor.halo_fraction) + np.float32(sensor.halo_fraction) * halo


def flicker_gain(sensor: SensorSpec, rng: np.random.Generator) -> np.float32:
    """Draw the gain of one frame's exposure; its median is 1."""
    return np.float32(np.exp(rng.normal(0, sensor.flicker)))


def expose(light_e: NDArray[np.float32], sensor: SensorSpec, rng: np.random.Generator) -> Samples:
    """Turn expected electrons `(H, W, 3)` into an image `(H, W, 3)` with noise, uint8 or, for more bits, uint16.

    Shot noise is drawn as a Gaussian of the same variance: beside the read noise nothing shows the difference, and
    it is ten times faster than Poisson numbers.
    """
    if sensor.mono:
        light_e = light_e.mean(axis=2, keepdims=True)
    expected = np.maximum(light_e, 0) + np.float32(sensor.dark_e_s * sensor.exposure_s)
    sigma = np.sqrt(expected + np.float32(sensor.read_noise_e**2))
    electrons = expected + sigma * rng.standard_normal(expected.shape, dtype=np.float32)
    # The sensor's offset keeps the dark noise from being cut at zero.
    level = np.float32(sensor.black_level / 255) + (electrons - np.float32(sensor.dark_e_s * sensor.exposure_s)) / (
        np.float32(sensor.saturation_e)
    )
    level = np.clip(level, 0, 1)
    if sensor.gamma != 1:
        level = level ** np.float32(1 / sensor.gamma)
    grey = np.rint(level * white_level(sensor))
    channels = np.repeat(grey, 3, axis=2) if sensor.mono else grey
    if sensor.bits > 8:
        return channels.astype(np.uint16)
    return _compressed(channels.astype(np.uint8), sensor.jpeg_quality)


def white_level(sensor: SensorSpec) -> int:
    """Compute the largest sample."""
    return 2**sensor.bits - 1


def sky_noise_e(sensor: SensorSpec) -> float:
    """Compute the standard deviation of a pixel of empty sky [electrons]."""
    step_e = sensor.saturation_e / white_level(sensor)
    return float(np.sqrt(sensor.dark_e_s * sensor.exposure_s + sensor.read_noise_e**2 + step_e**2 / 12))


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress an image `(H, W, 3)` by JPEG and read it again; quality 0 leaves it as it is."""
    if quality == 0:
        return image
    # Channels are red, green, blue here, and OpenCV takes blue first.
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1]


def point_flux_e(point: PointSpec, sensor: SensorSpec) -> float:
    """Give the flux of a point object [electrons a channel].

    Where the scenario gives a signal to noise instead, it is that of the flux inside the matched aperture of a
    Gaussian spot (radius 1.585 sigma, which holds 71.5 % of it) over the noise of that sum: the flux's own shot noise,
    dark current, read noise and quantisation (Howell 1989, the CCD equation).
    """
    if point.flux_e > 0:
        return point.flux_e
    # A uniform disc of diameter d has the standard deviation d / 4 an axis.
    sigma_px = np.hypot(sensor.psf_sigma_px, point.diameter_px / 4)
    radius_px = 1.585 * sigma_px
    share = 1 - np.exp(-(radius_px**2) / (2 * sigma_px**2))
    step_e = sensor.saturation_e / white_level(sensor)
    background = np.pi * radius_px**2 * (sensor.dark_e_s * sensor.exposure_s + sensor.read_noise_e**2 + step_e**2 / 12)
    # signal^2 = snr^2 (signal + background), solved for the signal.
    squared = point.signal_to_noise**2
    signal = (squared + np.sqrt(squared**2 + 4 * squared * background)) / 2
    return float(signal / share)
