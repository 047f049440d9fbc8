"""Two spacecraft in orbit, integrated by Basilisk with wheels and feedback control; knows no ROS."""
