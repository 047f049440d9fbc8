"""MobileSAM with its real weights: the same numbers as the authors' own code, and a spacecraft found in a picture.

How the expected numbers were made (`fixtures/mobile_sam_reference.npz`): `mobile_sam` of ChaoningZhang/MobileSAM at
commit 34bbbfd, `sam_model_registry["vit_t"]()` with the weights of `weights/mobile_sam.pt`, then `.eval()` (as in its
README; `eval()` caches the table of attention biases, so it must come after the weights), torch on a CPU, float32.
`SamPredictor.set_image` on `fixtures/limb_pass_320x240.png`, then `predict_torch` with each point alone and with the
first point and the box, once with `multimask_output=False` and once with True: one and three masks, which stand side by
side here. For an input of 512 px its `TinyViT` was made with `img_size=512`, the prompt encoder's sizes were set to
match, and the fixed 64 x 64 in its last reshape was replaced by the true side; at 1024 px nothing was changed.

In the file, for each input size: 400 features and their flat places; `(4, 4)` predicted IoU; 32 logits of every mask
and their flat places in the 4g x 4g raster; areas of the masks there. The picture is the first frame of the scenario
`limb_pass`, halved.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile

from sparsematch_ros.config import SegmentationConfig
from sparsematch_ros.data import EgoMotion, Expectations, Frame, PromptReason
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.segmentation.models import build_sam
from sparsematch_ros.segmentation.sam import PromptedSam
from sparsematch_ros.segmentation.segmenter import AdaptiveSegmenter
from sparsematch_ros.simulation.scenario import load_scenario
from sparsematch_ros.simulation.scene import Scene
from sparsematch_ros.sky import survey_sky
from sparsematch_ros.weights.registry import checkpoint_named
from sparsematch_ros.weights.store import load_state_dict, locate

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    try:
        path = locate("mobile_sam")
    except SparsematchError as missing:
        pytest.skip(f"real weights are needed: {missing}")
    return load_state_dict(path, checkpoint_named("mobile_sam"))


@pytest.fixture(scope="module")
def reference() -> NpzFile:
    return np.load(FIXTURES / "mobile_sam_reference.npz")


@pytest.mark.parametrize("side", [512, 1024])
def test_agreement_with_the_authors_code(state: dict[str, torch.Tensor], reference: NpzFile, side: int) -> None:
    image = cv2.cvtColor(cv2.imread(str(FIXTURES / "limb_pass_320x240.png")), cv2.COLOR_BGR2RGB)
    model = PromptedSam(build_sam("mobile_sam", state, side), torch.device("cpu"))
    embedding = model.encode(image)
    features = embedding.features.flatten()[reference[f"feature_index_{side}"]]
    np.testing.assert_allclose(features, reference[f"features_{side}"], atol=1e-3, rtol=0)
    points = reference["points_px"]
    by_point, with_box = model.decode(embedding, points), model.decode(embedding, points[:1], reference["box_xyxy_px"])
    logits, scores = (torch.cat(parts) for parts in zip(by_point, with_box, strict=True))
    np.testing.assert_allclose(scores, reference[f"scores_{side}"], atol=1e-3, rtol=0)
    sampled = logits.flatten(2)[:, :, reference[f"logit_index_{side}"]]
    np.testing.assert_allclose(sampled, reference[f"logits_{side}"], atol=1e-3, rtol=0)
    # A logit within 1e-3 of zero may fall on either side.
    np.testing.assert_allclose((logits > 0).sum(dim=(2, 3)), reference[f"areas_{side}"], atol=2)


@pytest.fixture(scope="module")
def flight() -> Scene:
    return Scene(load_scenario("fly_by"), 0)


@pytest.mark.parametrize("time_s", [0.0, 10.0])
def test_a_spacecraft_is_found_by_one_prompt(state: dict[str, torch.Tensor], flight: Scene, time_s: float) -> None:
    """The simulated satellite against the stars: one question, one mask, on the true one."""
    rendered = flight.render(time_s, flight.programme(time_s))
    frame = Frame(0, 0, rendered.image)
    config = SegmentationConfig()
    segmenter = AdaptiveSegmenter(PromptedSam(build_sam("mobile_sam", state, 512), torch.device("cpu")), config)
    found = segmenter.segment(frame, EgoMotion(), survey_sky(frame.gray, config, 500), Expectations())
    assert found.prompts.reasons.tolist() == [PromptReason.BRIGHT]
    assert found.segments.mask_count == 1
    truth, mask = rendered.labels == 1, found.segments.masks[0].numpy()
    assert (truth & mask).sum() / (truth | mask).sum() > 0.8
    # What lies in shadow at the edge cannot be seen: the centroid may be off by a fiftieth of the 100 px across.
    rows, columns = np.nonzero(truth)
    np.testing.assert_allclose(found.segments.centroids_px[0], [columns.mean(), rows.mean()], atol=2.0)
