"""What was run, in words: data, budgets, versions, hardware and time, and what each row cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import tables
from bench.report import ReportOptions
from bench.reporting.contents import Contents
from bench.scores import captions
from bench.tables import Cell, Column, Row, RowGroup, Table
from bench.wording import counted, listed

if TYPE_CHECKING:
    from bench.layout import Layout
    from bench.pages.chapter import Chapter
    from bench.scores.results import RunResult

COSTS = (  # of a run: fact, header, unit
    ("n_parameters", "parameters", ""),
    ("n_models", "models", ""),
    ("fit_seconds", "training", "s"),
    ("predict_seconds", "prediction", "s"),
)


def lead(results: Sequence[RunResult], chapters: Sequence[Chapter] = ()) -> str:
    """Say what the study is: `3 rows on toy: 15 finished, 1 failed.`, and what else it has."""
    leads = [each.lead for each in chapters]
    said = [_states(results)] if results or not leads else []
    return " ".join([*said, *([f"{'; '.join(leads)}."] if leads else [])])


def _states(results: Sequence[RunResult]) -> str:
    rows, datasets = {run.row for run in results}, {run.dataset for run in results}
    states = Counter(run.state for run in results)
    others = [
        f"{states[name]} {name}" for name in ("failed", "damaged", "skipped", "running", "pending")
    ]
    said = ", ".join([f"{states['done']} finished", *(each for each in others if each[0] != "0")])
    return (
        f"{counted(len(rows), 'row')} on {listed(sorted(datasets))}: {said}."
        if datasets
        else "No run was ever begun."
    )


def what_was_run(
    results: Sequence[RunResult], layouts: Sequence[Layout], options: ReportOptions
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield headings with their lines; a heading without a line was not noted."""
    specs = [run.spec for run in results]
    yield "Data", tuple(_data_lines(results))
    if layouts:
        yield "Patterns of missing values", tuple(_pattern_lines(layouts))
    yield "Encoders", tuple(dict.fromkeys(_settings(spec["encoder"]) for spec in specs))
    budget = f"preset {options.preset}: " if options.preset else ""
    recipes = dict.fromkeys(_settings(spec["recipe"]) for spec in specs)
    yield "Budgets", tuple(f"{budget}{recipe}" for recipe in recipes)
    yield "Model selection", tuple(dict.fromkeys(_selection(spec) for spec in specs))
    environments = [_environment(run) for run in results]
    yield "Versions", tuple(_said(environments, _versions))
    yield "Hardware", tuple(_said(environments, _hardware))
    yield "Time", (_time(results),)


def _data_lines(results: Sequence[RunResult]) -> Iterator[str]:
    """Say of each dataset its version, configuration, cases and repeats."""
    for name in dict.fromkeys(run.dataset for run in results):
        runs = [run for run in results if run.dataset == name]
        cases = {case for run in runs for part in run.parts.values() for case in part[0].tolist()}
        repeats = sorted({run.repeat for run in runs})
        folds, seeds = ({r[i] for r in repeats} for i in (0, 1))
        for fingerprint in dict.fromkeys(run.spec["fingerprint"] for run in runs):
            spec = next(run.spec for run in runs if run.spec["fingerprint"] == fingerprint)
            settings = _settings(spec["dataset_config"])
            yield (
                f"{name}{f' ({settings})' if settings else ''}: {len(cases) or 'no'} test cases, "
                f"folds {_numbers(folds)} of {spec['n_folds']}, seeds {_numbers(seeds)}; SHA-256 "
                f"{fingerprint[:16]}"
            )


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _pattern_lines(layouts: Sequence[Layout]) -> Iterator[str]:
    for layout in layouts:
        law = f"; absent: {layout.law}" if layout.law else ""
        columns = listed(dict.fromkeys(column.header for column in layout.columns))
        yield f"{layout.title}{law}; tested: {columns}"


def _settings(values: Mapping[str, Any]) -> str:
    """Write settings as `key value`, those that are off or empty left out."""
    return ", ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in values.items()
        if value not in ("", None, False)
    )


def _selection(spec: Mapping[str, Any]) -> str:
    rule = spec["selection"]
    return f"{rule}: {captions.SELECTION[rule]}" if rule in captions.SELECTION else rule


def _environment(run: RunResult) -> Mapping[str, Any]:
    if run.folder is None or run.state == "damaged":
        return {}
    if not run.folder.path_of("environment.json").is_file():
        return {}
    return run.folder.read_json("environment.json")


def _said(environments: Sequence[Mapping[str, Any]], say: Any) -> Iterator[str]:
    """Say what the environments have, with the number of runs where they differ."""
    counts = Counter(said for each in environments if (said := say(each)))
    for said, n in counts.items():
        yield f"{said} ({counted(n, 'run')})" if len(counts) > 1 else said


def _versions(environment: Mapping[str, Any]) -> str:
    versions = {"Python": environment.get("python"), **environment.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _hardware(environment: Mapping[str, Any]) -> str:
    device = environment.get("device_name") or environment.get("device")
    threads = environment.get("threads")
    parts = [environment.get("platform"), device and f"device {device}"]
    parts += [threads and f"{counted(threads, 'thread')} of the processor"]
    return ", ".join(str(part) for part in parts if part)


def _time(results: Sequence[RunResult]) -> str:
    fit = sum(run.facts.get("fit_seconds") or 0.0 for run in results)
    predict = sum(run.facts.get("predict_seconds") or 0.0 for run in results)
    ends = sorted(str(run.facts["ended"]) for run in results if run.facts.get("ended"))
    said = f"training {_duration(fit)}, prediction {_duration(predict)}, summed over runs"
    return f"{said}; the last run ended {ends[-1]}" if ends else said


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def cost_table(contents: Contents) -> Table:
    """Make the table of what each row's runs cost, means over the finished ones."""
    columns = tuple(
        Column(name, header, "per run", unit=unit, better="neither", long_header=header)
        for name, header, unit in COSTS
    )
    rows = tuple(
        Row(row.label, tuple(_cost(row.done, name, unit) for name, _, unit in COSTS))
        for row in contents.rows
        if row.done
    )
    title = f"Costs: {contents.layout.title}"
    caption = "Means over the finished runs ± sample SD; a dash where nothing was noted or counted."
    return Table(title, columns, (RowGroup("", rows),), (caption,))


def _cost(runs: Sequence[RunResult], name: str, unit: str) -> Cell:
    known = [float(run.facts[name]) for run in runs if run.facts.get(name) is not None]
    if not any(known):  # 0 parameters: the shallow floor counts none
        return Cell(text=tables.DASH)
    spread = float(np.std(known, ddof=1)) if unit and len(known) > 1 else None
    return Cell(float(np.mean(known)), spread, digits=2 if unit else 0, n_repeats=len(known))
