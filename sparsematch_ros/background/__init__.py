"""How everything that is not an object moves between two frames: stars, ground, and what stands on the detector."""
