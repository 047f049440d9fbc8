"""One descriptor a segment."""
