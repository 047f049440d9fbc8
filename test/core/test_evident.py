"""Bare points where motion is densest: where they fall, which mask is taken, and how soon it counts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sparsematch_ros.egomotion.residual import evident_parting, evident_places
from sparsematch_ros.segmentation.proposers import Proposer
from sparsematch_ros.sky import Sky

from sparsematch_ros.config import SegmentationConfig, TrackingConfig
from sparsematch_ros.data import (
    EgoMotion,
    Expectations,
    Frame,
    ObjectState,
    PromptReason,
    Prompts,
    ResidualMotion,
    Segments,
)
from sparsematch_ros.segmentation.candidates import PromptAsker, Question
from sparsematch_ros.segmentation.sam import PromptedSam

from .test_tracking import Line

SIZE = (180, 320)
GLITTER = 0.1


def glitter(blocks: list[tuple[slice, slice]], size: tuple[int, int] = SIZE) -> ResidualMotion:
    """Make evidence of a tenth of all pixels at random, and of eight in ten in some blocks; flow is everywhere."""
    rng = np.random.default_rng(5)
    evidence = rng.random(size) < GLITTER
    for block in blocks:
        evidence[block] = rng.random(evidence[block].shape) < 0.8
    return ResidualMotion(np.full((*size, 2), 3.0, dtype=np.float32), evidence.astype(np.float32))


def moving(residual: ResidualMotion) -> EgoMotion:
    return EgoMotion(np.eye(3), "features", True, 0.1, residual=residual)


def test_places_are_where_motion_is_dense() -> None:
    """In pixels of an image twice as large as the raster; the glitter around asks for nothing."""
    places = evident_places(glitter([(slice(40, 90), slice(200, 225))]), (2 * SIZE[0], 2 * SIZE[1]), 1.0, 4)
    assert 2 <= len(places) <= 4
    assert ((places >= (2 * 200, 2 * 40)) & (places < (2 * 225, 2 * 90))).all()
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)[~np.eye(len(places), dtype=bool)]
    assert apart.min() > 2 * 11


def test_motion_under_the_threshold_has_no_places() -> None:
    """The flow is (3, 3) px everywhere: 4.24 px."""
    residual = glitter([(slice(40, 90), slice(200, 225))])
    assert len(evident_places(residual, SIZE, 4.2, 4)) > 0
    assert len(evident_places(residual, SIZE, 4.3, 4)) == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_even_evidence_has_no_places(share: float) -> None:
    """However dense it is: a background that was estimated badly moves everywhere."""
    evidence = (np.random.default_rng(0).random(SIZE) < share).astype(np.float32)
    assert len(evident_places(ResidualMotion(np.zeros((*SIZE, 2), np.float32), evidence), SIZE, 0.0, 4)) == 0


def test_the_parting_lies_between_the_block_and_the_rest() -> None:
    assert 0.4 < evident_parting(glitter([(slice(40, 90), slice(200, 225))])) < 0.6


@pytest.mark.parametrize(("box", "asked"), [((190.0, 30.0, 50.0, 70.0), False), ((10.0, 30.0, 50.0, 70.0), True)])
def test_points_are_asked_off_what_is_expected(box: tuple[float, float, float, float], asked: bool) -> None:
    corners, states = np.array([box]), np.zeros((1, 4))
    known = Expectations(
        None, states, np.eye(4)[None], corners, np.array([100.0]), np.array([0]), np.ones(1), np.ones(1, bool)
    )
    frame = Frame(0, 0, np.full((*SIZE, 3), 90, dtype=np.uint8))
    motion = moving(glitter([(slice(40, 90), slice(200, 225))]))
    prompts = Proposer(SegmentationConfig()).propose(frame, motion, Sky(), known)
    bare = ~np.isfinite(prompts.boxes_xyxy_px[:, 0]) & (prompts.reasons == PromptReason.MOTION)
    assert bare.any() == asked
    assert prompts.reasons[0] == PromptReason.EXPECTED and len(prompts) <= 8


@pytest.mark.parametrize("radius", [26, 34])
def test_of_the_answers_to_a_point_the_one_that_holds_the_motion_is_taken(blob_sam: PromptedSam, radius: int) -> None:
    """The small SAM draws discs of 16 to 34 px around a point, and is sure of the last two; in `radius` all moves."""
    size, found = (128, 128), []
    config = SegmentationConfig(targeted_iou_thresh=0.0, stability_score_offset=0.1)
    y, x = np.indices(size)
    frame = Frame(0, 0, np.full((*size, 3), 90, dtype=np.uint8))
    for place in np.random.default_rng(1).uniform(50, 78, (12, 2)):
        disc = (np.hypot(x - place[0], y - place[1]) <= radius).astype(np.float32)
        motion = moving(ResidualMotion(np.ones((*size, 2), np.float32), disc))
        prompts = Prompts(
            place[None], np.full((1, 4), np.nan), np.array([int(PromptReason.MOTION)]), np.array([np.nan])
        )
        embedding = blob_sam.encode(frame.image)
        answer = PromptAsker(blob_sam, config).ask(embedding, Question(frame, prompts, motion, Sky()), np.array([0]))
        found += [float(area) for area in (blob_sam.upsample(answer.logits, embedding) > 0).sum(dim=(1, 2))]
    assert len(found) >= 4
    assert np.median(np.sqrt(np.array(found) / np.pi)) == pytest.approx(radius, rel=0.2)


# How soon it counts


def test_what_a_survey_saw_before_it_moved_is_reported_a_frame_earlier(squares: Callable[..., Segments]) -> None:
    """Three frames as ever: the survey's is one of them, though only motion makes an object of it in the second."""
    line = Line(dark=False)
    assert line.step(squares([[40, 60]])) == ()
    (born,) = line.step(squares([[46, 60]], moving_share=0.9))
    assert born.state == ObjectState.TENTATIVE
    (item,) = line.step(squares([[52, 60]], moving_share=0.9))
    assert item.id == born.id and item.reported


def test_what_no_frame_showed_before_waits_for_its_third(squares: Callable[..., Segments]) -> None:
    line, states = Line(TrackingConfig(), dark=False), []
    line.step(squares([[130, 20]]))  # Another thing, of another size and out of reach.
    for number in range(3):
        (item,) = line.step(squares([[40 + 6 * number, 60]], moving_share=0.9))
        states.append(item.state)
    assert states == [ObjectState.TENTATIVE, ObjectState.TENTATIVE, ObjectState.CONFIRMED]


@pytest.mark.parametrize(("dark", "frames"), [(False, 2), (True, 3)])
def test_what_is_likely_gone_is_not_reported(squares: Callable[..., Segments], dark: bool, frames: int) -> None:
    """Seen four times, log odds 3 log 4.5; each frame without it takes log 8: positive for two, over -2 for three."""
    line = Line(dark=dark)
    for number in range(4):
        line.step(squares([[40 + 6 * number, 60]], moving_share=0.9))
    missed = [line.step(squares(np.zeros((0, 2)))) for _ in range(8)]
    assert [any(item.reported for item in objects) for objects in missed] == [number < frames for number in range(8)]
