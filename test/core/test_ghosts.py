"""Ghosts of a bright light: where they lie, how they move, and that they are no objects."""

import numpy as np
import pytest

from sparsematch_ros.background.ghosts import find_light, ghost_layer, on_line
from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.data import FloatArray, Frame
from sparsematch_ros.tracking.models import ModelBank

FRAME = Frame(0, 0, np.zeros((120, 160, 3), dtype=np.uint8))
AXIS = np.array([79.5, 59.5])
LIGHT = np.array([120.0, 30.0])
TURN = np.array([2.0, 1.0])
SHARES = np.array([-0.8, -0.3, 0.5])


def stars(step_px: FloatArray) -> Layer:
    homography = np.eye(3)
    homography[:2, 2] = step_px
    return Layer(LayerKind.STARS, homography, np.zeros((9, 9)))


def ghosts_of(light_px: FloatArray) -> FloatArray:
    return AXIS + SHARES[:, None] * (light_px - AXIS)


def test_the_light_is_the_middle_of_the_largest_saturated_disc() -> None:
    """Within half a pixel, a bleeding column through it or not; small and dim spots are none."""
    rows, columns = np.ogrid[:120, :160]
    gray = np.where(np.hypot(columns - 60, rows - 40) < 8, 255, 20).astype(np.uint8)
    column = gray.copy()
    column[:, 60] = 255
    for image in (gray, column):
        place = find_light(image)
        assert place is not None
        np.testing.assert_allclose(place, [60, 40], atol=0.5)
    assert find_light(np.minimum(gray, 240)) is None
    point = np.zeros((120, 160), dtype=np.uint8)
    point[50:52, 50:52] = 255
    assert find_light(point) is None


def test_a_light_at_the_border_is_found_by_what_shows() -> None:
    gray = np.zeros((120, 160), dtype=np.uint8)
    gray[30:50, :8] = 255
    place = find_light(gray)
    assert place is not None and place[0] < 8 and abs(place[1] - 39.5) < 0.5


def test_ghosts_keep_their_share_of_the_way_to_the_light() -> None:
    """Exact: the layer carries each ghost to where its share puts it after the turn."""
    layer = ghost_layer(LIGHT, FRAME, stars(TURN))
    assert layer is not None
    np.testing.assert_allclose(layer.transport(ghosts_of(LIGHT)).points_px, ghosts_of(LIGHT + TURN), atol=1e-9)


@pytest.mark.parametrize(("light", "sky"), [(None, stars(TURN)), (LIGHT, None), (AXIS + 1.0, stars(TURN))])
def test_without_a_light_or_its_motion_there_is_no_layer(light: FloatArray | None, sky: Layer | None) -> None:
    assert ghost_layer(light, FRAME, sky) is None


def test_only_what_lies_on_the_line_may_be_a_ghost() -> None:
    chance = on_line(np.vstack([ghosts_of(LIGHT), AXIS + 30.0]), LIGHT, FRAME)
    np.testing.assert_allclose(chance[:3], 1.0)
    assert chance[3] < 1e-6
    assert not on_line(ghosts_of(LIGHT), None, FRAME).any()
    assert not on_line(ghosts_of(LIGHT), AXIS, FRAME).any()  # As in a frame that is all saturated.


@pytest.mark.parametrize(("ghost_prior", "moves"), [(0.2, False), (1e-6, True)])
def test_a_ghost_does_not_move_on_its_own(ghost_prior: float, moves: bool) -> None:
    """A place that goes as a ghost does over ten frames is one where it lies on the line; elsewhere it is an object."""
    light, prior = LIGHT, np.full(3, ghost_prior)
    errors = np.broadcast_to(0.1**2 * np.eye(2), (3, 2, 2))
    bank = ModelBank.born(ghosts_of(light), errors, np.full(3, 1e-4), prior, 50.0)
    for _ in range(10):
        sky = stars(TURN)
        background = Background(0.2, sky, None, sky, "stars", ghosts=ghost_layer(light, FRAME, sky))
        light = light + TURN
        bank = bank.predicted(background, np.broadcast_to(np.eye(2), (3, 2, 2)), np.full(3, 10.0), 0.3)
        extra = np.zeros((3, bank.log_weights.shape[1]))
        bank = bank.updated(np.arange(3), ghosts_of(light), errors, extra, np.ones(3))
    assert ((bank.moving > 0.5) == moves).all()
