"""The qualities of service in use, in one place."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

# Deep enough that answers and telemetry of a slow listener are not lost.
ANSWERS = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def overridable() -> QoSOverridingOptions:
    """Let parameters `qos_overrides.TOPIC.(publisher|subscription).POLICY` change history, depth and reliability."""
    return QoSOverridingOptions.with_default_policies()


def sensor_data(reliable: bool, depth: int = 5) -> QoSProfile:
    """Give the sensor-data profile, or the same made reliable for lock-step and recordings."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
