"""A spacecraft camera's images in; tracked objects, their velocities and attitude requests out."""
