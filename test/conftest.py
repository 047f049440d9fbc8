"""What holds for all tests."""

from sparsematch_ros.process import wait_passively

wait_passively()
