"""`bench plan`: what a study would run, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.plugins.listing import aligned
from bench.request import Request
from bench.runner.cell import Cell
from bench.store import StudyFolder
from bench.study.expectation import Expectation
from bench.study.study import Study
from bench.wording import counted


def outlook_lines(
    request: Request, planned: Study, folder: StudyFolder, jobs: int
) -> Iterator[str]:
    """Say in words who loses what, list the cells with their states, and estimate the time."""
    yield from _protocol_lines(request)
    yield from remarks(planned)
    known = Expectation.of(folder)
    rows = [("run", "conditions", "state")]
    todo: list[float | None] = []
    for cell in planned.cells:
        state = _state(cell, folder, keeps=request.keep_representations)
        if state.startswith("to do"):
            todo.append(known.seconds_of(cell.spec))
        rows.append((cell.spec.folder, str(len(cell.conditions)), state))
    yield from aligned(rows)
    yield f"{counted(len(planned.cells), 'run')}, {len(todo)} to do; {_estimate(todo, jobs)}"


def remarks(planned: Study) -> Iterator[str]:
    """Say of each encoder that can never learn what is wrong with it."""
    for config in dict.fromkeys(cell.spec.encoder for cell in planned.cells):
        if config.frozen and not (config.pretrained or config.weights):
            yield (
                f"warning: the encoder of pictures, {config.image}, is frozen with random weights "
                "and learns nothing; say encoder.pretrained=true or encoder.weights=FILE, or leave "
                "encoder.frozen out"
            )


def _protocol_lines(request: Request) -> Iterator[str]:
    from bench.registry import registry_of

    registry = registry_of(request.include, request.override)
    for name in request.protocols:
        plugin = registry.load("protocol", name)
        fields = plugin.config_class.model_fields
        values = {key: value for key, value in request.gaps.items() if key in fields}
        config = plugin.config_class(**values | request.settings.get(name, {}))
        yield f"{name}: " + "; ".join(plugin(config).words())


def _state(cell: Cell, folder: StudyFolder, *, keeps: bool) -> str:
    if cell.reason:
        return f"not applicable: {cell.reason}"
    run = folder.run(cell.spec)
    if cell.is_done(run, keeps=keeps):
        return "done"
    if damage := run.damage():
        return f"to do (damaged: {damage})"
    reason = run.reason()
    return f"to do (failed: {reason})" if reason else "to do"


def _estimate(todo: Sequence[float | None], jobs: int) -> str:
    if not todo:
        return "nothing to wait for"
    told = [seconds for seconds in todo if seconds is not None]
    if not told:
        return "no finished run on this data yet, so no estimate of time"
    minutes = sum(told) / len(told) * len(todo) / min(jobs, len(todo)) / 60
    return f"about {minutes:.1f} minutes with {jobs} at a time, by runs that are done"
