"""The report of a study: one folder, and one page that opens without a network.

Everything is read from what the runs stored; nothing is trained and no torch is imported. Pictures
are inside the page, its styles and its one script too; equal studies give equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tables
from bench.figures import write_drawing
from bench.files import atomic_write
from bench.leakscan import Scan, scan_file
from bench.pages.chapter import Chapter
from bench.pages.facts import cost_table, lead, what_was_run
from bench.pages.parts import Part, Picture, Section, parts_of, pictures_of
from bench.pages.search_chapter import search_chapter
from bench.pages.variant_chapter import variant_chapters
from bench.plugins.citations import read_cite_lines
from bench.registry import Registry
from bench.report import DEFAULTS, Drawing, Figure, ReportOptions
from bench.reporting.checking import standing
from bench.reporting.contents import Contents
from bench.reporting.printing import Asked, layouts_with_runs, leaks_of, tables_of
from bench.reporting.summary import CAUTION, Finding, finding
from bench.scores import captions
from bench.store import StudyFolder
from bench.tables import Table
from bench.variants.records import records_of

if TYPE_CHECKING:
    from bench.layout import Layout
    from bench.scores.results import RunResult

TEMPLATES = Path(__file__).parents[1] / "templates"
N_LONE = 5  # attributes shown of a leak scan


@dataclass(frozen=True)
class Page:
    """All that the page shows, in plain words and lists; the template orders it."""

    study: str
    lead: str  # what the study is, in a sentence
    findings: tuple[Finding, ...]
    caution: str
    sections: tuple[Section, ...]  # of searches, ablations and sensitivity studies
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
    records = records_of(folder)
    asked = Asked.of(folder, {identity for record in records for identity in record.asked})
    results = asked.results(folder)
    layouts = layouts_with_runs(asked, results)
    options = replace(options, preset=asked.budget, leaks=leaks_of(folder, results))
    searches = search_chapter(folder)
    chapters = [*([searches] if searches else []), *variant_chapters(records)]
    target = folder.create().reports_path
    built = tables_of(results, layouts, options)
    built += _own_tables(results, layouts, options, include)
    figures = _figures(include)
    drawings = list(_drawings(results, layouts, options, figures))
    files = [*_write_tables([*(t for each in chapters for t in each.tables), *built], target)]
    every = [*drawings, *(drawing for each in chapters for drawing in each.figures)]
    files += [path for each in every for path in write_drawing(each, target)]
    names = [each.name for each in drawings] + _drawn_elsewhere(target, every, figures)
    pictures = pictures_of(target, names)
    sections = [_section(each, target) for each in chapters]
    page = _page(folder, results, layouts, options, built, pictures, chapters, sections, include)
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


def _drawn_elsewhere(
    folder: Path, drawings: Sequence[Drawing], figures: Collection[str]
) -> list[str]:
    """List the figures that are no part of this report but lie beside it, drawn by other commands.

    Files named after a figure of this report are of an earlier call, and left out.
    """
    own = tuple(f"{name}-" for name in figures)
    known = {each.name for each in drawings}
    others = {path.stem for path in folder.glob("*.png") if not path.name.startswith(own)}
    return sorted(others - known)


def _section(chapter: Chapter, folder: Path) -> Section:
    """Embed a chapter whose figures lie in a folder."""
    return Section(
        chapter.identity,
        chapter.title,
        parts_of(chapter.tables, f"{chapter.identity}-table"),
        pictures_of(folder, (each.name for each in chapter.drawings)),
        tuple(
            (heading, pictures_of(folder, (each.name for each in drawings)))
            for heading, drawings in chapter.views
        ),
        chapter.reasons,
    )


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
    pictures: tuple[Picture, ...],
    chapters: Sequence[Chapter],
    sections: Sequence[Section],
    include: Sequence[Path],
) -> Page:
    contents = [Contents.of(results, layout, options) for layout in layouts]
    runs = [*results, *(run for each in chapters for run in each.runs)]
    names = dict.fromkeys(name for run in runs for name in (run.spec["method"], run.dataset))
    of_rows = [*contents, *(each for chapter in chapters for each in chapter.contents)]
    costs = [cost_table(each) for each in of_rows]
    findings = [*(each for chapter in chapters for each in chapter.findings)]
    failures = [*_failures(results), *(each for chapter in chapters for each in chapter.failures)]
    return Page(
        study=folder.path.name,
        lead=f"{standing(folder)} {lead(results, chapters)}".strip(),
        findings=(*findings, *(finding(each) for each in contents)),
        caution=CAUTION if contents else "",
        sections=tuple(sections),
        parts=parts_of(built, "table"),
        pictures=pictures,
        runs=tuple(what_was_run(runs, [each.layout for each in of_rows], options)),
        costs=parts_of([each for each in costs if each.rows], "costs"),
        failures=tuple(failures),
        leaks=tuple(_leaks(folder, runs)),
        bibtex="\n".join(read_cite_lines(list(names), include)).strip(),
    )


# --- what went wrong, and what leaks ----------------------------------------------------------


def _failures(results: Sequence[RunResult]) -> Iterator[tuple[str, str, str]]:
    """List the runs without predictions: which, their state, why; repeats of one fate together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for run in results:
        if run.state != "done":
            name = f"{run.row} on {run.dataset}, training {run.setting}"
            fate = name, run.state, run.reason or "no reason is noted"
            alike.setdefault(fate, []).append(captions.repeat_name(run.repeat))
    for (name, state, reason), repeats in alike.items():
        yield f"{name}, {'; '.join(repeats)}", state, reason


def _leaks(
    folder: StudyFolder, results: Sequence[RunResult]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in dict.fromkeys(scan_file(run.spec) for run in results):
        if found := folder.read_if_whole(name):
            scan = Scan.from_json(found)
            yield scan.dataset, tuple(_scan_lines(scan))
    names = {scan_file(run.spec) for run in results}
    scanned = {name for name in names if folder.read_if_whole(name)}
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
