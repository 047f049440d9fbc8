"""What `sparsematch run` leaves: records, overlay, tracks and summary, written while the run goes on."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsematch_ros.data import FrameResult
from sparsematch_ros.media.figures import peak_memory_mb, rounded, write_json
from sparsematch_ros.media.overlay import draw_overlay
from sparsematch_ros.media.plots import plot_tracks
from sparsematch_ros.media.progress import warn
from sparsematch_ros.media.records import RecordWriter, prompt_record, write_lines
from sparsematch_ros.media.sources import RefusedFrame
from sparsematch_ros.media.tracks import gather_tracks, is_reported
from sparsematch_ros.media.video import OverlayVideo

# Further ones stand in summary.json only.
MAX_WARNINGS = 10
Summary = dict[str, Any]


class RunOutputs:
    """Writes what a run leaves, frame by frame; a context manager.

    Attributes:
        refusals: frames that could not be used.

    """

    def __init__(self, out: Path) -> None:
        """Name the folder to write to."""
        self._out = out
        self._stack = ExitStack()
        self.refusals: list[RefusedFrame] = []
        self._restarts: list[dict[str, Any]] = []
        self._seconds: list[float] = []
        self._prompts: list[int] = []
        self._encoded = 0
        self._stages: Counter[str] = Counter()
        self._reported: list[dict[str, Any]] = []
        self._last_image: NDArray[np.uint8] | None = None

    def __enter__(self) -> RunOutputs:
        """Open the files."""
        self._records = self._stack.enter_context(RecordWriter(self._out))
        self._asked = self._stack.enter_context((self._out / "prompts.jsonl").open("w", encoding="utf-8"))
        self._video = self._stack.enter_context(OverlayVideo(self._out / "overlay.mp4"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files, so that what was done is kept whatever happened."""
        self._stack.close()

    def accept(self, result: FrameResult, seconds: float) -> None:
        """Add a frame's result, which took `seconds` of processing."""
        records = self._records.write(result)
        write_lines(self._asked, [prompt_record(result)])
        self._video.write(result.frame.stamp_ns, draw_overlay(result))
        self._reported += [{**record, "mask": None} for record in records if is_reported(record)]
        self._last_image = result.frame.image
        self._seconds.append(seconds)
        self._prompts.append(len(result.prompts))
        self._encoded += int(result.encoded)
        if result.restarted:
            self._restarts.append({"frame": result.frame.index, "reason": result.restarted})
            warn(f"frame {result.frame.index}: started anew, {result.restarted}")
        self._stages.update(result.seconds)

    def refuse(self, refused: RefusedFrame) -> None:
        """Add a frame that could not be used, and say so."""
        self.refusals.append(refused)
        if len(self.refusals) <= MAX_WARNINGS:
            warn(f"frame {refused.index} ({refused.name}) refused: {refused.reason}")
        if len(self.refusals) == MAX_WARNINGS:
            warn("further refused frames are listed in summary.json only")

    def summary(self) -> Summary:
        """Sum the run up."""
        frames = len(self._seconds)
        return {
            "frames": frames,
            "refused_frames": len(self.refusals),
            "refused_reasons": dict(Counter(refused.reason for refused in self.refusals)),
            "refused": [{"frame": item.index, "name": item.name, "reason": item.reason} for item in self.refusals],
            "restarts": list(self._restarts),
            "confirmed_objects": len({record["id"] for record in self._reported}),
            "seconds_per_frame": rounded(np.mean(self._seconds)) if frames else None,
            "seconds_per_frame_median": rounded(np.median(self._seconds)) if frames else None,
            "prompts_per_frame": rounded(np.mean(self._prompts)) if frames else None,
            "frames_encoded": self._encoded,
            "stage_seconds_per_frame": {name: rounded(spent / frames) for name, spent in self._stages.items()},
            "peak_memory_mb": rounded(peak_memory_mb()),
        }

    def finish(self, title: str, summary: Summary) -> None:
        """Write `tracks.png` and `summary.json`."""
        if self._last_image is not None:
            plot_tracks(self._out / "tracks.png", self._last_image, gather_tracks(self._reported), title)
        write_json(self._out / "summary.json", summary)
