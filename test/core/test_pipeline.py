"""The whole line on a tiny SAM with random weights: what it takes in, what it refuses, what it finds without SAM."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sparsematch_ros.camera import CameraModel
from sparsematch_ros.config import Config, DescriptionConfig, SegmentationConfig
from sparsematch_ros.data import Frame, FrameResult, ObjectState, PromptReason
from sparsematch_ros.errors import BadFrameError
from sparsematch_ros.geometry import apply_homography
from sparsematch_ros.models import Models
from sparsematch_ros.pipeline import Pipeline
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam

SIZE = (120, 160)
CAMERA = CameraModel.from_fov(320, 240, 10.0)
STAGES = {"detection", "background", "segmentation", "description", "tracking"}
# Random weights are sure of nothing: all their masks count here, so that the stages behind have work.
ANYTHING = SegmentationConfig(pred_iou_thresh=0.0, targeted_iou_thresh=0.0, stability_score_thresh=0.0)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """Build a tiny model on one thread: several wait for each other on a busy machine, for forty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield Models(PromptedSam(build_sam("mobile_sam", None, 64), torch.device("cpu")), None)
    torch.set_num_threads(threads)


@pytest.fixture
def pipeline(models: Models) -> Pipeline:
    return Pipeline(Config(segmentation=ANYTHING), models)


def frame(
    image: np.ndarray, stamp_s: float, camera: CameraModel | None = None, q: object = None, index: int = 0
) -> Frame:
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return Frame(index, round(stamp_s * 1e9), rgb, camera, None if q is None else np.asarray(q, dtype=np.float64))


