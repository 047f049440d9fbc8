"""What a scenario says of its camera: optics, sensor, clock, and the spacecraft that carries it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.object_specs import AttitudeSpec, MotionSpec, Quaternion
from sparsematch_ros.simulation.strict_yaml import Checked, one_of, within


@dataclass(frozen=True)
class SensorSpec(Checked):
    """From light to numbers.

    Attributes:
        exposure_s: integration time; truth and stamps are those of its middle.
        smear: whether the camera's turning and the objects' own motion within the exposure are drawn.
        flicker: standard deviation of a random gain, new in every frame, as its natural logarithm.
        mono: whether the three channels are one and the same, as of a sensor without colours.
        psf_sigma_px: width of the point-spread function's Gaussian core.
        halo_fraction: share of the light in a wide halo around the core.
        halo_sigma_px: width of the halo.
        read_noise_e: standard deviation of a pixel's read noise.
        dark_e_s: dark current and sky background a pixel.
        saturation_e: electrons that give white.
        black_level: grey level of no light, on the scale of 8 bit (255 is white).
        gamma: grey = white * (light / saturation)^(1 / gamma); 1 is a linear sensor.
        bits: depth of the samples [bit]; more than 8 are stored in 16 bit images, in the lowest bits.
        jpeg_quality: quality at which images are compressed by JPEG, in percent; 0 for no compression.
        white_e_s: from a pixel filled by a white diffuse surface that faces the Sun.
        magnitude_zero_e_s: from a star of magnitude 0, all its pixels together. Real cameras see sunlit surfaces far
            brighter beside the stars than 8 bits can hold; scenarios choose both figures so that both show.

    """

    exposure_s: float = within(above=0.0, maximum=100.0, default=0.02)
    smear: bool = True
    flicker: float = within(minimum=0.0, maximum=2.0, default=0.0)
    mono: bool = False
    psf_sigma_px: float = within(minimum=0.2, maximum=10.0, default=0.8)
    halo_fraction: float = within(minimum=0.0, maximum=0.5, default=0.03)
    halo_sigma_px: float = within(minimum=0.2, maximum=50.0, default=5.0)
    read_noise_e: float = within(minimum=0.0, maximum=1e5, default=15.0)
    dark_e_s: float = within(minimum=0.0, maximum=1e7, default=500.0)
    saturation_e: float = within(above=0.0, maximum=1e7, default=4000.0)
    black_level: float = within(minimum=0.0, maximum=100.0, default=4.0)
    gamma: float = within(minimum=0.5, maximum=4.0, default=1.0)
    bits: int = within(minimum=8, maximum=16, default=8)
    jpeg_quality: int = within(minimum=0, maximum=100, default=0)
    white_e_s: float = within(minimum=0.0, maximum=1e9, default=250000.0)
    magnitude_zero_e_s: float = within(minimum=0.0, maximum=1e12, default=4e6)

    def __post_init__(self) -> None:
        """Check that only 8 bit images are compressed."""
        super().__post_init__()
        if self.jpeg_quality and self.bits > 8:
            raise SparsematchError(f"jpeg_quality: {self.jpeg_quality} given for {self.bits} bit, JPEG holds 8")


@dataclass(frozen=True)
class FaultsSpec(Checked):
    """What a sensor shows although nothing is there.

    Attributes:
        hot_pixels: how many pixels always glow, the same in every frame.
        hot_pixel_e: electrons of the brightest of them; the others have from a quarter of it on.
        cosmic_rays: mean number of hits a frame. They leave sharp streaks, because they meet the sensor itself.
        cosmic_ray_e: electrons that the strongest hit leaves in a pixel's length; the others leave from a quarter on.
        cosmic_ray_length_px: mean length of a streak; lengths fall off exponentially.
        flashes: mean number a frame of round flashes that last for a single frame, as glints do.
        flash_e: electrons of the brightest flash; the others have from a quarter on.
        flash_sigma_px: width of a flash.

    """

    hot_pixels: int = within(minimum=0, maximum=10**6, default=0)
    hot_pixel_e: float = within(above=0.0, maximum=1e7, default=2000.0)
    cosmic_rays: float = within(minimum=0.0, maximum=1e4, default=0.0)
    cosmic_ray_e: float = within(above=0.0, maximum=1e7, default=3000.0)
    cosmic_ray_length_px: float = within(minimum=0.0, maximum=1e4, default=6.0)
    flashes: float = within(minimum=0.0, maximum=1e4, default=0.0)
    flash_e: float = within(above=0.0, maximum=1e9, default=30000.0)
    flash_sigma_px: float = within(minimum=0.2, maximum=50.0, default=1.3)


@dataclass(frozen=True)
class FlareSpec(Checked):
    """What the Sun makes of the image when it is in the camera's field; the scenario's `sun` is its direction.

    Electrons are those of one exposure and channel. Nothing but the objects and Earth hides the Sun.

    Attributes:
        sun_e: electrons in a pixel of the Sun's disc.
        glare_e: electrons in the glare's middle; at a distance of `glare_px` half of them.
        glare_px: distance at which the glare has fallen to half.
        ghosts: how many reflections between the lenses show; their places on the line through the Sun and the image
            center are random, and most move against the scene.
        ghost_e: electrons in a pixel of the brightest ghost; the others have from 30% of it on.
        ghost_radius_px: radius of the largest ghost; the others have from 30% of it on.
        column_e: electrons in the bleeding column through the Sun, while the Sun is imaged on the sensor.
        column_px: width of that column.

    """

    sun_e: float = within(minimum=0.0, maximum=1e9, default=1e6)
    glare_e: float = within(minimum=0.0, maximum=1e7, default=3000.0)
    glare_px: float = within(above=0.0, maximum=1e4, default=25.0)
    ghosts: int = within(minimum=0, maximum=100, default=4)
    ghost_e: float = within(minimum=0.0, maximum=1e7, default=900.0)
    ghost_radius_px: float = within(above=0.0, maximum=1e3, default=16.0)
    column_e: float = within(minimum=0.0, maximum=1e7, default=3000.0)
    column_px: float = within(minimum=0.0, maximum=1e3, default=3.0)


@dataclass(frozen=True)
class TelemetrySpec(Checked):
    """Errors of the attitude that comes with the images.

    Attributes:
        noise_arcsec: standard deviation of the error about each axis of the camera, new in every image.
        late_s: age of the attitude that an image is given [s]: it is that of `late_s` before the exposure's middle.

    """

    noise_arcsec: float = within(minimum=0.0, maximum=36000.0, default=0.0)
    late_s: float = within(minimum=0.0, maximum=10.0, default=0.0)


@dataclass(frozen=True)
class SlewSpec(Checked):
    """What the spacecraft that carries the camera can do in a closed loop."""

    max_rate_deg_s: float = within(above=0.0, maximum=180.0, default=2.0)
    max_acceleration_deg_s2: float = within(above=0.0, maximum=1000.0, default=1.0)


@dataclass(frozen=True)
class CameraSpec(Checked):
    """The camera and the spacecraft that carries it.

    Attributes:
        attitude: programme of the optical frame C in N (its `q_NB_xyzw` is q_NC) when nothing else commands it.
        q_BC_xyzw: rotation from the optical frame to the spacecraft's body frame.
        motion: of the camera's centre of projection.
        distortion: coefficients in OpenCV's order; empty for none.

    """

    width_px: int = within(minimum=16, maximum=8192, default=640)
    height_px: int = within(minimum=16, maximum=8192, default=480)
    horizontal_fov_deg: float = within(above=0.0, maximum=150.0, default=40.0)
    distortion_model: str = one_of("plumb_bob", "rational_polynomial", "equidistant", default="plumb_bob")
    distortion: tuple[float, ...] = ()
    motion: MotionSpec = MotionSpec(position_m=(0.0, 0.0, 0.0))
    attitude: AttitudeSpec = AttitudeSpec()
    q_BC_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)
    slew: SlewSpec = SlewSpec()

    def __post_init__(self) -> None:
        """Check that the coefficients fit their model."""
        super().__post_init__()
        counts = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8), "equidistant": (4,)}[self.distortion_model]
        if len(self.distortion) not in counts:
            wanted = " or ".join(str(count) for count in counts)
            raise SparsematchError(
                f"distortion: {len(self.distortion)} coefficients, {self.distortion_model} has {wanted}"
            )

    def model(self) -> CameraModel:
        """Build the intrinsics."""
        ideal = CameraModel.from_fov(self.width_px, self.height_px, self.horizontal_fov_deg)
        return CameraModel(
            self.width_px,
            self.height_px,
            ideal.matrix,
            np.array(self.distortion, dtype=np.float64),
            self.distortion_model,
        )


@dataclass(frozen=True)
class TimingSpec(Checked):
    """When the images are taken, where not at every tick of the clock.

    Attributes:
        late: each image comes late by up to this share of the frame interval, uniformly.
        dropped: probability of a frame to be missing; the flight lasts longer then, because `frames` counts images.

    """

    late: float = within(minimum=0.0, maximum=0.9, default=0.0)
    dropped: float = within(minimum=0.0, maximum=0.9, default=0.0)
