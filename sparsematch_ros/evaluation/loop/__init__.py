"""How well a closed loop points, from truth and from what the spacecraft did; knows no ROS."""
