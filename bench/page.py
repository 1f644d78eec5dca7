"""The report of a study: one folder, and one page that opens without a network.

Everything is read from what the runs stored; nothing is trained and no torch is imported. Pictures
are inside the page, its styles and its one script too; equal studies give equal bytes.
"""

from __future__ import annotations

import base64
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import captions, tables
from bench.checking import standing
from bench.citations import read_cite_lines
from bench.figures import write_drawing
from bench.leakscan import Scan, scan_file
from bench.registry import Registry
from bench.report import DEFAULTS, Drawing, Figure, ReportOptions
from bench.reporting import Asked, layouts_with_runs, leaks_of, tables_of
from bench.score_table import Contents
from bench.store import StudyFolder, atomic_write
from bench.summary import CAUTION, Finding, finding
from bench.tables import Cell, Column, Row, RowGroup, Table
from bench.wording import counted, listed

if TYPE_CHECKING:
    from bench.layout import Layout
    from bench.results import RunResult

TEMPLATES = Path(__file__).parent / "templates"
N_LONE = 5  # attributes shown of a leak scan
WIDE = 2.2  # times as wide as high: a picture that takes the whole width
COSTS = (  # of a run: fact, header, unit
    ("n_parameters", "parameters", ""),
    ("n_models", "models", ""),
    ("fit_seconds", "training", "s"),
    ("predict_seconds", "prediction", "s"),
)


@dataclass(frozen=True)
class Picture:
    """A figure inside the page."""

    name: str
    source: str  # a data URI
    numbers: str  # CSV as a data URI
    alt: str
    is_wide: bool  # takes the whole width

    @classmethod
    def of(cls, name: str, png: bytes, csv: bytes) -> Picture:
        """Embed a figure and its numbers."""
        width, height = struct.unpack(">II", png[16:24])  # of the header, in pixels
        n_lines = csv.count(b"\n") - 1
        alt = f"Figure {name}; its {n_lines} lines of numbers are in the CSV beside it"
        sources = _data_uri(png, "image/png"), _data_uri(csv, "text/csv")
        return cls(name, *sources, alt, width > WIDE * height)


@dataclass(frozen=True)
class Part:
    """A table inside the page."""

    identity: str
    title: str
    body: str  # HTML, escaped by its writer
    numbers: str  # CSV as a data URI


@dataclass(frozen=True)
class Page:
    """All that the page shows, in plain words and lists; the template orders it."""

    study: str
    lead: str  # what the study is, in a sentence
    findings: tuple[Finding, ...]
    caution: str
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]
    runs: tuple[tuple[str, tuple[str, ...]], ...]  # heading, what was run
    costs: tuple[Part, ...]
    failures: tuple[tuple[str, str, str], ...]  # run, state, reason
    leaks: tuple[tuple[str, tuple[str, ...]], ...]  # dataset, what the scan found
    bibtex: str

    def render(self) -> str:
        """Return the page."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return environment.get_template("report.html.j2").render(page=self)


def write_report(
    folder: StudyFolder, options: ReportOptions = DEFAULTS, include: Sequence[Path] = ()
) -> list[Path]:
    """Write the report of a study into its folder of reports.

    Args:
        folder: where the study lies.
        options: what is wanted of tables and figures.
        include: the user's own tables and figures.

    Returns:
        The files, the page first.

    Raises:
        BenchError: what is wanted does not fit the study, or a file cannot be written.
    """
    asked = Asked.of(folder)
    results = asked.results(folder)
    layouts = layouts_with_runs(asked, results)
    options = replace(options, preset=asked.budget, leaks=leaks_of(folder, results))
    target = folder.create().reports_path
    built = tables_of(results, layouts, options)
    built += _own_tables(results, layouts, options, include)
    figures = _figures(include)
    drawings = list(_drawings(results, layouts, options, figures))
    files = [*_write_tables(built, target)]
    files += [path for each in drawings for path in write_drawing(each, target)]
    pictures = list(_pictures(target, drawings, figures))
    page = _page(folder, results, layouts, options, built, pictures, include)
    path = target / "report.html"
    atomic_write(path, page.render().encode())
    return [path, *files]


def _drawings(
    results: Sequence[RunResult],
    layouts: Sequence[Layout],
    options: ReportOptions,
    figures: Mapping[str, type[Figure]],
) -> Iterator[Drawing]:
    """Draw every figure that finds something in this study, each under a name of its own."""
    counts: Counter[str] = Counter()
    for figure in figures.values():
        for drawing in figure().draw(results, layouts, options):
            counts[drawing.name] += 1
            n = counts[drawing.name]  # tables that differ in their law alone share a title
            yield drawing if n == 1 else replace(drawing, name=f"{drawing.name}-{n}")


def _own_tables(
    results: Sequence[RunResult],
    layouts: Sequence[Layout],
    options: ReportOptions,
    include: Sequence[Path],
) -> list[Table]:
    """Make the tables of the user's plugins, of every layout that they are for."""
    registry, built_in = Registry(include), Registry().names("report")
    own = (
        registry.load("report", name) for name in registry.names("report") if name not in built_in
    )
    return [
        plugin().build(results, layout, options)
        for plugin in own
        if not issubclass(plugin, Figure)
        for layout in layouts
        if layout.kind in (plugin.kinds or (layout.kind,))
    ]


