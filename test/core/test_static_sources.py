"""Stars, hot pixels and movers told apart over frames of points whose motion is known."""

import numpy as np
import pytest

from sparsematch_ros.background.layers import DETECTOR, Layer, LayerKind
from sparsematch_ros.background.static_sources import StaticBackground, StaticSources
from sparsematch_ros.geometry import apply_homography

SIZE = (240, 320)
SIGMA_PX = 0.1
# Root of the covariance of a round source: 1.1 px of spread, 1 px of smoothing.
ROOT = np.hypot(1.1, 1.0) * np.eye(2)
NONE = np.zeros((0, 2))


def sky_moved(x: float, y: float, roll_rad: float = 0.0) -> Layer:
    cosine, sine = np.cos(roll_rad), np.sin(roll_rad)
    return Layer(LayerKind.STARS, np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]]), np.zeros((9, 9)))


def sigmas(points: np.ndarray) -> np.ndarray:
    return np.full(len(points), SIGMA_PX)


class Night:
    """Frames of stars that move with the sky, hot pixels, and movers with a velocity of their own."""

    def __init__(
        self, layer: Layer | None, stars: np.ndarray, hot: np.ndarray = NONE, movers: np.ndarray = NONE,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.layer, self.stars, self.hot, self.places = layer, stars, hot, movers
        self.rng, self.known, self.index = np.random.default_rng(seed), StaticBackground(), 0

    def step(self, own_px: tuple[float, float] = (0.0, 0.0), claimed: bool = False) -> dict[str, np.ndarray]:
        """Move everything on, and ask which sources are movers; the answer comes by kind."""
        if self.index and self.layer is not None:
            self.stars = apply_homography(self.layer.homography, self.stars)
            self.places = apply_homography(self.layer.homography, self.places) + own_px
        truth = np.concatenate([self.stars, self.hot, self.places])
        kinds = np.repeat(["star", "hot", "mover"], [len(self.stars), len(self.hot), len(self.places)])
        inside = ((truth >= 1) & (truth < np.array(SIZE[::-1]) - 1)).all(axis=1)
        points = truth + self.rng.normal(0, SIGMA_PX, truth.shape) * (kinds != "hot")[:, None]
        points, kinds = points[inside], kinds[inside]
        layer = self.layer if self.index else None
        found = self.known.movers(points, sigmas(points), ROOT, layer, claimed & (kinds == "mover"), SIZE)
        self.index += 1
        return {kind: found[kinds == kind] for kind in ("star", "hot", "mover")}


def field(count: int, seed: int = 0) -> np.ndarray:
    """Spread stars over the view and 100 px around it, at least 12 px apart."""
    rng, kept = np.random.default_rng(seed), np.zeros((0, 2))
    while len(kept) < count:
        place = rng.uniform((-100, -100), (420, 340), (1, 2))
        if len(kept) == 0 or np.linalg.norm(kept - place, axis=1).min() > 12:
            kept = np.concatenate([kept, place])
    return kept


def lone_place(stars: np.ndarray, around: tuple[float, float]) -> np.ndarray:
    """Choose the place near `around` that is farthest from all stars."""
    x, y = np.meshgrid(np.arange(-15, 16, 3) + around[0], np.arange(-15, 16, 3) + around[1])
    places = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    return places[[np.linalg.norm(places[:, None] - stars[None], axis=2).min(axis=1).argmax()]]


# The background of a night


@pytest.mark.parametrize("layer", [sky_moved(0, 0), sky_moved(3.4, -2.1), sky_moved(1.0, 0.5, 0.01)])
def test_stars_are_no_movers(layer: Layer) -> None:
    """60 stars over 15 frames, those included that enter: an error of 0.1 px is four deviations of the search."""
    night = Night(layer, field(60))
    answers = [night.step()["star"] for _ in range(15)]
    assert sum(len(each) for each in answers) > 200
    assert sum(each.sum() for each in answers) == 0


def test_a_mover_among_the_stars_is_found_from_the_second_frame() -> None:
    """3 px a frame against the sky; nothing is a mover before anything is remembered, nor beside a star."""
    stars = field(25, 1)
    night = Night(sky_moved(1.0, -0.7), stars, movers=lone_place(stars, (100.0, 120.0)))
    found = [night.step((3.0, 1.0)) for _ in range(12)]
    assert not found[0]["mover"].any()
    assert sum(each["mover"].sum() for each in found[1:]) >= 8
    assert sum(each["star"].sum() for each in found) == 0


def test_hot_pixels_are_known_once_the_sky_has_moved_over_them() -> None:
    """A hot pixel moves against the sky as an object does; after a way of 1.5 px it is the detector's."""
    hot = np.array([[60.0, 60], [200, 100], [120, 200]])
    stars = field(30, 2)
    stars = stars[np.linalg.norm(stars[:, None] - hot[None], axis=2).min(axis=1) > 40]
    night = Night(sky_moved(0.8, 0.0), stars, hot)
    answers = [night.step()["hot"] for _ in range(10)]
    assert not any(each.any() for each in answers[4:])
    assert sum(each.sum() for each in night_of_stars(stars)) == 0


def night_of_stars(stars: np.ndarray) -> list[np.ndarray]:
    night = Night(sky_moved(0.8, 0.0), stars)
    return [night.step()["star"] for _ in range(10)]


def test_every_pixel_hot_is_no_mover_for_long() -> None:
    """A lattice of sources on the detector, seen again and again below a sky that runs: no flood of movers."""
    x, y = np.meshgrid(np.arange(8, 312, 8.0), np.arange(8, 232, 8.0))
    lattice = np.stack([x.ravel(), y.ravel()], axis=1)
    for layer in (sky_moved(0.0, 0.0), sky_moved(2.0, 0.5), None):
        night = Night(layer, NONE, lattice)
        answers = [night.step()["hot"] for _ in range(6)]
        assert not answers[0].any() and not any(each.any() for each in answers[3:])


def test_what_stays_with_the_sky_for_a_while_becomes_a_star() -> None:
    """A source that appears in the middle of the view is a mover once, and no longer after it was seen again."""
    stars, layer = field(25, 3), sky_moved(1.0, 0.0)
    night = Night(layer, stars)
    for _ in range(5):
        night.step()
    night.places = lone_place(night.stars, (160.0, 120.0))
    answers = [bool(night.step()["mover"].any()) for _ in range(4)]
    assert answers == [True, False, False, False]


def test_a_tracked_object_may_rest_on_the_sky_for_a_frame() -> None:
    """Where an object is predicted a source that was seen there once is still it; seen twice there it is a star."""
    stars = field(25, 4)
    night = Night(sky_moved(1.0, 0.0), stars)
    for _ in range(5):
        night.step()
    night.places = lone_place(night.stars, (160.0, 120.0))
    answers = [bool(night.step(claimed=True)["mover"].any()) for _ in range(4)]
    assert answers == [True, True, False, False]


def test_without_the_motion_of_the_sky_nothing_is_a_mover() -> None:
    stars = field(25, 5)
    night = Night(None, stars, movers=lone_place(stars, (160.0, 120.0)))
    for _ in range(5):
        answers = night.step((4.0, 0.0), claimed=True)
        assert not answers["mover"].any() and not answers["star"].any()


def test_a_new_star_enters_along_the_border() -> None:
    """The sky runs by 10 px to the right: what appears within these 10 px of the left border was not in view before."""
    layer, known = sky_moved(10.0, 0.0), StaticBackground()
    first = np.array([[100.0, 100.0], [200.0, 150.0]])
    known.movers(first, sigmas(first), ROOT, None, np.zeros(2, dtype=bool), SIZE)
    second = np.array([[110.0, 100], [210, 150], [8, 60], [30, 60], [160, 237.5], [160, 220]])
    movers = known.movers(second, sigmas(second), ROOT, layer, np.zeros(6, dtype=bool), SIZE)
    assert movers.tolist() == [False, False, False, True, False, True]


def test_a_blend_with_a_star_is_no_mover() -> None:
    """Within 1.5 of the spread, 2.2 px, of a star that is surely there what is measured is partly the star."""
    known, layer = StaticBackground(), sky_moved(0.0, 0.0)
    star = np.array([[100.0, 100.0], [200.0, 150.0]])
    for index in range(6):
        known.movers(star, sigmas(star), ROOT, layer if index else None, np.zeros(2, dtype=bool), SIZE)
    for away, expected in ((1.5, False), (3.0, True)):
        blend = star + np.array([[away, 0.0], [0.0, 0.0]])
        movers = known.movers(blend, sigmas(blend), ROOT, layer, np.zeros(2, dtype=bool), SIZE)
        assert movers.tolist() == [expected, False]


def test_a_streak_is_a_blend_along_its_length() -> None:
    known = StaticSources()
    for _ in range(5):
        known.learn(np.array([[100.0, 100.0]]), np.array([SIGMA_PX]), SIZE)
    beside = np.array([[105.0, 100.0], [100.0, 105.0]])
    assert known.beside(beside, np.diag([4.0, 1.5])).tolist() == [True, False]
    assert known.beside(NONE, ROOT).tolist() == []


def test_no_sources_and_none_again() -> None:
    known = StaticBackground()
    for layer in (None, sky_moved(1, 1), None):
        assert known.movers(NONE, np.zeros(0), ROOT, layer, np.zeros(0, dtype=bool), SIZE).tolist() == []
    one = np.array([[100.0, 100.0]])
    # After an empty frame nothing is remembered, so that nothing can be new.
    assert not known.movers(one, sigmas(one), ROOT, sky_moved(1, 1), np.ones(1, dtype=bool), SIZE).any()


# Places


def test_places_go_with_their_layer_and_count_the_way_of_the_sky() -> None:
    layer = sky_moved(3.0, 4.0)
    sky, detector = StaticSources(), StaticSources()
    for known in (sky, detector):
        known.learn(np.array([[50.0, 60.0]]), np.array([SIGMA_PX]), SIZE)
    sky.advance(layer, layer)
    detector.advance(DETECTOR, layer)
    np.testing.assert_allclose(sky.places_px, [[53, 64]])
    np.testing.assert_allclose(detector.places_px, [[50, 60]])
    np.testing.assert_allclose(sky.ways_px, [0.0], atol=1e-12)
    np.testing.assert_allclose(detector.ways_px, [5.0])
    hits, ways = detector.at(np.array([[50.3, 60.0], [50.0, 62.0]]), np.array([SIGMA_PX, SIGMA_PX]))
    assert hits.tolist() == [1, 0]
    np.testing.assert_allclose(ways, [5.0, 0.0])
    sky.advance(None, None)
    assert len(sky.places_px) == len(sky.hits) == len(sky.ways_px) == 0
    assert sky.at(np.array([[53.0, 64.0]]), np.array([SIGMA_PX]))[0].tolist() == [0]


def test_a_place_outlives_as_many_misses_as_it_had_hits() -> None:
    """Seen once and not again it is gone; seen n times it is kept through n - 1 misses, ten at most."""
    for seen, kept in ((1, 0), (2, 1), (5, 4), (30, 10)):
        known, place = StaticSources(), np.array([[50.0, 60.0]])
        for _ in range(seen):
            known.learn(place, np.array([SIGMA_PX]), SIZE)
        assert known.hits.tolist() == [seen]
        misses = 0
        while len(known.places_px):
            known.learn(NONE, np.zeros(0), SIZE)
            misses += 1
        assert misses - 1 == kept


def test_a_place_follows_a_slow_drift_and_leaves_the_image_with_it() -> None:
    """0.02 px a frame: the place lags by 0.02 / 0.1 = 0.2 px, within the search; a jump of 3 px is another place."""
    known, place = StaticSources(), np.array([[50.0, 60.0]])
    for _ in range(100):
        place = place + np.array([0.02, 0.0])
        known.learn(place, np.array([SIGMA_PX]), SIZE)
    assert known.hits.tolist() == [100]
    assert place[0, 0] - known.places_px[0, 0] == pytest.approx(0.2, abs=0.03)
    known.learn(place + 3, np.array([SIGMA_PX]), SIZE)
    assert known.hits.tolist() == [100, 1]
    known.advance(sky_moved(300.0, 0.0), None)
    known.learn(NONE, np.zeros(0), SIZE)
    assert len(known.places_px) == 0


def test_the_search_widens_with_the_error_of_the_source() -> None:
    """0.4 px and three deviations."""
    known = StaticSources()
    known.learn(np.array([[50.0, 60.0]]), np.array([SIGMA_PX]), SIZE)
    points = np.array([[50.65, 60.0], [50.75, 60.0], [50.75, 60.0]])
    assert known.at(points, np.array([0.1, 0.1, 0.2]))[0].tolist() == [1, 0, 1]


def test_memory_is_limited() -> None:
    x, y = np.meshgrid(np.arange(0, 320, 2.0), np.arange(0, 240, 2.0))
    known, lattice = StaticSources(), np.stack([x.ravel(), y.ravel()], axis=1)
    for shift in (0.0, 1.0):
        known.learn(lattice + shift, np.full(len(lattice), 0.05), SIZE)
    assert len(known.places_px) == len(known.hits) == len(known.ways_px) == 6000
