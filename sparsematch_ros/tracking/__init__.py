"""Identity and velocity over time."""
