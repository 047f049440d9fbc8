"""Sunlit bodies by ray casting: which rays meet a body, and how bright it is there, with its own shadow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from trimesh.ray.ray_pyembree import RayMeshIntersector

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.meshes import Body

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class View:
    """From where, and in which light, a body is seen; all in the body's own axes.

    Attributes:
        origin_B_m: `(3,)` camera.
        sun_B: `(3,)` unit vector to the Sun.
        ambient: light without the Sun, in units of sunlight.

    """

    origin_B_m: FloatArray
    sun_B: FloatArray
    ambient: float


class BodyCaster:
    """Casts rays at one body. The body rests and the rays move, so that embree's tree is built once."""

    def __init__(self, body: Body) -> None:
        """Build the tree."""
        self._body = body
        self._tree = RayMeshIntersector(body.mesh)
        self._face_normals: FloatArray = np.array(body.mesh.face_normals)
        self._anchors: FloatArray = np.array(body.mesh.triangles[:, 0])
        self._lift_m = 1e-4 * body.radius_m
        self.radius_m = body.radius_m
        low, high = body.mesh.bounds
        self.corners_B_m: FloatArray = np.stack(np.meshgrid(*zip(low, high)), axis=-1).reshape(-1, 3)

    def cast(self, directions_B: FloatArray, view: View) -> tuple[BoolArray, FloatArray]:
        """Cast rays from the camera.

        Args:
            directions_B: `(N, 3)`, of any length.
            view: camera and light.

        Returns:
            `(N,)` which rays meet the body, and `(N, 3)` its brightness there, 1 for a white diffuse surface that faces
            the Sun; 0 elsewhere.

        """
        directions = directions_B / np.linalg.norm(directions_B, axis=1, keepdims=True)
        # Embree counts in single precision: start near the body, not at a camera that may be kilometres away.
        distance = np.linalg.norm(view.origin_B_m)
        origins = view.origin_B_m + directions * max(0.0, float(distance) - 1.5 * self.radius_m)
        faces = np.asarray(self._tree.intersects_first(origins, directions))
        hit = faces >= 0
        brightness = np.zeros((len(directions), 3))
        if hit.any():
            brightness[hit] = self._shade(origins[hit], directions[hit], faces[hit], view)
        return hit, brightness

    def _shade(self, origins: FloatArray, directions: FloatArray, faces: NDArray[np.int64], view: View) -> FloatArray:
        """Shade by Lambert with a Blinn-Phong highlight (Blinn 1977), where no part of the body hides the Sun."""
        body = self._body
        flat = self._face_normals[faces]
        toward = np.where(np.einsum("ij,ij->i", flat, directions) < 0, 1.0, -1.0)[:, None]
        flat, normals = flat * toward, body.normals[faces] * toward
        lit = self._sunlit(origins, directions, faces, flat, view.sun_B)
        diffuse = np.maximum(normals @ view.sun_B, 0) * lit
        half = view.sun_B - directions
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        highlight = np.maximum(np.einsum("ij,ij->i", normals, half), 0) ** body.shininess[faces]
        # A little more ambient light on faces toward the viewer keeps shapes readable in the shade.
        ambient = view.ambient * (0.6 - 0.4 * np.einsum("ij,ij->i", normals, directions))
        colour = body.albedo[faces] * (diffuse + ambient)[:, None]
        return np.asarray(colour + (body.specular[faces] * highlight * lit)[:, None])

    def _sunlit(
        self,
        origins: FloatArray,
        directions: FloatArray,
        faces: NDArray[np.int64],
        normals: FloatArray,
        sun: FloatArray,
    ) -> FloatArray:
        """Give 1 where the Sun is seen from the hit points, else 0."""
        facing = normals @ sun > 0
        lit = np.zeros(len(faces))
        if facing.any():
            anchors = self._anchors[faces[facing]]
            along = np.einsum("ij,ij->i", anchors - origins[facing], normals[facing])
            along /= np.einsum("ij,ij->i", directions[facing], normals[facing])
            points = origins[facing] + directions[facing] * along[:, None] + normals[facing] * self._lift_m
            hidden = self._tree.intersects_any(points, np.tile(sun, (len(points), 1)))
            lit[facing] = ~np.asarray(hidden)
        return lit
