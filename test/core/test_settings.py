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
    assert parameters["tracking"]["max_objects"] == Config().tracking.max_objects
    # An empty list has no type in a ROS parameters file.
    assert "keep_out_directions" not in parameters["pointing"]


def test_flat_and_ros_layout_and_dotted_keys_mean_the_same(tmp_path):
    layouts = {
        "flat.yaml": "tracking:\n  max_objects: 5\n",
        "ros.yaml": "/**:\n  ros__parameters:\n    use_sim_time: true\n    tracking:\n      max_objects: 5\n",
        "dotted.yaml": "perception:\n  ros__parameters:\n    tracking.max_objects: 5\n",
    }
    for name, text in layouts.items():
        (tmp_path / name).write_text(text)
        assert changed_settings(load_config(tmp_path / name)) == {"tracking.max_objects": 5}


def test_override_wins_over_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("tracking: {reidentify_s: 3.5}\n")
    config = load_config(tmp_path / "a.yaml", ["tracking.reidentify_s=3", "tracking.moving_false_alarm=1e-4"])
    assert config.tracking.reidentify_s == 3.0 and isinstance(config.tracking.reidentify_s, float)
    assert config.tracking.moving_false_alarm == 1e-4
    assert load_config(None, ["pointing.keep_out_half_angles_deg=[30, 20.5]"]).pointing.keep_out_half_angles_deg == [
        30,
        20.5,
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trackin.max_objects=3", "did you mean 'tracking'"),
        ("tracking.max_object=3", "did you mean 'max_objects'"),
        ("tracking.max_objects=3.5", "tracking.max_objects: 3.5 is not a whole number"),
        ("tracking.max_objects=true", "is not a whole number"),
        ("tracking.reidentify_s=.nan", "outside"),
        ("tracking.reidentify_s=wide", "not a number"),
        ("model.sam=sam_vit_x", "not one of mobile_sam"),
        ("tracking.max_objects", "expected stage.key=value"),
        ("tracking.max_objects=[", "not YAML"),
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
        load_config(tmp_path / "a.yaml", ["tracking.max_objects=4"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SparsematchError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
