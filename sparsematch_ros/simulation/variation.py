"""What a seed makes of a scenario: the objects of its cloud, and how far the flight departs from the written one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from sparsematch_ros.data import FloatArray
from sparsematch_ros.simulation.object_specs import (
    AttitudeSpec,
    CloudSpec,
    MeshSpec,
    MotionSpec,
    ObjectSpec,
    PointSpec,
    Range,
    Vector3,
)
from sparsematch_ros.simulation.scenario import Scenario, VariationSpec


def realise(scenario: Scenario, seed: int) -> Scenario:
    """Give the flight that a seed makes of a scenario: every object is listed, and nothing is left to be drawn.

    A flight that was realised stays as it is. Seed 0 leaves the objects that the scenario lists as they are written.
    """
    cloud = () if scenario.cloud is None else _cloud_objects(scenario.cloud, np.random.default_rng([seed, 10]))
    objects = (*scenario.objects, *cloud)
    varied = scenario.variation
    if varied is not None and seed != 0:
        rng = np.random.default_rng([seed, 9])
        origin_N_m = np.array(scenario.camera.motion.position_m)
        boresight_N = Rotation.from_quat(scenario.camera.attitude.q_NB_xyzw).apply([0.0, 0.0, 1.0])
        together = _tilt(rng, varied.tilt_deg, boresight_N) * _about(rng, varied.roll_deg, boresight_N)
        own = (_vary(spec, varied, origin_N_m, rng) for spec in scenario.objects)
        objects = tuple(_turn(spec, together, origin_N_m) for spec in (*own, *cloud))
    return replace(scenario, objects=objects, cloud=None, variation=None, seed=seed)


def _vary(spec: ObjectSpec, varied: VariationSpec, origin_N_m: FloatArray, rng: np.random.Generator) -> ObjectSpec:
    """Draw one object's own departures."""
    position = np.array(spec.motion.position_m)
    shift = _tilt(rng, varied.offset_deg, position - origin_N_m)
    velocity = np.array(spec.motion.velocity_m_s)
    heading = _tilt(rng, varied.heading_deg, velocity)
    speed = 1 + varied.speed_share * rng.uniform(-1, 1)
    twist = _about(rng, varied.attitude_deg, rng.normal(size=3))
    attitude = (twist * Rotation.from_quat(spec.attitude.q_NB_xyzw)).as_quat()
    changed = replace(spec.attitude, q_NB_xyzw=tuple(attitude.tolist()))
    if spec.motion.kind == "path":
        return replace(spec, motion=_turn_motion(spec.motion, shift, origin_N_m), attitude=changed)
    start = _vector(origin_N_m + shift.apply(position - origin_N_m))
    motion = replace(spec.motion, position_m=start, velocity_m_s=_vector(heading.apply(velocity) * speed))
    return replace(spec, motion=motion, attitude=changed)


def _turn(spec: ObjectSpec, rotation: Rotation, origin_N_m: FloatArray) -> ObjectSpec:
    """Turn an object about a point, with its velocity and attitude."""
    attitude = (rotation * Rotation.from_quat(spec.attitude.q_NB_xyzw)).as_quat()
    changed = replace(spec.attitude, q_NB_xyzw=tuple(attitude.tolist()))
    return replace(spec, motion=_turn_motion(spec.motion, rotation, origin_N_m), attitude=changed)


def _turn_motion(spec: MotionSpec, rotation: Rotation, origin_N_m: FloatArray) -> MotionSpec:
    """Turn a motion about a point."""

    def turned(place: Vector3) -> Vector3:
        return _vector(origin_N_m + rotation.apply(np.array(place) - origin_N_m))

    return replace(
        spec,
        position_m=turned(spec.position_m),
        velocity_m_s=_vector(rotation.apply(spec.velocity_m_s)),
        waypoints=tuple(replace(entry, position_m=turned(entry.position_m)) for entry in spec.waypoints),
    )


def _about(rng: np.random.Generator, most_deg: float, axis: FloatArray) -> Rotation:
    """Draw a turn about an axis that is not zero."""
    return Rotation.from_rotvec(np.radians(most_deg * rng.uniform(-1, 1)) * axis / np.linalg.norm(axis))


def _tilt(rng: np.random.Generator, most_deg: float, direction: FloatArray) -> Rotation:
    """Draw a turn about a random axis across a direction; any axis where the direction is zero."""
    axis = rng.normal(size=3)
    square = float(direction @ direction)
    if square > 0:
        axis = axis - direction * (axis @ direction) / square
    return _about(rng, most_deg, axis)


def _cloud_objects(spec: CloudSpec, rng: np.random.Generator) -> tuple[ObjectSpec, ...]:
    """Draw the objects of a cloud."""
    places = np.array(spec.centre_m) + np.array(spec.half_size_m) * rng.uniform(-1, 1, (spec.count, 3))
    velocities = np.array(spec.velocity_m_s) + rng.normal(0, spec.velocity_spread_m_s, (spec.count, 3))
    bodies = spec.count - spec.points
    objects = []
    for index, (place, velocity) in enumerate(zip(places, velocities)):
        name, motion = f"cloud_{index + 1}", MotionSpec(_vector(place), _vector(velocity))
        if index < bodies:
            mesh = MeshSpec(spec.models[index % len(spec.models)], size_m=_between(rng, spec.size_m))
            rates = _vector(rng.normal(0, spec.rate_deg_s, 3))
            attitude = AttitudeSpec(tuple(Rotation.random(random_state=rng).as_quat().tolist()), rates)
            objects.append(ObjectSpec(name, motion, attitude, mesh=mesh))
        else:
            point = PointSpec(float(rng.uniform(*spec.diameter_px)), _between(rng, spec.signal_to_noise))
            objects.append(ObjectSpec(name, motion, point=point))
    return tuple(objects)


def _between(rng: np.random.Generator, limits: Range) -> float:
    """Draw a number that is uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _vector(array: FloatArray) -> Vector3:
    x, y, z = (float(value) for value in array)
    return x, y, z
