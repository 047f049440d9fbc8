"""The ROS 2 nodes, and the only place that knows ROS."""
