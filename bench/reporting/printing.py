"""Print the tables of a study from what it stored; nothing is trained, no torch is imported."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadRequest, unknown
from bench.layout import Layout, merged
from bench.leakscan import Scan, scan_file
from bench.report import DEFAULTS, Figure, Report, ReportOptions
from bench.request import Request
from bench.search.ledger import SEARCHES
from bench.spec import digest

if TYPE_CHECKING:
    from bench.scores.results import RunResult
    from bench.store import RunFolder, StudyFolder
    from bench.tables import Table

FORMATS = ("markdown", "latex", "csv")
NARROWEST = 60  # characters of a line that a row with one number fits into
REPORTS = {"subsets": "subsets", "single": "subsets", "rates": "rates"}  # by kind of layout


def check_format(output: str) -> None:
    """Refuse a format that no writer has.

    Raises:
        BadRequest: names those there are.
    """
    if output not in FORMATS:
        raise BadRequest(f"--format wants one of {', '.join(FORMATS)}, got {output!r}")


def metrics_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics of these names, in whatever case; ACC and AUC for none.

    Raises:
        UnknownName: there is none of a name.
    """
    from bench.scores.metrics import METRICS, metric_named

    known = {name.lower(): name for name in METRICS}
    asked = [known.get(name.lower(), name) for name in names]
    return tuple(dict.fromkeys(metric_named(name).name for name in asked)) or DEFAULTS.metrics


@dataclass(frozen=True)
class MadeBy:
    """The plugin that makes tables, and where a user's own are looked for."""

    name: str = ""  # empty: by the kind of each layout
    include: tuple[Path, ...] = ()
    override: bool = False

    def plugin(self, name: str) -> type[Report]:
        """Load a plugin of tables.

        Raises:
            UnknownName: no report has this name.
            BadRequest: it draws figures.
        """
        from bench.registry import Registry

        found = Registry(self.include, override=self.override).load("report", name)
        if issubclass(found, Figure):
            raise BadRequest(f"{name} draws figures and makes no table; say `bench figure {name}`")
        return found


OWN = MadeBy()


@dataclass(frozen=True)
class Asked:
    """What was ever asked of a study, in the order of asking."""

    names: tuple[str, ...]  # of run folders; empty: nothing is noted
    layouts: tuple[Layout, ...]
    budget: str  # empty where requests differ
    is_noted: bool = True  # False: the study has no notes of requests

    @classmethod
    def of(cls, folder: StudyFolder, without: Collection[str] = ()) -> Asked:
        """Read the notes of a study.

        Args:
            folder: where it lies.
            without: the identities of requests that are shown elsewhere.
        """
        every = folder.requests()
        entries = [entry for entry in every if identity_of(entry["asked"]) not in without]
        names = dict.fromkeys(name for entry in entries for name, _ in entry["cells"])
        layouts = [Layout.from_json(each) for entry in entries for each in entry["layouts"]]
        budgets = {Request(**entry["asked"]).budget for entry in entries}
        budget = budgets.pop() if len(budgets) == 1 else ""
        return cls(tuple(names), tuple(layouts), budget, is_noted=bool(every))

    def results(self, folder: StudyFolder) -> list[RunResult]:
        """Read the runs that were asked for, or all of a study without notes; say what is lost.

        The trials of a search are asked for by nobody and have no test scores.
        """
        from bench.scores.results import load_results

        if self.is_noted:
            _say_unreadable(map(folder.run_named, self.names))
            return load_results(folder, self.names)
        _say_unreadable(folder.runs())
        return load_results(folder, select=_was_tested if has_searches(folder) else None)


def _say_unreadable(runs: Iterable[RunFolder]) -> None:
    """Name the runs that no table can show."""
    from bench.scores.results import unreadable

    for run in runs:
        if (why := unreadable(run)) and (run.has_spec() or run.state == "done"):
            print(f"left out: {why}", file=sys.stderr)


def has_searches(folder: StudyFolder) -> bool:
    """Tell whether a study was searched in, so that some of its runs are trials."""
    return (folder.path / SEARCHES).is_dir()


def identity_of(asked: Mapping[str, Any]) -> str:
    """Return what tells a request from others, wherever its study lies."""
    return digest({key: value for key, value in asked.items() if key not in ("out", "study")})


def _was_tested(run: RunFolder) -> bool:
    return bool(run.status().get("conditions"))


def print_study(
    folder: StudyFolder,
    output: str,
    options: ReportOptions = DEFAULTS,
    conditions: Sequence[str] = (),
    made_by: MadeBy = OWN,
) -> None:
    """Print the tables of all that was ever asked of a study.

    Args:
        folder: where it lies.
        output: the format.
        options: what is wanted of each table.
        conditions: the columns wanted, in order; empty: all.
        made_by: the plugin of the tables.

    Raises:
        BenchError: what is wanted does not fit the study, or it holds searches alone.
    """
    check_format(output)
    asked = Asked.of(folder)
    if not asked.is_noted and has_searches(folder) and not asked.results(folder):
        raise BadRequest(
            f"study {folder.name} holds searches alone, whose trials have no test scores; `bench "
            f"sensitivity --study {folder.name}` and `bench report` show them"
        )
    print_tables(folder, asked, output, options, conditions, made_by)


def print_tables(
    folder: StudyFolder,
    asked: Asked,
    output: str,
    options: ReportOptions = DEFAULTS,
    conditions: Sequence[str] = (),
    made_by: MadeBy = OWN,
) -> None:
    """Print the tables of some runs; the arguments are those of `print_study`."""
    check_format(output)
    results = asked.results(folder)
    chosen = layouts_with_runs(asked, results)
    options = replace(options, preset=asked.budget, leaks=leaks_of(folder, results))
    built = tables_of(results, chosen, options, conditions, made_by)
    print_built(built, output)


