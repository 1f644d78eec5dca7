"""What a run is expected to take, by finished runs of its study: seconds, and memory of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.errors import Damaged
from bench.spec import RunSpec
from bench.store import StudyFolder

Key = tuple[str, str]  # row, or empty for any row; dataset


@dataclass(frozen=True)
class Expectation:
    """What finished runs took, by row and dataset and by dataset alone."""

    seconds: Mapping[Key, list[float]] = field(default_factory=dict)
    peak_bytes: Mapping[Key, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: StudyFolder) -> Expectation:
        """Read the finished runs of a study, which need not be there."""
        seconds: dict[Key, list[float]] = {}
        peaks: dict[Key, list[int]] = {}
        for run in folder.runs() if folder.exists() else ():
            status = run.status()
            if status["state"] != "done":
                continue
            try:
                keys = _keys(run.spec())
            except Damaged:
                continue
            for key in keys:
                seconds.setdefault(key, []).append(status["fit_seconds"])
                seconds[key][-1] += status["predict_seconds"]
                if "peak_gpu_bytes" in status:
                    peaks.setdefault(key, []).append(status["peak_gpu_bytes"])
        return cls(seconds, peaks)

    def seconds_of(self, spec: RunSpec) -> float | None:
        """Expect what like runs took: the row on this dataset, else any row on it."""
        for key in _keys({"method": spec.method, "preset": spec.preset, "dataset": spec.dataset}):
            if key in self.seconds:
                return median(self.seconds[key])
        return None

    def peak_of(self, spec: RunSpec) -> int | None:
        """Expect the most that the same row needed on this dataset; another row says nothing."""
        row = f"{spec.method}:{spec.preset}"
        return max(self.peak_bytes.get((row, spec.dataset), [0])) or None


def _keys(spec: Mapping[str, Any]) -> tuple[Key, Key]:
    row = f"{spec['method']}:{spec['preset']}"
    return (row, spec["dataset"]), ("", spec["dataset"])
