"""Scores against truth, and the benchmark."""