def leaks_of(folder: StudyFolder, results: Sequence[RunResult]) -> dict[str, list[str]]:
    """Read what the scans at the head of a study found, by dataset."""
    files = {scan_file(result.spec): result.dataset for result in results}
    found: dict[str, list[str]] = {}
    for name, dataset in files.items():
        if scanned := folder.read_if_whole(name):
            warnings = Scan.from_json(scanned).warnings()
            found[dataset] = list(dict.fromkeys([*found.get(dataset, []), *warnings]))
    return found


def write_figures(
    folder: StudyFolder, name: str, options: ReportOptions = DEFAULTS, include: Sequence[Path] = ()
) -> list[Path]:
    """Draw a study with a figure plugin into its folder of reports; return the files.

    Raises:
        UnknownName: no report has this name.
        BadRequest: it makes tables, or finds nothing to draw in this study.
    """
    from bench.figures import write_drawing
    from bench.registry import Registry

    plugin = Registry(include).load("report", name)
    if not issubclass(plugin, Figure):
        raise BadRequest(f"{name} makes tables, which `bench table` prints; it draws no figure")
    asked = Asked.of(folder)
    results = asked.results(folder)
    drawings = plugin().draw(results, layouts_with_runs(asked, results), options)
    if not drawings:
        needs = f"it needs {plugin.needs}" if plugin.needs else f"see `bench info {name}`"
        raise BadRequest(f"{name} finds nothing to draw in this study; {needs}")
    return [path for each in drawings for path in write_drawing(each, folder.create().reports_path)]


def print_built(built: Sequence[Table], output: str) -> None:
    """Print tables in a format."""
    check_format(output)
    from bench import tables

    if output == "csv":
        print("".join(tables.to_csv(each, header=not i) for i, each in enumerate(built)), end="")
        return
    if output == "latex":
        written = [tables.to_latex(each) for each in built]
    else:
        width = _width(tables.TERMINAL_WIDTH)
        written = [tables.to_markdown(each, width=width) for each in built]
    print("\n\n".join(each.rstrip() for each in written))


def _width(usual: int) -> int:
    """Return the characters of a line of the terminal, or the usual number for a file or a pipe."""
    if not sys.stdout.isatty():
        return usual
    return max(NARROWEST, shutil.get_terminal_size((usual, 24)).columns)


def layouts_with_runs(asked: Asked, results: Sequence[RunResult]) -> list[Layout]:
    """List the tables to be shown: those asked for, or one per training if none is noted."""
    from bench.scores.rows import layouts_of, runs_of

    wanted = merged(asked.layouts) if asked.layouts else layouts_of(results)
    return [layout for layout in wanted if runs_of(results, layout)]


def tables_of(
    results: Sequence[RunResult],
    layouts: Sequence[Layout],
    options: ReportOptions,
    conditions: Sequence[str] = (),
    made_by: MadeBy = OWN,
) -> list[Table]:
    """Make a table per layout, with the plugin asked for or else the report of its kind.

    Raises:
        UnknownName: no report has the name asked for.
        BenchError: what is wanted fits none of the layouts.
    """
    chosen = _with_column(narrowed(layouts, conditions), results, options.by)
    _check_weights(chosen, options.weights)
    reports = {
        kind: made_by.plugin(made_by.name or REPORTS[kind])()
        for kind in dict.fromkeys(each.kind for each in chosen)
    }
    built = [
        reports[layout.kind].build(results, layout, options)
        for layout in chosen
        if layout.kind in (reports[layout.kind].kinds or (layout.kind,))
    ]
    if chosen and not built:
        raise BadRequest(
            f"{made_by.name} is no table for what this study has "
            f"({', '.join(sorted(reports))}); see `bench info {made_by.name}`"
        )
    return built


def narrowed(layouts: Sequence[Layout], conditions: Sequence[str]) -> list[Layout]:
    """Keep the columns of these conditions, in their order, and the layouts that have any.

    Raises:
        UnknownName: one of them was never tested.
    """
    if not conditions:
        return list(layouts)
    known = {column.condition for layout in layouts for column in layout.columns}
    for name in conditions:
        if name not in known:
            raise unknown("tested condition", name, known)
    chosen = [
        replace(
            layout,
            columns=tuple(
                column
                for name in conditions
                for column in layout.columns
                if column.condition == name
            ),
        )
        for layout in layouts
    ]
    return [layout for layout in chosen if layout.columns]


def _with_column(
    layouts: Sequence[Layout], results: Sequence[RunResult], by: str
) -> Sequence[Layout]:
    """Leave out the datasets without this column, unless none has it: the report refuses those."""
    from bench.scores.rows import runs_of
    from bench.scores.subgroups import known_columns

    if not by:
        return layouts
    chosen = [each for each in layouts if by in known_columns(runs_of(results, each))]
    return chosen or layouts[:1]


def _check_weights(layouts: Sequence[Layout], weights: Mapping[str, float]) -> None:
    known = [{column.condition for column in layout.columns} for layout in layouts]
    for name in weights:
        if not any(name in each for each in known):
            raise unknown("tested condition", name, set().union(*known))
    if weights and not any(set(weights) <= each for each in known):
        raise BadRequest(
            f"--weight names conditions of different tables ({', '.join(weights)}); "
            "weigh those of one table at a time"
        )
