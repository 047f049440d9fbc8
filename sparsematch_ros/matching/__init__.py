"""Segment to segment between consecutive frames."""
