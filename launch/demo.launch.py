"""The closed loop: a simulated camera, perception and attitude requests, in lock-step."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "sparsematch_ros"


def generate_launch_description():
    share = FindPackageShare(PACKAGE)
    config = PathJoinSubstitution([share, "config", "sparsematch.yaml"])
    arguments = [
        DeclareLaunchArgument("scenario", default_value="fly_by", description="scenario, by name or as a YAML file"),
        DeclareLaunchArgument("seed", default_value="0", description="seed of stars, noise and clouds"),
        DeclareLaunchArgument("frames", default_value="0", description="images to take; 0: the scenario's number"),
        DeclareLaunchArgument("config", default_value=config, description="parameters of all nodes (YAML file)"),
        DeclareLaunchArgument("requests", default_value="true", description="send requests; false: control run"),
        DeclareLaunchArgument("dynamics", default_value="kinematic", description="kinematic, or basilisk for wheels"),
        DeclareLaunchArgument("latency_s", default_value="0.0", description="time from image to request's effect [s]"),
        DeclareLaunchArgument("truth_folder", default_value="", description="folder for truth.jsonl; empty: none"),
    ]
    # Room for images in shared memory; what the user has chosen stays.
    profiles = PathJoinSubstitution([share, "config", "fastdds.xml"])
    middleware = [
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=profiles))
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    ]
    camera = Node(
        package=PACKAGE, executable="simulated_camera_node", name="simulated_camera_node", output="screen",
        parameters=[LaunchConfiguration("config"), {
            "scenario": LaunchConfiguration("scenario"),
            "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
            "frames": ParameterValue(LaunchConfiguration("frames"), value_type=int),
            "dynamics": ParameterValue(LaunchConfiguration("dynamics"), value_type=str),
            "latency_s": ParameterValue(LaunchConfiguration("latency_s"), value_type=float),
            "truth_folder": ParameterValue(LaunchConfiguration("truth_folder"), value_type=str),
        }],
        remappings=[("image_raw", "camera/image_raw"), ("camera_info", "camera/camera_info")],
    )  # fmt: skip
    graph = IncludeLaunchDescription(
        PathJoinSubstitution([share, "launch", "sparsematch.launch.py"]),
        launch_arguments={
            "config": LaunchConfiguration("config"), "requests": LaunchConfiguration("requests"),
            "use_sim_time": "true", "reliable": "true", "pairing_wait_s": "20.0",
        }.items(),
    )  # fmt: skip
    return LaunchDescription([*arguments, *middleware, camera, graph])