def scene(step: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a resting texture with a brighter textured square that moves right by 3 px a step."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), 2)
    image = 120 + 25 * image / image.std()
    side = min(size) // 3
    left = min(5 + 3 * step, size[1] - side)
    image[side : 2 * side, left : left + side] = 190 + 20 * rng.normal(0, 1, (side, side))
    return np.clip(image, 0, 255).astype(np.uint8)


def check(result: FrameResult, previous: FrameResult | None) -> None:
    """Check what must agree within a result, and with the one before."""
    frame, segments, matches = result.frame, result.segments, result.matches
    height, width = frame.size
    assert result.seconds.keys() == STAGES and all(value >= 0 for value in result.seconds.values())
    assert segments.masks.shape[1:] == (height, width)
    check_regions(result)
    assert (result.previous_stamp_ns, result.previous_segments) == (
        (None, None) if previous is None else (previous.frame.stamp_ns, previous.segments)
    )
    assert result.background.dt_s == pytest.approx(
        0 if previous is None else (frame.stamp_ns - previous.frame.stamp_ns) / 1e9
    )
    assert len(set(matches.current)) == len(set(matches.previous)) == len(matches)
    assert (matches.current < len(segments)).all()
    assert previous is not None or len(matches) == 0
    assert previous is None or (matches.previous < len(previous.segments)).all()
    assert ((matches.bidirectional > 0) & (matches.bidirectional <= 1)).all()
    assert len({item.id for item in result.objects}) == len(result.objects)
    for mask, box, area in zip(segments.masks, segments.boxes_xywh_px, segments.areas_px, strict=False):
        rows, columns = np.nonzero(mask.numpy())
        assert area == len(rows) > 0
        extent = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        np.testing.assert_allclose(box, extent, atol=1e-6)
    for item in result.objects:
        assert item.first_seen_ns <= item.last_seen_ns <= frame.stamp_ns
        assert 0 < item.existence_probability < 1
        assert np.isfinite([*item.centroid_px, *item.velocity_px_s, *item.bbox_xywh_px]).all()
        for covariance in (item.centroid_covariance, item.velocity_covariance):
            assert np.linalg.eigvalsh(covariance).min() > 0
        assert (item.bearing is None) == (frame.camera is None)
        assert item.mask is None or item.mask.shape == frame.size


def check_regions(result: FrameResult) -> None:
    """Check that SAM's encoder ran where something was asked, and only then."""
    height, width = result.frame.size
    left, top, right, bottom = result.regions_xyxy_px.T
    assert ((left >= 0) & (left < right) & (right <= width) & (top >= 0) & (top < bottom) & (bottom <= height)).all()
    assert result.encoded == (len(left) > 0) == (len(result.prompts) > 0)
    x, y = result.prompts.points_px.T[:, :, None]
    assert ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(axis=1).all(), "a prompt lies in no part"


@pytest.mark.parametrize("source", ["sam", "none"])
def test_results_agree_with_themselves_over_a_stream(models: Models, source: str) -> None:
    config = Config(segmentation=ANYTHING, description=DescriptionConfig(source=source))
    pipeline, previous, masks, matched, alike = Pipeline(config, models), None, 0, 0, 0
    camera = CameraModel.from_fov(SIZE[1], SIZE[0], 30.0)
    for number in range(12):
        result = pipeline.process(frame(scene(number), 0.1 * number + 0.02 * (number % 3), camera, index=number))
        check(result, previous)
        grid = result.prompts.reasons == PromptReason.GRID
        assert not grid.any() and len(grid) <= config.segmentation.prompt_budget
        masks, matched, previous = masks + result.segments.mask_count, matched + len(result.matches), result
        known = result.matches.cosine[np.isfinite(result.matches.cosine)]
        assert (np.abs(known) <= 1 + 1e-6).all()
        alike += len(known)
    assert result.background.valid and result.background.method == "ground"
    corners = np.array([[0.0, 0], [159, 0], [0, 119], [159, 119]])
    np.testing.assert_allclose(apply_homography(result.background.homography, corners), corners, atol=0.7)
    assert masks > 0 and matched > 0, "the stream gave the later stages nothing to do"
    assert (alike > 0) == (source == "sam")


@pytest.mark.parametrize(("stamp_s", "reason"), [(0.3, "repeats"), (0.1, r"goes back by 0\.2")])
def test_a_bad_stamp_is_refused_and_the_stream_goes_on(pipeline: Pipeline, stamp_s: float, reason: str) -> None:
    pipeline.process(frame(scene(0), 0.2))
    before = pipeline.process(frame(scene(1), 0.3))
    with pytest.raises(BadFrameError, match=reason):
        pipeline.process(frame(scene(2), stamp_s))
    check(pipeline.process(frame(scene(2), 0.4)), before)


@pytest.mark.parametrize("q", [[np.nan] * 4, [0, 0, np.inf, 1], [0, 0, 0, 0], [0, 0, 0, 2]])
def test_an_attitude_that_is_none_is_refused(pipeline: Pipeline, q: list[float]) -> None:
    camera = CameraModel.from_fov(SIZE[1], SIZE[0], 30.0)
    before = pipeline.process(frame(scene(0), 0.0, camera, [0, 0, 0, 1]))
    with pytest.raises(BadFrameError, match="attitude"):
        pipeline.process(frame(scene(1), 0.1, camera, q))
    result = pipeline.process(frame(scene(1), 0.2, camera, [0, 0, 0, 1]))
    check(result, before)
    assert result.background.rotation_CP_xyzw is not None
    np.testing.assert_allclose(np.abs(result.background.rotation_CP_xyzw), [0, 0, 0, 1], atol=1e-3)


def test_an_attitude_that_jumps_is_survived(pipeline: Pipeline) -> None:
    """The telemetry says the camera looks elsewhere, the picture that it does not: no error, and the picture counts."""
    previous, camera = None, CameraModel.from_fov(SIZE[1], SIZE[0], 30.0)
    for number, q in enumerate(([0, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0])):
        result = pipeline.process(frame(scene(number), 0.1 * number, camera, q))
        check(result, previous)
        previous = result
        if number:
            assert result.background.valid
            corners = np.array([[0.0, 0], [159, 0], [0, 119], [159, 119]])
            np.testing.assert_allclose(apply_homography(result.background.homography, corners), corners, atol=0.7)


@pytest.mark.parametrize("size", [(15, 200), (200, 15), (1, 1)])
def test_too_small_an_image_is_refused(pipeline: Pipeline, size: tuple[int, int]) -> None:
    with pytest.raises(BadFrameError, match=f"{size[1]}x{size[0]} px: at least 16"):
        pipeline.process(frame(np.zeros(size, np.uint8), 0.0))


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (200, 16), (17, 33), (24, 640)])
def test_the_smallest_images_are_taken(pipeline: Pipeline, size: tuple[int, int]) -> None:
    previous = None
    for number in range(4):
        result = pipeline.process(frame(scene(number, size), 0.1 * number))
        check(result, previous)
        previous = result


def test_another_size_starts_anew(pipeline: Pipeline) -> None:
    """The objects of the old size end with it, without what only holds in an image that shows them."""
    for number in range(6):
        old = pipeline.process(frame(scene(number), 0.1 * number))
    result = pipeline.process(frame(scene(6, (90, 130)), 0.6))
    check(result, None)
    assert "130x90" in result.restarted and old.restarted == ""
    ended = [item for item in result.objects if item.state == ObjectState.LOST]
    assert {item.id for item in ended} == {item.id for item in old.objects if item.state != ObjectState.LOST} != set()
    assert all(item.mask is None and item.bearing is None for item in ended)
    assert all(item.state == ObjectState.TENTATIVE for item in result.objects if item not in ended)
    check(pipeline.process(frame(scene(7, (90, 130)), 0.7)), result)


