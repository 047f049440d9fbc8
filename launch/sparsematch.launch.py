"""Perception and attitude requests on the topics of a camera."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = "sparsematch_ros"


def generate_launch_description():
    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "sparsematch.yaml"])
    arguments = [
        DeclareLaunchArgument("config", default_value=config, description="parameters of both nodes (YAML file)"),
        DeclareLaunchArgument("image", default_value="camera/image_raw", description="topic of the images"),
        DeclareLaunchArgument("camera_info", default_value="camera/camera_info", description="topic of the intrinsics"),
        DeclareLaunchArgument("attitude", default_value="attitude", description="topic of the body's attitude"),
        DeclareLaunchArgument(
            "compressed", default_value="false", description="take CompressedImage from the topic IMAGE/compressed"
        ),
        DeclareLaunchArgument(
            "reliable", default_value="false", description="ask for reliable delivery of images and telemetry"
        ),
        DeclareLaunchArgument(
            "requests", default_value="false", description="send requests from the start; else the service starts it"
        ),
        DeclareLaunchArgument(
            "pairing_wait_s", default_value="0.1", description="longest wait for telemetry of an image [s]"
        ),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
        DeclareLaunchArgument(
            "autostart", default_value="true", description="configure and activate perception without a manager"
        ),
    ]
    remappings = [
        ("image", LaunchConfiguration("image")),
        ("image/compressed", [LaunchConfiguration("image"), "/compressed"]),
        ("camera_info", LaunchConfiguration("camera_info")),
        ("attitude", LaunchConfiguration("attitude")),
    ]

    def switch(name):
        return ParameterValue(LaunchConfiguration(name), value_type=bool)

    shared = {
        "use_sim_time": switch("use_sim_time"),
        "reliable": switch("reliable"),
        "pairing_wait_s": ParameterValue(LaunchConfiguration("pairing_wait_s"), value_type=float),
    }
    perception = {**shared, "compressed": switch("compressed"), "autostart": switch("autostart")}
    requests = {**shared, "pointing.enabled": switch("requests")}
    nodes = [
        Node(
            package=PACKAGE, executable="perception_node", name="perception_node", output="screen",
            parameters=[LaunchConfiguration("config"), perception], remappings=remappings,
        ),
        Node(
            package=PACKAGE, executable="attitude_request_node", name="attitude_request_node", output="screen",
            parameters=[LaunchConfiguration("config"), requests], remappings=remappings,
        ),
    ]  # fmt: skip
    return LaunchDescription([*arguments, *nodes])
