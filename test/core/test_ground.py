"""The motion of ground and clouds from their texture, against the homography under which it was drawn."""

import cv2
import numpy as np
import pytest

from sparsematch_ros.background.estimator import BackgroundEstimator, View
from sparsematch_ros.background.ground import fit_ground
from sparsematch_ros.background.layers import Background, Layer, LayerKind
from sparsematch_ros.background.stars import Stars
from sparsematch_ros.config import BackgroundConfig
from sparsematch_ros.data import Frame
from sparsematch_ros.geometry import apply_homography

SIZE = (360, 480)
EVERYWHERE = np.ones(SIZE, dtype=bool)
STILL = np.eye(3)
TURN = np.array([[1.003, -0.012, 9.0], [0.012, 1.002, -6.0], [6e-6, -4e-6, 1]])
CORNERS = np.array([[0, 0], [479, 0], [0, 359], [479, 359.0]])
CONFIG = BackgroundConfig()
Y, X = np.indices(SIZE)


def texture(seed: int, sigmas: tuple[float, ...] = (2, 5, 12, 30), contrast: float = 35.0) -> np.ndarray:
    """Draw ground, larger than an image, with detail of some sizes [px]."""
    rng, total = np.random.default_rng(seed), np.zeros((SIZE[0] + 200, SIZE[1] + 200))
    for sigma in sigmas:
        layer = cv2.GaussianBlur(rng.normal(0, 1, total.shape), (0, 0), sigma)
        total += layer / layer.std()
    return np.asarray(np.clip(140 + contrast * total / total.std(), 0, 255))


def shown(ground: np.ndarray, homography: np.ndarray, seed: int, noise: float = 1.0) -> np.ndarray:
    """Show the middle of a ground under a homography, with noise."""
    middle = np.array([[1.0, 0, -100], [0, 1, -100], [0, 0, 1]])
    levels = cv2.warpPerspective(ground, homography @ middle, SIZE[::-1], flags=cv2.INTER_CUBIC)
    return np.asarray(levels + np.random.default_rng(seed).normal(0, noise, SIZE))


def gray(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def pair(
    homography: np.ndarray, seed: int = 0, land: np.ndarray | None = None, beside: float = 140.0
) -> tuple[np.ndarray, np.ndarray]:
    """Show a ground at rest and under a homography; beside the land `(H, W)` of the first image it is even."""
    ground = texture(seed)
    if land is not None:
        ground = np.where(np.pad(land, 100, mode="edge"), ground, beside)
    return gray(shown(ground, STILL, 2 * seed)), gray(shown(ground, homography, 2 * seed + 1))


def farthest_px(homography: np.ndarray, truth: np.ndarray, points: np.ndarray = CORNERS) -> float:
    return float(np.linalg.norm(apply_homography(homography, points) - apply_homography(truth, points), axis=1).max())


def share(errors: np.ndarray, covariances: np.ndarray) -> float:
    """Compute the mean of squared errors `(N, 2)` over their covariances `(N, 2, 2)`; 1 is as promised."""
    return float(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors).mean()) / 2


# What is fitted


@pytest.mark.parametrize("homography", [STILL, TURN], ids=["still", "turning"])
def test_texture_gives_the_homography(homography: np.ndarray) -> None:
    """Some 300 corners followed to 0.1 px fix the corners of the image to a tenth; three of these are allowed."""
    for seed in range(3):
        layer = fit_ground(pair(homography, seed), EVERYWHERE, STILL, 1.0, CONFIG)
        assert layer is not None and layer.kind == LayerKind.GROUND
        assert farthest_px(layer.homography, homography) < 0.3
        assert layer.inliers > 100 and layer.residual_px < 0.2
        errors = apply_homography(layer.homography, CORNERS) - apply_homography(homography, CORNERS)
        # Corners are not followed independently of each other: five deviations.
        assert share(errors, layer.transport(CORNERS).covariances_px2) < 5**2 / 2


def test_a_fast_run_is_followed_from_where_it_is_expected() -> None:
    """90 px a frame are beyond the reach of the flow, which is 21 px at eight times the size, unless it is told."""
    run = np.array([[1.0, 0, 90], [0, 1, -40], [0, 0, 1]])
    told = np.array([[1.0, 0, 80], [0, 1, -35], [0, 0, 1]])
    layer = fit_ground(pair(run), EVERYWHERE, told, 1.0, CONFIG)
    assert layer is not None and farthest_px(layer.homography, run) < 0.3


