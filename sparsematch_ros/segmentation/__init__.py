"""Where to look, and the segments found there."""
