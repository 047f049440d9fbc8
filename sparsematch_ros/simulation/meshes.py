"""Bodies with a surface: spacecraft made of trimesh primitives, or a mesh file, with a finish for each part.

Origin at the centre of mass, which for the built-in models is the centre of the bus. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh import Trimesh as Mesh

from sparsematch_ros.data import FloatArray
from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.simulation.object_specs import MeshSpec


@dataclass(frozen=True)
class Finish:
    """How a surface looks.

    Attributes:
        albedo: red, green, blue in [0, 1].
        specular: strength of the highlight.
        shininess: exponent of the highlight (Blinn 1977).
        crinkle: standard deviation of the faces' normals [rad], as of foil.

    """

    albedo: tuple[float, float, float]
    specular: float = 0.1
    shininess: float = 20.0
    crinkle: float = 0.0


FOIL = Finish((0.80, 0.56, 0.22), specular=0.7, shininess=25.0, crinkle=0.10)
WHITE = Finish((0.85, 0.85, 0.82), specular=0.05)
GREY = Finish((0.45, 0.46, 0.48), specular=0.2)
DARK = Finish((0.16, 0.16, 0.17), specular=0.5, shininess=40.0)
CELL = Finish((0.09, 0.14, 0.38), specular=0.35, shininess=60.0)
FRAME = Finish((0.62, 0.62, 0.62), specular=0.2)


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh with the finish of each of its F faces.

    Attributes:
        mesh: triangles.
        albedo: `(F, 3)` float64.
        specular: `(F,)` float64.
        shininess: `(F,)` float64.
        normals: `(F, 3)` float64 for shading; may differ from the faces' own.

    """

    mesh: Mesh
    albedo: FloatArray
    specular: FloatArray
    shininess: FloatArray
    normals: FloatArray

    @property
    def radius_m(self) -> float:
        """Radius of the sphere about the origin that holds the body [m]."""
        return float(np.linalg.norm(self.mesh.vertices, axis=1).max())


def build_body(spec: MeshSpec, folder: Path) -> Body:
    """Make the body of a scenario's object.

    Args:
        spec: what the scenario says.
        folder: mesh files are relative to it.

    Raises:
        SparsematchError: where the mesh file cannot be read or holds no triangles.

    """
    finish = Finish(spec.albedo)
    if spec.file:
        body = _file_body(folder / spec.file, finish)
    else:
        builders = {"satellite": _satellite, "cubesat": _cubesat, "rocket_body": _rocket_body, "panel": _lone_panel}
        plain = {"box": trimesh.creation.box, "sphere": lambda: trimesh.creation.icosphere(subdivisions=4, radius=0.5)}
        builder = builders.get(spec.model)
        body = _join(builder() if builder else [(plain[spec.model](), finish)])
    if spec.size_m:
        body.mesh.apply_scale(spec.size_m / body.mesh.extents.max())
    return body


def _file_body(path: Path, finish: Finish) -> Body:
    try:
        mesh = trimesh.load(path, force="mesh")
    except Exception as error:  # trimesh's many readers raise whatever their formats raise
        raise SparsematchError(f"mesh file {path} cannot be read: {error}") from error
    if not isinstance(mesh, Mesh) or len(mesh.faces) == 0:
        raise SparsematchError(f"mesh file {path} holds no triangles")
    mesh.apply_translation(-(mesh.center_mass if mesh.is_watertight else mesh.centroid))
    body = _join([(mesh, finish)])
    if mesh.visual.kind in ("face", "vertex"):
        body.albedo[:] = np.asarray(mesh.visual.face_colors, dtype=np.float64)[:, :3] / 255
    return body


def _join(parts: list[tuple[Mesh, Finish]]) -> Body:
    # Seeded by a constant: the same model always has the same creases.
    rng = np.random.default_rng(7)
    normals = []
    for mesh, finish in parts:
        creased = mesh.face_normals + rng.normal(0, finish.crinkle, (len(mesh.faces), 3))
        normals.append(creased / np.linalg.norm(creased, axis=1, keepdims=True))
    counts = [len(mesh.faces) for mesh, _ in parts]

    def spread(values: list[object]) -> FloatArray:
        return np.repeat(np.array(values, dtype=np.float64), counts, axis=0)

    return Body(
        mesh=trimesh.util.concatenate([mesh for mesh, _ in parts]),
        albedo=spread([finish.albedo for _, finish in parts]),
        specular=spread([finish.specular for _, finish in parts]),
        shininess=spread([finish.shininess for _, finish in parts]),
        normals=np.concatenate(normals),
    )


def _box(size: tuple[float, float, float], centre: tuple[float, float, float], subdivisions: int = 0) -> Mesh:
    mesh = trimesh.creation.box(extents=size)
    for _ in range(subdivisions):
        mesh = mesh.subdivide()
    mesh.apply_translation(centre)
    return mesh


def _cylinder(radius: float, start: tuple[float, float, float], end: tuple[float, float, float]) -> Mesh:
    return trimesh.creation.cylinder(radius=radius, segment=[start, end], sections=64)


