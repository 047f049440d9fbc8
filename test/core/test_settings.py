"""Settings files, overrides, and the committed settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sparsematch_ros.config import Config
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.settings import changed_settings, default_yaml, load_config

COMMITTED = Path(__file__).parents[2] / "config" / "sparsematch.yaml"


def test_committed_file_is_what_the_dataclasses_say():
    assert COMMITTED.read_text() == default_yaml(), "run: python -m sparsematch_ros.settings > config/sparsematch.yaml"


def test_committed_file_changes_nothing_and_is_a_ros_parameters_file():
    assert changed_settings(load_config(COMMITTED)) == {}
    parameters = yaml.safe_load(COMMITTED.read_text())["/**"]["ros__parameters"]
    assert parameters["tracking"]["confirm_hits"] == Config().tracking.confirm_hits
    # An empty list has no type in a ROS parameters file.
    assert "keep_out_directions" not in parameters["pointing"]


def test_flat_and_ros_layout_and_dotted_keys_mean_the_same(tmp_path):
    layouts = {
        "flat.yaml": "tracking:\n  confirm_hits: 5\n",
        "ros.yaml": "/**:\n  ros__parameters:\n    use_sim_time: true\n    tracking:\n      confirm_hits: 5\n",
        "dotted.yaml": "perception:\n  ros__parameters:\n    tracking.confirm_hits: 5\n",
    }
    for name, text in layouts.items():
        (tmp_path / name).write_text(text)
        assert changed_settings(load_config(tmp_path / name)) == {"tracking.confirm_hits": 5}


def test_override_wins_over_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("tracking: {gate_sigma: 3.5}\n")
    config = load_config(tmp_path / "a.yaml", ["tracking.gate_sigma=3", "tracking.moving_false_alarm=1e-4"])
    assert config.tracking.gate_sigma == 3.0 and isinstance(config.tracking.gate_sigma, float)
    assert config.tracking.moving_false_alarm == 1e-4
    assert load_config(None, ["pointing.keep_out_half_angles_deg=[30, 20.5]"]).pointing.keep_out_half_angles_deg == [
        30,
        20.5,
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trackin.confirm_hits=3", "did you mean 'tracking'"),
        ("tracking.confirm_hit=3", "did you mean 'confirm_hits'"),
        ("tracking.confirm_hits=3.5", "tracking.confirm_hits: 3.5 is not a whole number"),
        ("tracking.confirm_hits=true", "is not a whole number"),
        ("tracking.gate_sigma=.nan", "outside"),
        ("tracking.gate_sigma=wide", "not a number"),
        ("model.sam=sam_vit_x", "not one of mobile_sam"),
        ("tracking.confirm_hits", "expected stage.key=value"),
        ("tracking.confirm_hits=[", "not YAML"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override, words):
    with pytest.raises(SparsematchError, match=words.replace("[", r"\[")):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tracking: 3\n", "settings group 'tracking' holds 3"),
        ("- a\n", "holds list"),
        ("a: [\n", "is not YAML"),
        ("/**:\n  ros__parameters:\n    trucking: {}\n", "did you mean 'tracking'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SparsematchError, match=words):
        load_config(tmp_path / "a.yaml", ["tracking.confirm_hits=4"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SparsematchError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
