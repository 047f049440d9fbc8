"""Reported objects as RViz markers: a line along the bearing, and the name at its end."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from sparsematch_ros.data import SpaceObject
from sparsematch_ros.media.overlay import object_colour

# A bearing has no range, so RViz gets a length that fits its default grid [m].
LENGTH_M = 10.0
LINE_WIDTH_M = 0.05
TEXT_HEIGHT_M = 0.4
LIFETIME_S = 2


def markers_message(header: Header, objects: tuple[SpaceObject, ...]) -> MarkerArray:
    """Draw every reported object with a bearing, in camera axes; the others are not drawn."""
    shown = [item for item in objects if item.reported and item.bearing is not None and np.isfinite(item.bearing).all()]
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for row, item in enumerate(shown):
        markers += [_line(header, item, row), _label(header, item, row)]
    return MarkerArray(markers=markers)


def _base(header: Header, item: SpaceObject, space: str, row: int) -> Marker:
    red, green, blue = (value / 255 for value in object_colour(item.id))
    marker = Marker(header=header, ns=space, id=row, action=Marker.ADD, lifetime=Duration(sec=LIFETIME_S))
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return marker


def _end(item: SpaceObject) -> Point:
    x, y, z = (float(value) * LENGTH_M for value in (item.bearing if item.bearing is not None else (0, 0, 0)))
    return Point(x=x, y=y, z=z)


def _line(header: Header, item: SpaceObject, row: int) -> Marker:
    marker = _base(header, item, "bearing", row)
    marker.type, marker.scale.x, marker.points = Marker.LINE_LIST, LINE_WIDTH_M, [Point(), _end(item)]
    return marker


def _label(header: Header, item: SpaceObject, row: int) -> Marker:
    marker = _base(header, item, "name", row)
    marker.type, marker.scale.z, marker.pose.position = Marker.TEXT_VIEW_FACING, TEXT_HEIGHT_M, _end(item)
    marker.text = f"{str(item.id)[:4]} {float(np.hypot(*item.velocity_px_s)):.1f} px/s"
    return marker