def _figures(include: Sequence[Path]) -> dict[str, type[Figure]]:
    registry = Registry(include)
    plugins = {name: registry.load("report", name) for name in registry.names("report")}
    return {name: plugin for name, plugin in plugins.items() if issubclass(plugin, Figure)}


def _pictures(
    folder: Path, drawings: Sequence[Drawing], figures: Collection[str]
) -> Iterator[Picture]:
    """Take in the figures, and what other commands drew beside their numbers: ablations, searches.

    Other files named after a figure of this report are of an earlier call, and left out.
    """
    own = tuple(f"{name}-" for name in figures)
    others = {path.stem for path in folder.glob("*.png") if not path.name.startswith(own)}
    for name in [*(each.name for each in drawings), *sorted(others)]:
        png, numbers = (folder / f"{name}.{ending}" for ending in ("png", "csv"))
        if numbers.is_file():
            yield Picture.of(name, png.read_bytes(), numbers.read_bytes())


def _write_tables(built: Sequence[Table], target: Path) -> Iterator[Path]:
    """Write all tables in each format."""
    contents = {
        "tables.md": "\n\n".join(tables.to_markdown(each).rstrip() for each in built) + "\n",
        "tables.tex": "\n\n".join(tables.to_latex(each).rstrip() for each in built) + "\n",
        "tables.csv": "".join(tables.to_csv(each, header=not i) for i, each in enumerate(built)),
    }
    for name, content in contents.items():
        atomic_write(target / name, content.encode())
        yield target / name


def _page(
    folder: StudyFolder,
    results: Sequence[RunResult],
    layouts: Sequence[Layout],
    options: ReportOptions,
    built: Sequence[Table],
    pictures: Sequence[Picture],
    include: Sequence[Path],
) -> Page:
    contents = [Contents.of(results, layout, options) for layout in layouts]
    names = dict.fromkeys(name for run in results for name in (run.spec["method"], run.dataset))
    costs = [_cost_table(each) for each in contents]
    return Page(
        study=folder.path.name,
        lead=f"{standing(folder)} {_lead(results)}".strip(),
        findings=tuple(finding(each) for each in contents),
        caution=CAUTION,
        parts=tuple(_part(each, f"table{i}") for i, each in enumerate(built, 1)),
        pictures=tuple(pictures),
        runs=tuple(_what_was_run(results, layouts, options)),
        costs=tuple(_part(each, f"costs{i}") for i, each in enumerate(costs, 1) if each.rows),
        failures=tuple(_failures(results)),
        leaks=tuple(_leaks(folder, results)),
        bibtex="\n".join(read_cite_lines(list(names), include)).strip(),
    )


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _part(table: Table, identity: str) -> Part:
    numbers = _data_uri(tables.to_csv(table).encode(), "text/csv")
    body = tables.to_html(table, identity=identity)
    return Part(identity, table.title, body, numbers)