def test_a_survey_on_request_comes_in_the_next_frame(models: Models) -> None:
    segmentation = replace(ANYTHING, survey_points_per_side=5)
    pipeline, grids = Pipeline(Config(segmentation=segmentation), models), []
    for number in range(5):
        if number == 3:
            pipeline.request_survey()
        result = pipeline.process(frame(scene(number), 0.1 * number))
        grids.append(int((result.prompts.reasons == PromptReason.GRID).sum()))
    assert grids == [0, 0, 0, 25, 0]
    full = Pipeline(Config(segmentation=SegmentationConfig(mode="full_grid", points_per_side=3)), models)
    full.request_survey()  # Every frame is one.
    assert len(full.process(frame(scene(0), 0.0)).prompts) == 9


def test_a_refused_frame_does_not_use_up_a_survey(models: Models) -> None:
    pipeline = Pipeline(Config(segmentation=replace(ANYTHING, survey_points_per_side=4)), models)
    pipeline.process(frame(scene(0), 0.0))
    pipeline.request_survey()
    with pytest.raises(BadFrameError):
        pipeline.process(frame(scene(0), 0.0))
    results = [pipeline.process(frame(scene(number), 0.1 * number)) for number in (1, 2)]
    assert [(result.prompts.reasons == PromptReason.GRID).sum() for result in results] == [16, 0]


def test_reset_forgets_stamps_too(pipeline: Pipeline) -> None:
    pipeline.process(frame(scene(0), 5.0))
    pipeline.reset()
    check(pipeline.process(frame(scene(0), 1.0)), None)


@pytest.mark.parametrize("level", [0, 20, 255])
def test_nothing_is_found_in_even_frames(pipeline: Pipeline, level: int) -> None:
    """A black frame, a dark one, a white one: no motion, no object, no error."""
    previous = None
    for number in range(4):
        result = pipeline.process(frame(np.full(SIZE, level, np.uint8), 0.1 * number))
        check(result, previous)
        assert not result.background.valid and result.objects == ()
        assert level == 255 or (len(result.prompts) == 0 and len(result.segments) == 0 and not result.encoded)
        previous = result


def test_a_black_frame_between_others_is_survived(pipeline: Pipeline) -> None:
    previous = None
    for number in range(8):
        image = np.zeros(SIZE, np.uint8) if number == 4 else scene(number)
        result = pipeline.process(frame(image, 0.1 * number))
        check(result, previous)
        previous = result
    assert result.background.valid


def test_nothing_is_matched_across_a_long_gap(pipeline: Pipeline) -> None:
    previous = None
    for number in range(8):
        previous = pipeline.process(frame(scene(number), 0.1 * number))
    alive = {item.id for item in previous.objects if item.state != ObjectState.LOST}
    assert alive
    result = pipeline.process(frame(scene(8), 10.7))
    check(result, previous)
    assert (len(result.matches), result.background.valid) == (0, False)
    assert {item.id for item in result.objects if item.state == ObjectState.LOST} == alive
    assert not any(item.reported for item in result.objects)
    after = pipeline.process(frame(scene(9), 10.8))
    assert after.background.valid and not alive & {item.id for item in after.objects}


