"""The whole evaluation: every scenario with several seeds, real sequences with masks, and real star fields."""