# --- what was run -----------------------------------------------------------------------------


def _lead(results: Sequence[RunResult]) -> str:
    """Say what the study is: `3 methods on 1 dataset: 15 of 16 runs finished, 1 failed.`"""
    rows, datasets = {run.row for run in results}, {run.dataset for run in results}
    states = Counter(run.state for run in results)
    others = [f"{states[name]} {name}" for name in ("failed", "skipped", "running", "pending")]
    said = ", ".join([f"{states['done']} finished", *(each for each in others if each[0] != "0")])
    return (
        f"{counted(len(rows), 'row')} on {listed(sorted(datasets))}: {said}."
        if datasets
        else "No run was ever begun."
    )


def _what_was_run(
    results: Sequence[RunResult], layouts: Sequence[Layout], options: ReportOptions
) -> Iterator[tuple[str, tuple[str, ...]]]:
    specs = [run.spec for run in results]
    yield "Data", tuple(_data_lines(results))
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
                f"{name}{f' ({settings})' if settings else ''}: {len(cases)} test cases, folds "
                f"{_numbers(folds)} of {spec['n_folds']}, seeds {_numbers(seeds)}; SHA-256 "
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
    if run.folder is None or not run.folder.path_of("environment.json").is_file():
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


def _cost_table(contents: Contents) -> Table:
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
    caption = "Means over the finished runs ± sample SD; a dash where nothing was noted."
    return Table(title, columns, (RowGroup("", rows),), (caption,))


def _cost(runs: Sequence[RunResult], name: str, unit: str) -> Cell:
    known = [float(run.facts[name]) for run in runs if run.facts.get(name) is not None]
    if not known:
        return Cell(text=tables.DASH)
    spread = float(np.std(known, ddof=1)) if unit and len(known) > 1 else None
    return Cell(float(np.mean(known)), spread, digits=2 if unit else 0, n_repeats=len(known))


# --- what went wrong, and what leaks ----------------------------------------------------------


def _failures(results: Sequence[RunResult]) -> Iterator[tuple[str, str, str]]:
    """List the runs without predictions: which, its state, why."""
    for run in results:
        if run.state != "done":
            repeat = captions.repeat_name(run.repeat)
            name = f"{run.row} on {run.dataset}, training {run.setting}, {repeat}"
            yield name, run.state, run.reason or "no reason is noted"


def _leaks(
    folder: StudyFolder, results: Sequence[RunResult]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in dict.fromkeys(scan_file(run.spec) for run in results):
        if folder.has(name):
            scan = Scan.from_json(folder.read_json(name))
            yield scan.dataset, tuple(_scan_lines(scan))
    scanned = {scan_file(run.spec) for run in results if folder.has(scan_file(run.spec))}
    without = dict.fromkeys(run.dataset for run in results if scan_file(run.spec) not in scanned)
    for dataset in without:
        yield dataset, ("not scanned: this study has no scan of it",)


def _scan_lines(scan: Scan) -> Iterator[str]:
    yield from (f"Warning: {each}" for each in scan.warnings())
    if not scan.warnings():
        yield "nothing found that gives the label away beyond the thresholds"
    flags = (100 * scan.modality_flags, 100 * scan.attribute_flags)
    yield f"AUC of the availability pattern alone: {flags[0]:.1f} modalities, {flags[1]:.1f} all"
    best = ", ".join(f"{each.name} {100 * each.auc:.1f}" for each in scan.attributes[:N_LONE])
    if best:
        yield f"AUC of single attributes alone, best first: {best}"