def test_a_large_mover_does_not_bend_the_ground() -> None:
    """A textured square over a tenth of the image, which runs by 8 px more."""
    before, after = pair(TURN)
    body = gray(shown(texture(9), STILL, 5))[:130, :130]
    before[100:230, 150:280] = body
    after[103:233, 172:302] = body
    layer = fit_ground((before, after), EVERYWHERE, STILL, 1.0, CONFIG)
    assert layer is not None and farthest_px(layer.homography, TURN) < 0.4


def test_only_what_may_be_ground_counts() -> None:
    """The left half runs otherwise than the right half; whichever is allowed is followed."""
    other = np.array([[1.0, 0, -5], [0, 1, 4], [0, 0, 1]])
    first, second = pair(TURN, 1), pair(other, 2)
    left = X < 230
    images = tuple(np.where(X < 240, one, two) for one, two in zip(first, second, strict=True))
    for allowed, truth, points in ((left, TURN, CORNERS[[0, 2]]), (~left & (X > 250), other, CORNERS[[1, 3]])):
        layer = fit_ground((images[0], images[1]), allowed, STILL, 1.0, CONFIG)
        assert layer is not None and farthest_px(layer.homography, truth, points) < 0.5


def test_smooth_clouds_are_followed_by_their_coarse_structure() -> None:
    """Detail of 25 px and more, 3 levels of noise: only the reduced image can be followed, to half a pixel."""
    clouds = texture(3, (25, 40), 30.0)
    images = gray(shown(clouds, STILL, 6, 3.0)), gray(shown(clouds, TURN, 7, 3.0))
    layer = fit_ground(images, EVERYWHERE, STILL, 3.0, CONFIG)
    assert layer is not None
    middle = np.array([[240.0, 180.0]])
    assert farthest_px(layer.homography, TURN, middle) < 0.5
    errors = apply_homography(layer.homography, CORNERS) - apply_homography(TURN, CORNERS)
    assert share(errors, layer.transport(CORNERS).covariances_px2) < 5**2 / 2


# What is not


@pytest.mark.parametrize("side", [40, 60])
def test_a_fit_that_rests_on_a_corner_is_not_valid_elsewhere(side: int) -> None:
    """Texture in a corner of the image alone: no layer, or one that says how little it knows of the opposite corner."""
    for seed in range(4):
        ground = (side > X) & (side > Y)
        before, after = pair(TURN, seed)
        images = gray(np.where(ground, before, 140)), gray(np.where(ground, after, 140))
        layer = fit_ground(images, EVERYWHERE, STILL, 1.0, CONFIG)
        if layer is not None:
            transport = layer.transport(CORNERS[[0, 3]])
            sigmas = np.sqrt(np.trace(transport.covariances_px2, axis1=1, axis2=2) / 2)
            assert sigmas[1] > 5 * sigmas[0]
            error = transport.points_px[1:] - apply_homography(TURN, CORNERS[3:])
            assert share(error, transport.covariances_px2[1:]) < 5**2 / 2


def test_texture_in_half_the_image_says_less_of_the_other_half() -> None:
    layer = fit_ground(pair(TURN, 4, X < 200), EVERYWHERE, STILL, 1.0, CONFIG)
    assert layer is not None
    sigmas = np.sqrt(np.trace(layer.transport(CORNERS).covariances_px2, axis1=1, axis2=2))
    assert sigmas[[1, 3]].min() > 3 * sigmas[[0, 2]].max()


def test_two_scenes_without_common_texture_say_nothing() -> None:
    for seed in range(5):
        images = pair(STILL, 10 + seed)[0], pair(STILL, 20 + seed)[1]
        assert fit_ground(images, EVERYWHERE, STILL, 1.0, CONFIG) is None


@pytest.mark.parametrize("slope", [0.0, 0.4, 3.0])
def test_a_straight_edge_says_nothing(slope: float) -> None:
    """A bright half plane without any mark, which moves by 4 px: an edge slides along itself unseen."""
    across = np.array([-slope, 1.0]) / np.hypot(1, slope)
    for seed in range(3):
        images = []
        for index, way_px in enumerate((0.0, 4.0)):
            depth = (X - 240) * across[0] + (Y - 180) * across[1] - way_px
            levels = 8 + 160 * np.clip(depth / 3 + 0.5, 0, 1)
            images.append(gray(levels + np.random.default_rng((seed, index)).normal(0, 1.5, SIZE)))
        assert fit_ground((images[0], images[1]), EVERYWHERE, STILL, 1.5, CONFIG) is None