def star_frames(with_mover: bool, frames: int, dt_s: float, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw a noisy star field before a camera that turns at 0.2 deg/s, rolling too; a mover crosses it at 25 px/s.

    No star stands within 12 px of the mover's way. Returns the images, and the mover's place in each, `(F, 2)`.
    """
    rng = np.random.default_rng(seed)
    field_px = rng.uniform((-120, -120), (440, 360), (150, 2))
    directions_N = CAMERA.bearings(field_px[np.abs(field_px[:, 1] - 120) > 12])
    fluxes = 10 ** rng.uniform(1.7, 3.2, len(directions_N))
    images, mover_px = [], []
    for number in range(frames):
        R_CN = Rotation.from_rotvec(dt_s * number * np.radians([0.1, 0.17, 0.8])).inv()
        mover_N = CAMERA.bearings(np.array([[90 + 25 * dt_s * number, 120.0]]))
        mover = CAMERA.project(R_CN.apply(mover_N))
        places = CAMERA.project(R_CN.apply(directions_N))
        mover_px.append(mover[0])
        spots, lights = (np.concatenate([places, mover]), np.append(fluxes, 600)) if with_mover else (places, fluxes)
        images.append(render(spots, lights, rng))
    return images, np.stack(mover_px)


def render(places: np.ndarray, fluxes: np.ndarray, rng: np.random.Generator, noise: float = 1.2) -> np.ndarray:
    levels = rng.normal(6, noise, (240, 320))
    for (x, y), flux in zip(places, fluxes, strict=True):
        if 5 < x < 314 and 5 < y < 234:
            columns, rows = int(x) + np.arange(-4, 6), int(y) + np.arange(-4, 6)
            spot = np.exp(-((columns - x) ** 2)[None] / 2.42) * np.exp(-((rows - y) ** 2)[:, None] / 2.42)
            levels[np.ix_(rows, columns)] += flux / (2 * np.pi * 1.21) * spot
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("camera", [CAMERA, None])
def test_a_resting_star_field_is_never_reported(models: Models, camera: CameraModel | None) -> None:
    pipeline, invalid = Pipeline(Config(), models), 0
    for number, image in enumerate(star_frames(False, 60, 0.2, seed=1)[0]):
        result = pipeline.process(frame(image, 0.2 * number, camera))
        assert not [item for item in result.objects if item.reported], f"a star is reported in frame {number}"
        invalid += not result.background.valid
    assert invalid == 1  # The first frame has none before it.


def test_a_mover_among_stars_is_found_with_its_bearing_rate(models: Models) -> None:
    """25 px/s at 1829 px of focal length are 13.7 mrad/s, known to 5 % after 30 frames; nothing else is reported."""
    pipeline, found = Pipeline(Config(), models), 0
    images, truth = star_frames(True, 30, 0.2, seed=2)
    for number, (image, place) in enumerate(zip(images, truth, strict=True)):
        result = pipeline.process(frame(image, 0.2 * number, CAMERA))
        for item in result.objects:
            if item.reported:
                found += 1
                assert np.linalg.norm(item.centroid_px - place) < 0.3
    (item,) = [item for item in result.objects if item.reported]
    assert found >= 20
    assert np.linalg.norm(item.velocity_px_s) == pytest.approx(25, rel=0.05)
    assert item.bearing_rate_rad_s is not None
    # The mover's way is not quite a great circle at an even rate; over 150 px that is far below a percent.
    assert np.linalg.norm(item.bearing_rate_rad_s) == pytest.approx(25 / CAMERA.matrix[0, 0], rel=0.05)


def test_hot_pixels_under_turning_stars_are_never_reported(models: Models) -> None:
    """Twelve single pixels and six spots of the point spread's width stand still while the stars go by."""
    rng, pipeline = np.random.default_rng(5), Pipeline(Config(), models)
    hot, spots = rng.integers((20, 20), (220, 300), (12, 2)), rng.uniform((20, 20), (300, 220), (6, 2))
    ghosts = render(spots, np.full(6, 400.0), np.random.default_rng(0), noise=0.0).astype(np.float64) - 6
    for number, image in enumerate(star_frames(False, 40, 0.2, seed=3)[0]):
        levels = image + ghosts
        levels[hot[:, 0], hot[:, 1]] += 80
        result = pipeline.process(frame(np.clip(levels, 0, 255).astype(np.uint8), 0.2 * number, CAMERA))
        assert not [item for item in result.objects if item.reported], f"reported in frame {number}"


def test_a_body_before_the_stars_is_followed_by_its_outline(models: Models) -> None:
    """A disc of 11 px of radius flies 25 px/s along the mover's way; SAM is not asked."""
    config = Config(segmentation=SegmentationConfig(prompt_budget=0))
    pipeline, (images, truth) = Pipeline(config, models), star_frames(False, 30, 0.2, seed=2)
    y, x = np.indices((240, 320))
    for number, (image, place) in enumerate(zip(images, truth, strict=True)):
        light = np.clip(11.5 - np.hypot(x - place[0], y - place[1]), 0, 1) * 120.0
        seen = np.clip(np.maximum(image, cv2.GaussianBlur(light, (0, 0), 1.0)), 0, 255).astype(np.uint8)
        result = pipeline.process(frame(seen, 0.2 * number, CAMERA))
        assert not result.encoded
        for item in result.objects:
            assert not item.reported or np.linalg.norm(item.centroid_px - place) < 0.5
    (item,) = [item for item in result.objects if item.reported]
    assert item.mask is not None and item.area_px == pytest.approx(np.pi * 11**2, rel=0.1)
    assert np.linalg.norm(item.velocity_px_s) == pytest.approx(25, rel=0.03)


def test_settings_reach_the_stages(models: Models) -> None:
    pipeline = Pipeline(Config(segmentation=SegmentationConfig(point_sources=False)), models)
    for number, image in enumerate(star_frames(True, 8, 0.2, seed=2)[0]):
        assert len(pipeline.process(frame(image, 0.2 * number, CAMERA)).segments) == 0
