"""The one exception that reaches a user as one line: what is wrong, and what to do."""


class SparsematchError(Exception):
    """Bad input or a missing part; the message names the value and says what would be right."""


class BadFrameError(SparsematchError):
    """One frame cannot be used (size, encoding, stamp); the stream goes on without it."""