@pytest.mark.parametrize("noise", [1.0, 5.0, 70.0])
def test_noise_agrees_with_no_motion(noise: float) -> None:
    for seed in range(3):
        images = [gray(np.random.default_rng((seed, index)).normal(128, noise, SIZE)) for index in range(2)]
        assert fit_ground((images[0], images[1]), EVERYWHERE, STILL, noise, CONFIG) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 0), (255, 255), (0, 255), (None, 0), (0, None), (None, 255), (255, None)],
)
def test_even_images_say_nothing(first: int | None, second: int | None) -> None:
    """Black, saturated, and a change from or to texture."""
    ground = pair(STILL)[0]
    images = [ground if level is None else np.full(SIZE, level, np.uint8) for level in (first, second)]
    assert fit_ground((images[0], images[1]), EVERYWHERE, STILL, 1.0, CONFIG) is None


def test_nothing_allowed_and_a_tiny_image_say_nothing() -> None:
    images = pair(STILL)
    assert fit_ground(images, ~EVERYWHERE, STILL, 1.0, CONFIG) is None
    tiny = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    assert fit_ground((tiny, tiny[::-1].copy()), np.ones((16, 16), dtype=bool), STILL, 1.0, CONFIG) is None


# Ground and stars


def view(
    index: int, levels: np.ndarray, sky_share: float, stars: np.ndarray, surroundings: np.ndarray = EVERYWHERE,
    texture: np.ndarray | None = None, roughness: float = 1.0,
) -> View:  # fmt: skip
    each = np.ones(len(stars))
    frame = Frame(index, index * 10**8, np.repeat(gray(levels)[..., None], 3, axis=2))
    shown_texture = np.full(SIZE, np.nan) if texture is None else texture
    return View(
        frame,
        Stars.of(stars, 0.05 * each, 15 * each, 1000),
        surroundings,
        sky_share,
        1.0,
        shown_texture.astype(np.float32),
        roughness,
    )


def test_ground_alone_is_the_reference() -> None:
    views = [view(index, image, 0.0, np.zeros((0, 2))) for index, image in enumerate(pair(TURN))]
    motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
    assert motion.method == "ground" and motion.reference is motion.ground and motion.stars is None
    assert motion.dt_s == pytest.approx(0.1) and farthest_px(motion.homography, TURN) < 0.3


def test_objects_are_left_out_of_the_ground() -> None:
    """Two thirds of the texture are a tracked object that moves by 5 px; without it the ground is at rest."""
    moving = X > 160
    shift = np.array([[1.0, 0, 5], [0, 1, 3], [0, 0, 1]])
    still, running = pair(STILL, 6), pair(shift, 7)
    images = [np.where(moving, one, two) for one, two in zip(running, still, strict=True)]
    views = [view(index, image, 0.0, np.zeros((0, 2))) for index, image in enumerate(images)]
    known = View(**{**vars(views[0]), "objects": cv2.dilate(moving.astype(np.uint8), np.ones((25, 25))) > 0})
    left = np.array([[10.0, 20], [10, 340], [120, 180]])
    motion = BackgroundEstimator(CONFIG).estimate(known, views[1], Background())
    assert motion.ground is not None and farthest_px(motion.ground.homography, STILL, left) < 0.3
    blind = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
    assert blind.ground is None or farthest_px(blind.ground.homography, STILL, left) > 1.0


def test_a_body_before_a_sky_without_stars_is_no_ground() -> None:
    """A textured square runs by (8, 5) px before noise alone; smooth cloud in its place is the ground."""
    run = np.array([[1.0, 0, 8], [0, 1, 5], [0, 0, 1]])
    cloud, square = texture(13, (20,), 20.0), (np.abs(X - 240) < 60) & (np.abs(Y - 180) < 60)
    for bodies in (True, False):
        views = []
        for index, homography in enumerate((STILL, run)):
            where = cv2.warpPerspective(square.astype(np.uint8), homography, SIZE[::-1]) > 0
            sky = shown(cloud if not bodies else np.full(cloud.shape, 20.0), homography, 30 + index)
            levels = np.where(where, shown(texture(14), homography, 40 + index), sky) if bodies else sky
            looks = np.where(where & bodies, np.nan, sky - sky.mean())
            views.append(view(index, levels, 0.9, np.zeros((0, 2)), ~EVERYWHERE, looks))
        motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
        if bodies:
            assert motion.ground is None
        else:
            assert motion.method == "ground" and farthest_px(motion.homography, run) < 3.0


