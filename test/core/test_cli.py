"""The command line as a user meets it: help, one clear line for bad input, exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsematch_ros import cli
from sparsematch_ros.errors import SparsematchError

SHARED = Path(__file__).parents[3] / "shared" / "data"
COMMANDS = (
    ["run"], ["simulate"], ["evaluate"], ["bench"], ["weights", "list"], ["weights", "fetch"], ["weights", "verify"],
    ["demo"], ["match"],
)  # fmt: skip


def failing(argv: list[str], capsys) -> str:
    """Run a command that must fail and give its one line of error."""
    assert cli.main(argv) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sparsematch: error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("sparsematch: error: ")


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "scene" / "frames"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), np.zeros((48, 64, 3), np.uint8))
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_names_config_and_set(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and "--config FILE" in text and "--set STAGE.KEY=VALUE" in text


def test_help_says_units(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    assert "[Hz]" in text and "[count]" in text


def test_help_is_quick_because_it_loads_nothing_heavy():
    code = (
        "import sys\nfrom sparsematch_ros.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'cv2', 'trimesh', 'rosbags', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [[], ["weights"], ["walk"], ["run"], ["run", "x", "--frames", "0"],
                                       ["run", "x", "--rate-hz", "nan"], ["run", "x", "--rate-hz", "-1"]])  # fmt: skip
def test_wrong_arguments_exit_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and "error: " in capsys.readouterr().err


def test_bad_settings_and_sources_end_with_one_line(frames, tmp_path, capsys):
    assert "did you mean 'max_coast_s'" in failing(["run", str(frames), "--set", "tracking.max_coast=3"], capsys)
    assert "nowhere.yaml" in failing(["simulate", "fly_by", "--config", str(tmp_path / "nowhere.yaml")], capsys)
    assert "does not exist" in failing(["run", str(tmp_path / "nowhere")], capsys)
    assert "has no frames/" in failing(["evaluate", str(tmp_path)], capsys)
    assert "neither truth.jsonl nor masks/" in failing(["evaluate", str(frames.parent)], capsys)
    assert "needs a rosbag2" in failing(["bench", str(frames), "--topic", "/image"], capsys)


def test_a_missing_checkpoint_is_named(frames, tmp_path, capsys):
    missing = tmp_path / "none.pt"
    argv = ["run", str(frames), "--set", f"model.sam_checkpoint={missing}", "--out", str(tmp_path / "out")]
    assert str(missing) in failing(argv, capsys)


def test_an_out_that_is_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = failing(["simulate", "fly_by", "--frames", "1", "--out", str(tmp_path / "file")], capsys)
    assert "file" in error


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_a_bag_without_the_topic_lists_what_it_has(capsys):
    bag = SHARED / "bags" / "malformed_images" / "test_bag_mcap"
    error = failing(["run", str(bag), "--topic", "/camera"], capsys)
    assert "no topic '/camera'; it has" in error and "/test/sensor_msgs/image" in error


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_simulate", interrupted)
    assert cli.main(["simulate", "fly_by"]) == 130
    assert capsys.readouterr().err == "sparsematch: interrupted\n"


def test_an_error_of_many_lines_becomes_one(monkeypatch, capsys):
    def broken(args):
        raise SparsematchError("first\n   second")

    monkeypatch.setattr(cli, "_simulate", broken)
    assert failing(["simulate", "fly_by"], capsys) == "first second"


def test_a_demo_without_ros_says_so(tmp_path, capsys, monkeypatch):
    """None in sys.modules is how Python itself marks a module that is not there."""
    monkeypatch.setitem(sys.modules, "sparsematch_ros.nodes.demo", None)
    assert "make demo" in failing(["demo", "--out", str(tmp_path)], capsys)
