"""The background's own motion between frames."""