def test_objects_with_most_of_the_corners_are_no_ground() -> None:
    """Smooth cloud runs by (-7, 0) px, and two textured squares before it by other ways: neither is the ground's."""
    cloud, squares = texture(15, (40,), 50.0), [(120, 100), (360, 250)]
    images = []
    for index in range(2):
        levels = shown(cloud, np.array([[1.0, 0, -7 * index], [0, 1, 0], [0, 0, 1]]), 50 + index, 0.5)
        for number, (x, y) in enumerate(squares):
            way = index * np.array([[9, 4], [-3, 8]])[number]
            patch = texture(16 + number)[:70, :70]
            levels[y + way[1] : y + way[1] + 70, x + way[0] : x + way[0] + 70] = patch
        images.append(gray(levels))
    layer = fit_ground((images[0], images[1]), EVERYWHERE, STILL, 0.6, CONFIG)
    cloudy = np.array([[30.0, 330], [450, 30], [240, 20]])
    assert layer is None or farthest_px(layer.homography, np.array([[1.0, 0, -7], [0, 1, 0], [0, 0, 1]]), cloudy) < 3.0


@pytest.mark.parametrize("sky_share", [0.6, 0.2])
def test_stars_beside_a_planet_are_the_reference_where_they_move_otherwise(sky_share: float) -> None:
    """A planet in the lower half runs by (9, -6) px and turns, the stars above by (-3, 2) px: two layers."""
    planet, rng = Y > 170, np.random.default_rng(8)
    stars = rng.uniform((10, 10), (470, 150), (40, 2))
    views = [
        view(index, image, sky_share, stars + index * np.array([-3.0, 2.0]), planet)
        for index, image in enumerate(pair(TURN, 8, planet, 10.0))
    ]
    motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
    assert motion.method == "stars" and motion.reference is motion.stars
    assert motion.ground is not None and motion.stars is not None
    assert farthest_px(motion.ground.homography, TURN, CORNERS[2:]) < 0.5
    np.testing.assert_allclose(
        apply_homography(motion.stars.homography, CORNERS[:2]) - CORNERS[:2], [[-3, 2]] * 2, atol=0.2
    )
    assert [layer.kind for layer in motion.layers] == [LayerKind.STARS, LayerKind.GROUND, LayerKind.DETECTOR]


def test_specks_on_a_dark_ocean_are_no_stars() -> None:
    """What looks like stars on a fifth of the image rolls with the ground, as a camera does: that is the reference."""
    rng = np.random.default_rng(9)
    roll = np.array([[np.cos(0.012), -np.sin(0.012), 9.0], [np.sin(0.012), np.cos(0.012), -6.0], [0, 0, 1]])
    specks = rng.uniform((10, 10), (470, 90), (40, 2))
    views = [
        view(index, image, 0.2, apply_homography(homography, specks), Y > 100)
        for index, (image, homography) in enumerate(zip(pair(roll, 9, Y > 100, 10.0), (STILL, roll), strict=True))
    ]
    motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
    assert motion.method == "ground" and motion.reference is motion.ground


@pytest.mark.parametrize("repeats", [True, False])
def test_a_rough_sky_whose_noise_repeats_is_ground(repeats: bool) -> None:
    """A dark ocean with waves looks like much sky; its waves go with the ground, the noise of a sensor is new.

    Of its glints two thirds are others in each frame.
    """
    rng = np.random.default_rng(11)
    views = []
    for index, image in enumerate(pair(TURN, 11)):
        waves = image - 140.0 if repeats else rng.normal(0, 35, SIZE)
        waves[100:120, 100:120] = np.nan
        stars = np.random.default_rng(12).uniform((10, 10), (470, 350), (30, 2)) + 4 * index
        stars = np.concatenate([stars, rng.uniform((10, 10), (470, 350), (60, 2))])
        views.append(view(index, image, 0.6, stars, ~EVERYWHERE, waves, 6.0))
    motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background())
    assert motion.ground is not None and motion.stars is not None
    assert motion.method == ("ground" if repeats else "stars")


def test_the_last_motion_leads_to_a_fast_ground() -> None:
    """The run of 90 px a frame, of which the last interval, half as long, showed 45."""
    run, half = np.eye(3), np.eye(3)
    run[0, 2], half[0, 2] = 90.0, 45.0
    last = Layer(LayerKind.GROUND, half, np.zeros((9, 9)), 100, 0.1)
    views = [view(index, image, 0.0, np.zeros((0, 2))) for index, image in enumerate(pair(run))]
    motion = BackgroundEstimator(CONFIG).estimate(views[0], views[1], Background(0.05, last, last, None, "ground"))
    assert motion.ground is not None and farthest_px(motion.ground.homography, run) < 0.3
