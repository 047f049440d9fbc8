"""The closed loop with Basilisk: the demo's graph on a spacecraft with wheels, in orbit."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "sparsematch_ros"


def generate_launch_description():
    share = FindPackageShare(PACKAGE)
    scenario = "basilisk_fly_by"
    config = PathJoinSubstitution([share, "config", "sparsematch.yaml"])
    arguments = [
        DeclareLaunchArgument("scenario", default_value=scenario, description="scenario with `earth`, name or YAML"),
        DeclareLaunchArgument("seed", default_value="0", description="seed of stars, noise and clouds"),
        DeclareLaunchArgument("frames", default_value="0", description="images to take; 0: the scenario's number"),
        DeclareLaunchArgument("config", default_value=config, description="parameters of all nodes (YAML file)"),
        DeclareLaunchArgument("requests", default_value="true", description="send requests; false: control run"),
        DeclareLaunchArgument("latency_s", default_value="0.0", description="time from image to request's effect [s]"),
        DeclareLaunchArgument(
            "truth_folder", default_value="", description="folder for truth.jsonl and dynamics.jsonl; empty: none"
        ),
    ]
    names = ("scenario", "seed", "frames", "config", "requests", "latency_s", "truth_folder")
    demo = IncludeLaunchDescription(
        PathJoinSubstitution([share, "launch", "demo.launch.py"]),
        launch_arguments={"dynamics": "basilisk", **{name: LaunchConfiguration(name) for name in names}}.items(),
    )
    return LaunchDescription([*arguments, demo])
