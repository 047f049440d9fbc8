"""Figures from matched frames, each as `definitions.md` says; None where there is nothing to compute it from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pycocotools import mask as coco
from scipy.stats import chi2
from trackeval.metrics import CLEAR, HOTA, Identity

from sparsematch_ros.data import FloatArray
from sparsematch_ros.evaluation.matching import FrameMatches, overlaps, rle_iou
from sparsematch_ros.evaluation.sightings import Frames, Sighting

Score = float | int | None
Scores = dict[str, Score]

# A velocity error, in two dimensions, lies inside the ellipse of 95% up to this squared Mahalanobis distance.
NEES_95 = float(chi2.ppf(0.95, df=2))


def detection_scores(matches: list[FrameMatches]) -> Scores:
    """Compute `precision`, `recall` and `false_confirmed`, the number of identities that never match a true object."""
    hits = sum(len(frame.hits) for frame in matches)
    false = sum(len(frame.false) for frame in matches)
    missed = sum(len(frame.missed) for frame in matches)
    return {
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "false_confirmed": len(false_identities(matches)),
    }


def false_identities(matches: list[FrameMatches]) -> set[str]:
    """List the reported identities that match no true object in any frame."""
    matched = {item.id for frame in matches for _, item in frame.pairs}
    return {item.id for frame in matches for item in frame.false} - matched


def identity_scores(matches: list[FrameMatches]) -> Scores:
    """Compute `hota`, `idf1` and `id_switches` with TrackEval.

    HOTA rests on the overlaps themselves (`overlaps`): TrackEval matches the objects of each frame anew, and averages
    sqrt(DetA * AssA) over the 19 thresholds 0.05, 0.10 ... 0.95 of the similarity. IDF1 and the switches rest on the
    pairs of `match_frames`, whose similarity is 1, that of all others 0.

    References:
        J. Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 129 (2021), 548-578;
        `trackeval/metrics/hota.py` in https://github.com/JonathonLuiten/TrackEval.

    """
    data = _trackeval_data(matches)
    if not data["num_gt_dets"]:
        return {"hota": None, "idf1": None, "id_switches": None}
    by_overlap = {**data, "similarity_scores": [overlaps(*_compared(frame)) for frame in matches]}
    return {
        "hota": float(np.mean(HOTA().eval_sequence(by_overlap)["HOTA"])),
        "idf1": float(Identity({"PRINT_CONFIG": False}).eval_sequence(data)["IDF1"]),
        "id_switches": int(CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)["IDSW"]),
    }


def velocity_scores(matches: list[FrameMatches], interval_s: float | None) -> Scores:
    """Give the errors of velocity and bearing rate over all pairs that count.

    Args:
        matches: of all frames.
        interval_s: time between frames [s], for the floor of 1 px per interval and for errors in px a frame; None where
            unknown.

    """
    pairs = [(item, item.velocity_px_s, true.velocity_px_s) for frame in matches for true, item in frame.hits]
    known = [(item, own, true) for item, own, true in pairs if own is not None and true is not None]
    errors = np.array([own - true for _, own, true in known]).reshape(-1, 2)
    true_speeds = np.array([np.hypot(*true) for _, _, true in known])
    sizes = np.linalg.norm(errors, axis=1)
    relative = None
    if len(sizes) and interval_s:
        relative = float(np.median(sizes / np.maximum(true_speeds, 1.0 / interval_s)))
    rmse = _rms(sizes)
    return {
        "velocity_rmse_px_s": rmse,
        "velocity_rmse_px_frame": rmse * interval_s if rmse is not None and interval_s else None,
        "velocity_relative_error": relative,
        **_bearing_rate_scores(matches),
        **_nees_scores(errors, [item for item, _, _ in known]),
    }


def confirmation_scores(matches: list[FrameMatches]) -> Scores:
    """Compute `frames_to_confirm`, `never_found` and `true_objects`, over the true objects that count.

    `frames_to_confirm` is the median of the frames from coming into view to the first match; an object that is never
    matched counts with the number of frames in which it was in view. `never_found` is the number of these objects.
    """
    frames_in_view: dict[str, int] = {}
    seen: dict[str, int] = {}
    waits: dict[str, int] = {}
    for number, frame in enumerate(matches):
        for item in frame.visible:
            seen.setdefault(item.id, number)
            frames_in_view[item.id] = frames_in_view.get(item.id, 0) + 1
        for true, _ in frame.pairs:
            waits.setdefault(true.id, number - seen[true.id])
    objects = {item.id for frame in matches for item in frame.counted}
    delays = [waits.get(identity, frames_in_view[identity]) for identity in objects]
    return {
        "frames_to_confirm": float(np.median(delays)) if delays else None,
        "never_found": len(objects - set(waits)),
        "true_objects": len(objects),
    }


def j_mean(truth: Frames, reported: Frames, frames: Iterable[int]) -> Score:
    """Give the mean IoU of the true mask with the union of the reported masks, the first frame left out."""
    overlaps = [
        _overlap(truth[frame], reported.get(frame, []))
        for frame in sorted(frames)[1:]
        if any(item.mask for item in truth.get(frame, []))
    ]
    return float(np.mean(overlaps)) if overlaps else None


def _overlap(true: list[Sighting], reported: list[Sighting]) -> float:
    masks = [item.mask for item in reported if item.mask]
    if not masks:
        return 0.0
    union = coco.merge([item.mask for item in true if item.mask])
    return float(rle_iou([union], [coco.merge(masks)])[0, 0])


def _trackeval_data(matches: list[FrameMatches]) -> dict[str, object]:
    """Lay the matching out as trackeval reads it: dense ids and one similarity matrix a frame."""
    true_rows: dict[str, int] = {}
    own_rows: dict[str, int] = {}
    true_ids, own_ids, similarity = [], [], []
    for frame in matches:
        true, own = _compared(frame)
        true_ids.append(np.array([true_rows.setdefault(item.id, len(true_rows)) for item in true], dtype=int))
        own_ids.append(np.array([own_rows.setdefault(item.id, len(own_rows)) for item in own], dtype=int))
        # Both lists begin with the pairs, in the same order.
        matrix = np.zeros((len(true), len(own)))
        np.fill_diagonal(matrix[: len(frame.hits), : len(frame.hits)], 1.0)
        similarity.append(matrix)
    return {
        "num_timesteps": len(matches),
        "num_gt_ids": len(true_rows),
        "num_tracker_ids": len(own_rows),
        "num_gt_dets": sum(len(ids) for ids in true_ids),
        "num_tracker_dets": sum(len(ids) for ids in own_ids),
        "gt_ids": true_ids,
        "tracker_ids": own_ids,
        "similarity_scores": similarity,
    }


def _compared(frame: FrameMatches) -> tuple[list[Sighting], list[Sighting]]:
    """List the true objects that count and the reported ones, without those that match one that does not count."""
    hits = frame.hits
    return [*(true for true, _ in hits), *frame.missed], [*(item for _, item in hits), *frame.false]


def squared_distance(error: FloatArray, covariance: FloatArray | None) -> float | None:
    """Give the squared Mahalanobis distance of an error `(2,)`; None where its covariance is unknown or singular."""
    if covariance is None or not (covariance[0, 0] > 0 and np.linalg.det(covariance) > 0):
        return None
    return float(error @ np.linalg.solve(covariance, error))


def _nees_scores(errors: FloatArray, items: list[Sighting]) -> Scores:
    """Give the share of errors inside the 95 % ellipse, and the median squared distance, 1.39 where all is right."""
    distances = [squared_distance(error, item.velocity_covariance) for error, item in zip(errors, items)]
    known = np.array([distance for distance in distances if distance is not None])
    if not len(known):
        return {"nees_in_95": None, "nees_median": None}
    return {"nees_in_95": float(np.mean(known <= NEES_95)), "nees_median": float(np.median(known))}


def _bearing_rate_scores(matches: list[FrameMatches]) -> Scores:
    """Give the RMS error of the bearing rate, and the median of |w - w*| / |w*| where the true one is not 0."""
    pairs = [(item.bearing_rate_rad_s, true.bearing_rate_rad_s) for frame in matches for true, item in frame.hits]
    known = [(own, true) for own, true in pairs if own is not None and true is not None]
    errors = np.array([np.linalg.norm(own - true) for own, true in known])
    sizes = np.array([np.linalg.norm(true) for _, true in known])
    turning = sizes > 0
    relative = float(np.median(errors[turning] / sizes[turning])) if turning.any() else None
    return {"bearing_rate_rmse_rad_s": _rms(errors), "bearing_rate_relative_error": relative}


def _rms(errors: FloatArray) -> Score:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else None


def _ratio(part: int, whole: int) -> Score:
    return part / whole if whole else None
