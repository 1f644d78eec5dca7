"""One run of a study: what it is, whether the store answers it, and how it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Damaged
from bench.registry import registry_of
from bench.spec import RunSpec
from bench.store import REPRESENTATIONS, Finished, RunFolder

FOUND = "found"  # the value of a run that was finished, by another coordinator, when its turn came


@dataclass(frozen=True)
class Cell:
    """One run of a study: its specification and the conditions asked of it."""

    spec: RunSpec
    conditions: tuple[Mapping[str, Any], ...]  # the fields of `bench.protocol.Condition`
    reason: str = ""  # why it cannot run; empty: it can
    retry_batch: int | None = None  # batch size of the retry when memory runs out; None: no retry

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "spec": self.spec.model_dump(mode="json"),
            "conditions": [dict(condition) for condition in self.conditions],
            "reason": self.reason,
            "retry_batch": self.retry_batch,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """Rebuild a cell that crossed a process border."""
        spec, conditions = RunSpec(**value["spec"]), tuple(value["conditions"])
        return cls(spec, conditions, value["reason"], value.get("retry_batch"))

    def is_done(self, folder: RunFolder, *, keeps: bool = False) -> bool:
        """Say whether the store answers this cell; `keeps`: with its representations."""
        asked = [condition["name"] for condition in self.conditions]
        return folder.state == "skipped" or has(folder, asked, keeps=keeps)


def has(folder: RunFolder, conditions: Sequence[str], *, keeps: bool) -> bool:
    """Say whether a run is finished with these conditions, and their representations if wanted."""
    status = folder.status()
    if status["state"] != "done" or damage_of(folder, keeps=keeps):
        return False
    kept = set(status.get("representations", [])) if keeps else set(conditions)
    return set(conditions) <= set(status["conditions"]) & kept


def damage_of(folder: RunFolder, *, keeps: bool) -> str:
    """Say what is damaged of a run, and of its representations if they are wanted."""
    return folder.damage(*([REPRESENTATIONS] if keeps else []))


def failed_at(folder: RunFolder) -> str | None:
    """Return when the last attempt failed, by which a later one of another coordinator is told."""
    status = folder.status()
    return str(status["ended"]) if status["state"] == "failed" else None


def run_cell(
    payload: Mapping[str, Any],
    report: Callable[[float], None],
    watch: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> str:
    """Carry out one cell in this process, unless the store has it by now.

    Args:
        payload: that of the task.
        report: takes the share that is done.
        watch: takes each row of the history, and may raise to stop the run.

    Returns:
        `FOUND` if nothing was to be done; what was damaged, if it had to be done again; else
        nothing.

    Raises:
        Claimed: another process is at work on it.
        BenchError: the run failed, here or with another coordinator since it was planned.
    """
    cell, folder = Cell.from_json(payload["cell"]), RunFolder(Path(payload["path"]))
    keeps = payload.get("keep", False)
    if cell.is_done(folder, keeps=keeps):
        return FOUND
    if "failed_at" in payload and failed_at(folder) not in (None, payload["failed_at"]):
        raise BenchError(folder.reason())
    damage = damage_of(folder, keeps=keeps)
    if damage:
        folder.take_back()
    try:
        with folder.held() if folder.state == "done" else nullcontext():
            _attempt(cell, payload, report, watch)
    except Finished:  # by another coordinator, between the look and the claim
        return run_cell(payload, report, watch)
    except Damaged as error:
        if folder.state != "done":
            raise
        folder.take_back()  # its weights, which nothing but further conditions looks at
        run_cell(payload, report, watch)
        return str(error)
    return damage


def _attempt(
    cell: Cell,
    payload: Mapping[str, Any],
    report: Callable[[float], None],
    watch: Callable[[Mapping[str, Any]], None],
) -> None:
    from bench.engine.resume import SaveRule
    from bench.protocol import condition_of
    from bench.runner.material import Context, Hooks, resolve_device
    from bench.runner.peak_memory import begin_measuring
    from bench.runner.runner import execute

    conditions = [condition_of(condition) for condition in cell.conditions]
    context = Context(
        registry_of(payload["include"], payload["override"]),
        Path(payload["data_root"]) if payload["data_root"] else None,
        resolve_device(payload["device"]),
        payload["threads"],
        SaveRule(**payload["saving"]),
    )
    begin_measuring(context.device)
    spec, folder = _smaller_if_asked(cell.spec, payload, context.device)
    execute(folder, spec, conditions, context, Hooks(report, watch))
    if payload.get("keep"):  # searches have nothing to keep
        from bench.runner.representing import keep_representations

        keep_representations(folder, cell.spec, conditions, context)


def _smaller_if_asked(
    spec: RunSpec, payload: Mapping[str, Any], device: str
) -> tuple[RunSpec, RunFolder]:
    """Return what is trained, with a smaller batch if this is the retry, and where it goes."""
    from bench.runner.peak_memory import peak_memory

    smaller, path = payload.get("smaller"), Path(payload["path"])
    if smaller is None:
        return spec, RunFolder(path, further=lambda: peak_memory(device))
    recipe = spec.recipe.model_copy(update={"batch_size": smaller["batch_size"]})
    facts = {"smaller_batch": smaller}
    folder = RunFolder(path, further=lambda: facts | peak_memory(device), instead_of=spec)
    return spec.model_copy(update={"recipe": recipe}), folder