def _revolved(profile: list[tuple[float, float]], centre: tuple[float, float, float], axis: FloatArray) -> Mesh:
    """Turn a closed profile of (radius, height) about `axis`."""
    mesh = trimesh.creation.revolve(np.array([*profile, profile[0]]), sections=64)
    mesh.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], axis))
    mesh.apply_translation(centre)
    return mesh


def _dish(radius: float, centre: tuple[float, float, float], axis: FloatArray) -> Mesh:
    inner = np.linspace(0.001, radius, 9)
    front = [(r, 0.35 * r * r / radius) for r in inner]
    back = [(r, h - 0.04 * radius) for r, h in reversed(front)]
    return _revolved(front + back, centre, axis)


def _nozzle(throat: float, mouth: float, length: float, centre: tuple[float, float, float], axis: FloatArray) -> Mesh:
    heights = np.linspace(0, length, 7)
    outer = [(throat + (mouth - throat) * np.sqrt(h / length), h) for h in heights]
    inner = [(0.9 * r, h) for r, h in reversed(outer)]
    return _revolved(outer + inner, centre, axis)


def _panel(centre: tuple[float, float, float], size: tuple[float, float], rows: int) -> list[tuple[Mesh, Finish]]:
    """Make a solar panel in the x-y plane, its cells toward +z, `rows` cells along x and half as many along y."""
    columns = max(rows // 2, 2)
    parts = [(_box((size[0], size[1], 0.04), centre), FRAME)]
    pitch: NDArray[np.float64] = np.array(size) / (rows, columns)
    for row in range(rows):
        for column in range(columns):
            x, y = (np.array([row, column]) + 0.5) * pitch - np.array(size) / 2
            cell = (pitch[0] * 0.90, pitch[1] * 0.94, 0.02)
            parts.append((_box(cell, (centre[0] + x, centre[1] + y, centre[2] + 0.03)), CELL))
    return parts


def _satellite() -> list[tuple[Mesh, Finish]]:
    """Make a bus in foil with two wings along x, a dish toward +z, a nozzle toward -z and a boom along +y."""
    z = np.array([0.0, 0.0, 1.0])
    parts = [
        (_box((1.7, 1.7, 2.2), (0, 0, 0), subdivisions=3), FOIL),
        (_box((1.74, 1.74, 0.12), (0, 0, 1.1)), GREY),
        (_dish(0.95, (0.0, 0.0, 1.45), z), WHITE),
        (_cylinder(0.10, (0, 0, 1.1), (0, 0, 1.5)), GREY),
        (_cylinder(0.05, (0, 0, 1.5), (0, 0, 2.1)), GREY),
        (_nozzle(0.18, 0.52, 0.75, (0, 0, -1.1), -z), DARK),
        (_cylinder(0.09, (0, 0.8, -0.4), (0, 2.9, -0.4)), WHITE),
        (_box((0.35, 0.45, 0.35), (0, 3.0, -0.4)), FOIL),
        (_cylinder(0.22, (0.45, -0.8, 0.5), (0.45, -1.35, 0.75)), DARK),
    ]
    for side in (-1, 1):
        parts.append((_cylinder(0.08, (0.8 * side, 0, 0), (1.6 * side, 0, 0)), GREY))
        parts += _panel((3.35 * side, 0, 0), (3.6, 1.7), rows=6)
    return parts


def _cubesat() -> list[tuple[Mesh, Finish]]:
    """Make a 3U cubesat, 0.34 m long along z, with two opened panels."""
    parts = [
        (_box((0.1, 0.1, 0.34), (0, 0, 0)), GREY),
        (_cylinder(0.035, (0, 0, 0.16), (0, 0, 0.19)), DARK),
        (_box((0.102, 0.06, 0.2), (0, 0, -0.03)), FOIL),
    ]
    for side in (-1, 1):
        panel = trimesh.util.concatenate([_box((0.1, 0.3, 0.004), (0.1, 0, 0))])
        panel.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
        panel.apply_translation((0.05 if side > 0 else -0.25, 0.05, 0))
        parts.append((panel, CELL))
    return parts


def _lone_panel() -> list[tuple[Mesh, Finish]]:
    """Make a solar panel that has broken off, 3.6 m by 1.7 m in the x-y plane."""
    return _panel((0.0, 0.0, 0.0), (3.6, 1.7), rows=6)


def _rocket_body() -> list[tuple[Mesh, Finish]]:
    """Make a spent upper stage, 7 m along z."""
    z = np.array([0.0, 0.0, 1.0])
    return [
        (_cylinder(1.3, (0, 0, -2.2), (0, 0, 2.2)), WHITE),
        (_cylinder(1.31, (0, 0, 0.5), (0, 0, 0.9)), DARK),
        (_cylinder(1.31, (0, 0, -2.0), (0, 0, -1.6)), GREY),
        (_revolved([(0.001, 0), (1.3, 0), (0.7, 1.0), (0.001, 1.0)], (0, 0, 2.2), z), GREY),
        (_nozzle(0.3, 0.95, 1.5, (0, 0, -2.2), -z), DARK),
    ]
