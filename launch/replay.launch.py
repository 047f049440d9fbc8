"""A folder of images, a video or a bag through perception; attitude requests stay disabled."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "sparsematch_ros"


def generate_launch_description():
    share = FindPackageShare(PACKAGE)
    config = PathJoinSubstitution([share, "config", "sparsematch.yaml"])
    arguments = [
        DeclareLaunchArgument("source", description="folder of images, video, or rosbag2 folder or file"),
        DeclareLaunchArgument("topic", default_value="", description="image topic of a bag; empty: the only one"),
        DeclareLaunchArgument("rate_hz", default_value="0.0", description="rate where there are no stamps [Hz]; 0: 10"),
        DeclareLaunchArgument("speed", default_value="1.0", description="how many times faster than recorded"),
        DeclareLaunchArgument("loop", default_value="false", description="start again at the end"),
        DeclareLaunchArgument("config", default_value=config, description="parameters of all nodes (YAML file)"),
    ]

    def typed(name, kind):
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    replay = Node(
        package=PACKAGE, executable="replay_node", name="replay_node", output="screen",
        parameters=[LaunchConfiguration("config"), {
            "source": typed("source", str), "topic": typed("topic", str), "rate_hz": typed("rate_hz", float),
            "speed": typed("speed", float), "loop": typed("loop", bool), "clock": True,
        }],
        remappings=[("image_raw", "camera/image_raw"), ("camera_info", "camera/camera_info")],
    )  # fmt: skip
    perception = IncludeLaunchDescription(
        PathJoinSubstitution([share, "launch", "sparsematch.launch.py"]),
        launch_arguments={
            "config": LaunchConfiguration("config"), "use_sim_time": "true", "requests": "false",
        }.items(),
    )  # fmt: skip
    return LaunchDescription([*arguments, replay, perception])
