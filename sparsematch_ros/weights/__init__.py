"""What checkpoints exist, where they come from, their sha256, and where they lie."""
