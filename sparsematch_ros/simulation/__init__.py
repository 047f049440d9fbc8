"""The simulated camera's core: scenes, camera and truth. It knows no ROS."""
