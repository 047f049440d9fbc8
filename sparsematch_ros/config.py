"""Every setting, once: the command line, the ROS parameters and `config/sparsematch.yaml` are made from these.

A field's metadata holds its description, unit, range and choices. The values in force are checked at construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sparsematch_ros.setting_fields import Checked, setting


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Which networks run, where, at what size."""

    sam: str = setting(
        "mobile_sam",
        "SAM checkpoint, by its name in `sparsematch weights list`",
        choices=("mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h"),
    )
    weights_folder: str = setting(
        "",
        "folder of checkpoints; empty: $SPARSEMATCH_WEIGHTS, else ./weights if it is "
        "there, else the user's cache folder",
    )
    sam_checkpoint: str = setting("", "checkpoint file of `sam`; empty: the registry's file in weights_folder")
    input_size: int = setting(
        0, "longest side given to SAM's encoder; 0: 512 on a CPU, 1024 on a GPU", "px", minimum=0, maximum=2048
    )
    device: str = setting("auto", "torch device: auto, cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    half_precision: bool = setting(True, "run the networks in half precision on a GPU")
    threads: int = setting(0, "CPU threads of torch; 0: torch's own choice", minimum=0, maximum=256)


# Depths of common sensors [bits].
SAMPLE_BITS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class CameraConfig(Checked):
    """What the images cannot tell of the camera."""

    bits: int = setting(
        0, "depth of the samples in 16 bit images; 0: found from their values", "bit", choices=(0, *SAMPLE_BITS)
    )


@dataclass(frozen=True)
class BackgroundConfig(Checked):
    """The motion of stars and ground between frames."""

    telemetry: bool = setting(True, "use the camera's attitude where a frame carries it, with intrinsics")
    max_features: int = setting(400, "corners followed between frames", minimum=8, maximum=5000)
    ransac_threshold_px: float = setting(
        1.0, "residual up to which a point agrees with the background", "px", minimum=0.1, maximum=20.0
    )
    min_inliers: int = setting(6, "fewer agreeing points: the motion counts as not estimated", minimum=3, maximum=500)
    max_stars: int = setting(150, "brightest point sources used as stars", minimum=8, maximum=2000)
    star_search_px: float = setting(
        40.0, "how far a star may move between frames beyond what is expected", "px", minimum=1.0, maximum=500.0
    )


@dataclass(frozen=True)
class SegmentationConfig(Checked):
    """Where to ask SAM, and which of its masks to keep; names shared with SAM's generator mean the same."""

    mode: str = setting(
        "adaptive",
        "adaptive: prompts go where something is tracked or detected; full_grid: "
        "SAM's own automatic generator on every frame",
        choices=("adaptive", "full_grid"),
    )
    prompt_budget: int = setting(8, "most prompts in one frame", minimum=0, maximum=4096)
    survey_points_per_side: int = setting(
        16, "side of the full grid of a survey, which looks at everything on demand", minimum=1, maximum=128
    )
    point_sources: bool = setting(True, "detect objects of a few pixels against the sky without SAM")
    point_source_snr: float = setting(
        5.0, "signal to noise from which a point source counts", minimum=2.0, maximum=100.0
    )
    points_per_side: int = setting(32, "full_grid: points along a side", minimum=1, maximum=128)
    points_per_batch: int = setting(
        0, "prompts a decoder call; 0: as many as memory holds on a GPU, 8 on a CPU", minimum=0, maximum=4096
    )
    pred_iou_thresh: float = setting(0.88, "full_grid and surveys: least predicted IoU", minimum=0.0, maximum=1.0)
    stability_score_thresh: float = setting(
        0.95, "full_grid and surveys: least stability score", minimum=0.0, maximum=1.0
    )
    stability_score_offset: float = setting(
        1.0, "shift of the mask threshold for the stability score", minimum=0.0, maximum=10.0
    )
    box_nms_thresh: float = setting(
        0.7, "IoU above which the weaker of two masks is dropped (of boxes in full_grid)", minimum=0.0, maximum=1.0
    )
    crop_n_layers: int = setting(0, "full_grid: layers of crops", minimum=0, maximum=4)
    crop_nms_thresh: float = setting(
        0.7, "full_grid: box IoU between crops above which one is dropped", minimum=0.0, maximum=1.0
    )
    crop_overlap_ratio: float = setting(512 / 1500, "full_grid: overlap of crops", minimum=0.0, maximum=1.0)
    crop_n_points_downscale_factor: int = setting(
        1, "full_grid: points_per_side is divided by this each layer", minimum=1, maximum=16
    )
    min_mask_region_area: int = setting(
        0, "full_grid: holes and islands under this are removed", "px^2", minimum=0, maximum=10**7
    )
    targeted_iou_thresh: float = setting(
        0.6, "least predicted IoU of a mask of a prompt with a box", minimum=0.0, maximum=1.0
    )
    max_area_fraction: float = setting(
        0.7, "masks over this share of the image are background", minimum=0.01, maximum=1.0
    )


@dataclass(frozen=True)
class DescriptionConfig(Checked):
    """One descriptor a segment."""

    source: str = setting(
        "sam",
        "sam: mean patch embedding of SAM's encoder; dinov2: of DINOv2, needs its checkpoint; none: position alone",
        choices=("sam", "dinov2", "none"),
    )
    dinov2: str = setting(
        "dinov2_vits14",
        "DINOv2 checkpoint, by its name in `sparsematch weights list`",
        choices=tuple(f"dinov2_vit{size}14{kind}" for kind in ("", "_reg") for size in "sblg"),
    )
    dinov2_checkpoint: str = setting("", "checkpoint file of `dinov2`; empty: the registry's file in weights_folder")
    dinov2_input_size: int = setting(
        448, "longest side given to DINOv2, rounded to multiples of 14", "px", minimum=56, maximum=2048
    )
    dinov2_layer: int = setting(
        0,
        "block of DINOv2 whose output is used, counted from 1; 0: the last; -1, -2 ...: counted from the last",
        minimum=-40,
        maximum=40,
    )
    dinov2_region: str = setting(
        "image",
        "what DINOv2 sees of a frame; image: all of it; segments: a box around all segments with a margin, so that "
        "its patches are finer",
        choices=("image", "segments"),
    )
    publish_dimensions: int = setting(
        0,
        "numbers in a published descriptor, by a fixed projection; 0: as many as the network gives, never more",
        minimum=0,
        maximum=1536,
    )


@dataclass(frozen=True)
class TrackingConfig(Checked):
    """Identity and velocity over time."""

    false_confirmations_per_hour: float = setting(
        0.1, "false objects that may be confirmed in an hour of frames", "1/h", minimum=1e-6, maximum=1e4
    )
    max_coast_s: float = setting(
        1.5, "how long an unseen confirmed object is predicted before it is lost", "s", minimum=0.0, maximum=600.0
    )
    max_gap_s: float = setting(
        5.0,
        "gap between stamps after which every object is lost, where images came faster before",
        "s",
        minimum=0.01,
        maximum=3600.0,
    )
    reidentify_s: float = setting(
        10.0,
        "how long after it was last seen a lost object with a mask can be known again by its descriptor; 0: never",
        "s",
        minimum=0.0,
        maximum=600.0,
    )
    reidentify_cosine: float = setting(0.85, "least cosine of the descriptors for that", minimum=-1.0, maximum=1.0)
    acceleration_px_s2: float = setting(
        0.3,
        "typical acceleration of a small object (standard deviation); that of a large one grows with its size",
        "px/s^2",
        minimum=0.0,
        maximum=1e4,
    )
    max_speed_px_s: float = setting(
        600.0, "fastest motion against the background between two frames", "px/s", minimum=1.0, maximum=1e5
    )
    max_step_px: float = setting(
        80.0, "farthest motion against the background between two frames", "px", minimum=1.0, maximum=1e4
    )
    moving_speed_px_s: float = setting(1.0, "slowest velocity that counts as moving", "px/s", minimum=0.0, maximum=1e4)
    moving_false_alarm: float = setting(
        1e-2, "chance that a resting object passes the test for motion", minimum=1e-9, maximum=0.5
    )
    max_objects: int = setting(256, "most objects followed at once", minimum=1, maximum=10000)


@dataclass(frozen=True)
class PointingConfig(Checked):
    """What attitude_request_node asks for."""

    boresight: list[float] = setting([0.0, 0.0, 1.0], "body axis that shall meet the target, unit vector")
    camera_to_body_xyzw: list[float] = setting(
        [0.0, 0.0, 0.0, 1.0], "rotation of the camera's optical frame in the body frame, v_B = q v_C"
    )
    inertial_frame: str = setting("inertial", "frame_id of requests where the spacecraft's attitude is known")
    roll_body_axis: list[float] = setting(
        [], "body axis to bring as near to roll_direction as the boresight leaves free; empty: the smallest rotation"
    )
    roll_direction: list[float] = setting([], "inertial direction for roll_body_axis; empty: none")
    dead_band_deg: float = setting(
        0.05, "off-boresight angle under which nothing is asked", "deg", minimum=0.0, maximum=45.0
    )
    max_age_s: float = setting(2.0, "oldest object array that is answered", "s", minimum=0.01, maximum=600.0)
    max_attitude_age_s: float = setting(
        0.5, "oldest attitude that counts as known at an image's stamp", "s", minimum=0.0, maximum=60.0
    )
    latency_s: float = setting(
        0.0, "time from a request to the spacecraft's action, to which attitude and target are predicted", "s",
        minimum=0.0, maximum=60.0,
    )  # fmt: skip
    validity_s: float = setting(5.0, "how long a request holds after its image", "s", minimum=0.1, maximum=3600.0)
    min_existence: float = setting(0.8, "least existence probability of a target", minimum=0.0, maximum=1.0)
    max_rate_deg_s: float = setting(
        2.0, "slew rate that the spacecraft can follow", "deg/s", minimum=0.001, maximum=60.0
    )
    max_acceleration_deg_s2: float = setting(
        1.0, "slew acceleration that the spacecraft can follow", "deg/s^2", minimum=0.0001, maximum=60.0
    )
    longest_slew_s: float = setting(600.0, "a slew that takes longer is refused", "s", minimum=1.0, maximum=36000.0)
    keep_out_half_angles_deg: list[float] = setting([], "half angle of each keep-out cone around the boresight", "deg")
    keep_out_directions: list[float] = setting(
        [], "inertial unit vector to each keep-out body, x, y, z one after another"
    )
    keep_out_axes: list[float] = setting(
        [], "body axis that each cone is about, x, y, z one after another; missing or NaN: the boresight"
    )
    keep_out_margin_deg: float = setting(
        0.5, "how much wider than its half angle a cone is while a slew is planned", "deg", minimum=0.0, maximum=20.0
    )
    keep_out_path: str = setting(
        "around",
        "where the direct slew meets a cone; around: by way of waypoints; refuse: not at all",
        choices=("around", "refuse"),
    )
    when_lost: str = setting(
        "hold",
        "without a target; hold: ask nothing, so that the last request runs out; stop: ask to come to rest at once; "
        "return: ask for return_attitude_xyzw",
        choices=("hold", "stop", "return"),
    )
    return_attitude_xyzw: list[float] = setting(
        [], "attitude q of when_lost: return, v_N = q v_B; empty: the one when requests were enabled"
    )
    weight_priority: float = setting(
        1.0, "choice of a target: weight of its reason's priority", minimum=0.0, maximum=100.0
    )
    weight_existence: float = setting(
        1.0, "choice of a target: weight of its existence probability", minimum=0.0, maximum=100.0
    )
    weight_age: float = setting(
        0.5, "choice of a target: weight of how long it has been followed", minimum=0.0, maximum=100.0
    )
    weight_time_left: float = setting(
        0.5, "choice of a target: weight of how soon it leaves the image", minimum=0.0, maximum=100.0
    )
    weight_uncertainty: float = setting(
        0.5, "choice of a target: weight of how well its bearing is known", minimum=0.0, maximum=100.0
    )
    priority_moving: int = setting(100, "priority of an object that moves, 255 highest", minimum=0, maximum=254)
    priority_new: int = setting(130, "priority of an object that is new, 255 highest", minimum=0, maximum=254)
    priority_leaving: int = setting(
        160, "priority of an object that is about to leave the image, 255 highest", minimum=0, maximum=254
    )
    new_within_s: float = setting(3.0, "age up to which an object is new", "s", minimum=0.0, maximum=3600.0)
    leaving_within_s: float = setting(
        5.0, "time left in the image under which an object is about to leave", "s", minimum=0.0, maximum=3600.0
    )
    age_scale_s: float = setting(10.0, "age that counts in full", "s", minimum=0.01, maximum=36000.0)
    time_left_scale_s: float = setting(
        5.0, "time left in the image that counts by half", "s", minimum=0.01, maximum=36000.0
    )
    uncertainty_scale_deg: float = setting(
        0.1, "standard deviation of a bearing that counts by half", "deg", minimum=1e-6, maximum=90.0
    )
    switch_margin: float = setting(
        0.1, "lead in score, of 1, that a rival needs over the target", minimum=0.0, maximum=1.0
    )
    switch_after_s: float = setting(2.0, "how long it must keep that lead", "s", minimum=0.0, maximum=3600.0)
    switch_after_arrays: int = setting(3, "in how many arrays it must keep that lead", minimum=1, maximum=1000)
    dwell_s: float = setting(10.0, "least time on a target before a switch", "s", minimum=0.0, maximum=36000.0)
    allow_unchecked: bool = setting(False, "send although attitude or a keep-out direction is unknown, saying so")
    enabled: bool = setting(False, "send requests from the start; otherwise the service `enable` starts it")


@dataclass(frozen=True)
class Config:
    """All settings of the line, one group a stage."""

    model: ModelConfig = field(default_factory=ModelConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    description: DescriptionConfig = field(default_factory=DescriptionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    pointing: PointingConfig = field(default_factory=PointingConfig)
