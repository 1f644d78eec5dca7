"""What `bench tune` ends with: its table, its figure, and the best configurations as YAML."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.files import atomic_write, explained
from bench.reporting.printing import check_format, print_built
from bench.request import Request
from bench.scores.captions import SELECTION
from bench.search.search import Scope, Search
from bench.spec import Tuned
from bench.store import StudyFolder
from bench.study.session import PLAIN, Manner
from bench.tables import DASH, Cell, Column, Footnotes, Row, RowGroup, Table
from bench.tuning.planning import Plan, Refused
from bench.tuning.results import SearchResult, by_table, value_of
from bench.tuning.tuning import Done, carry_out_plan
from bench.wording import counted

if TYPE_CHECKING:
    from bench.report import Drawing

TUNED = "tuned"  # folder of a study
MAX_REASONS = 3  # of failed trials that a footnote repeats
SCOPES: Mapping[Scope, str] = {
    "fold": "one search inside the training and validation part of each fold, whose best "
    "configuration serves that fold only",
    "split": "one search on the training and validation part of the fixed split",
    "shared": "one search over all folds: the best configuration was TUNED ON CASES THAT THE FINAL "
    "RUNS TEST, so that their scores will be too good",
}


def tune(
    request: Request, how: Plan, *, jobs: int, quiet: bool, output: str, manner: Manner = PLAIN
) -> int:
    """Search; print tables, write figures and the best configurations; return the exit code.

    Raises:
        BenchError: a space that is empty or contradicts itself, or a request that cannot be
            carried out; nothing is trained then.
    """
    check_format(output)
    done = carry_out_plan(request, how, jobs=jobs, quiet=quiet, manner=manner)
    return print_searches(done, request, output, quiet=quiet)


def print_searches(done: Done, request: Request, output: str, *, quiet: bool) -> int:
    """Print the tables, write figures and configurations; return the exit code."""
    from bench.figures import write_drawing

    refused = [each for each in done.planned if isinstance(each, Refused)]
    results = [SearchResult.of(each) for each in done.planned if isinstance(each, Search)]
    configurations = [
        path for rows in by_configuration(results).values() for path in _write(rows, request)
    ]
    tables = search_tables(results, refused)
    folder = StudyFolder(Path(request.out), request.study).create().reports_path
    pictures = [path for each in history_drawings(results) for path in write_drawing(each, folder)]
    print_built(tables, output)
    for damage in done.mended:
        print(f"mended: {damage.partition('; ')[0]}", file=sys.stderr)
    if not quiet:
        n_carried_out = sum(len(each.trials) for each in results) - done.n_found
        said = f"{counted(n_carried_out, 'trial')} carried out, {done.n_found} found finished"
        print(said, file=sys.stderr)
        for each in refused:
            print(f"{each.row} on {each.dataset}: {each.reason}", file=sys.stderr)
        for path in configurations:
            print(f"to run the best: bench run --config {path}", file=sys.stderr)
        shown = ", ".join(str(path) for path in pictures if path.suffix == ".pdf")
        print(f"figures: {shown}", file=sys.stderr)
    return 0 if all(each.best for each in results) else 1


def history_drawings(results: Sequence[SearchResult]) -> list[Drawing]:
    """Draw, for each dataset and protocol, the course of its searches."""
    from bench.tuning.figures import draw_history

    return [
        draw_history(rows, f"tuning-{dataset}-{protocol}")
        for (dataset, protocol), rows in by_table(results).items()
    ]


# --- the table --------------------------------------------------------------------------------


def search_tables(results: Sequence[SearchResult], refused: Sequence[Refused] = ()) -> list[Table]:
    """Write, for each dataset and protocol, the budget, default and best of each search."""
    return [
        _table(
            f"{dataset}, {protocol}: search",
            rows,
            [each for each in refused if (each.dataset, each.protocol) == (dataset, protocol)],
        )
        for (dataset, protocol), rows in by_table(results).items()
    ]


def _table(title: str, results: Sequence[SearchResult], refused: Sequence[Refused]) -> Table:
    notes = Footnotes()
    factor = min(each.factor for each in results)
    unit = "%" if factor > 1 else ""
    counts = ("finished", "complete", "pruned", "failed", "asked again", "seconds")
    columns = [Column(name, name, "Trials", better="neither") for name in counts]
    columns += [
        Column(name, name, "Validation score", unit=unit) for name in ("default", "best", "gain")
    ]
    rows = [Row(each.label, _cells(each, factor), _reasons(each, notes)) for each in results]
    for each in refused:
        marks = (notes.mark(f"n/a: {each.reason}."),)
        rows.append(Row(each.row, (Cell(text="n/a"),) * len(columns), marks))
    caption = _caption(results)
    return Table(title, tuple(columns), (RowGroup("", tuple(rows)),), caption, notes.as_mapping())


def _cells(result: SearchResult, factor: float) -> tuple[Cell, ...]:
    counts = [
        len(result.trials),
        result.counts["COMPLETE"],
        result.counts["PRUNED"],
        result.counts["FAIL"],
        result.n_killed,
    ]
    digits = 2 if factor > 1 else 4
    values = [
        None if each is None else factor * value_of(each) for each in (result.default, result.best)
    ]
    values.append(None if None in values else values[1] - values[0])  # type: ignore[operator]
    return (
        *(Cell(float(count), digits=0) for count in counts),
        Cell(result.seconds, digits=1),
        *(Cell(text=DASH) if v is None else Cell(v, digits=digits) for v in values),
    )


def _reasons(result: SearchResult, notes: Footnotes) -> tuple[str, ...]:
    """Mark why trials failed."""
    failed = [each for each in result.trials if each.state.name == "FAIL"]
    reasons = list(dict.fromkeys(each.user_attrs.get("reason", "unknown") for each in failed))
    if not reasons:
        return ()
    more = f"; and {len(reasons) - MAX_REASONS} other reasons" if reasons[MAX_REASONS:] else ""
    said = "; ".join(each.partition("\n")[0] for each in reasons[:MAX_REASONS])
    return (notes.mark(f"Failed: {said}{more}."),)


def _caption(results: Sequence[SearchResult]) -> tuple[str, ...]:
    search = results[0].search
    rules = dict.fromkeys(each.search.cells[0].spec.selection for each in results)
    n_repeats = len({(c.spec.fold, c.spec.seed) for c in search.cells})
    n_settings = len({c.spec.setting["name"] for c in search.cells})
    repeats = counted(n_repeats, "repeat")
    settings = f" and {n_settings} training settings" if n_settings > 1 else ""
    laws = dict.fromkeys(each.search.law.words() for each in results)
    versions = dict.fromkeys(each.search.optuna for each in results)
    return (
        scope_sentence(search.scope),
        f"A trial's value: mean validation score over {repeats}{settings}; no "
        "trial reads a test case.",
        f"Validation score: {'; '.join(f'{rule} = {SELECTION[rule]}' for rule in rules)}.",
        f"{_budget(results)} The first trial is the default.",
        f"Optuna {' and '.join(versions)}: {'; '.join(laws)}.",
    )


def scope_sentence(scope: Scope) -> str:
    """Say which cases a search saw, and what its best configuration may serve."""
    said = SCOPES[scope]
    return f"{said[:1].upper()}{said[1:]}."


def _budget(results: Sequence[SearchResult]) -> str:
    """Say whether every search had the same budget, from the trials themselves."""
    counts = {len(each.trials) for each in results}
    if len(counts) == 1:
        return f"Every search had the same number of trials, {counts.pop()}."
    low, high = (f(each.seconds for each in results) for f in (min, max))
    return (
        f"The searches had {min(counts)} to {max(counts)} trials in {low:.0f} to {high:.0f} s "
        "of training."
    )


# --- the best configuration -------------------------------------------------------------------


def by_configuration(results: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    """Sort searches by the name of the file of their best configurations: folds share one."""
    files: dict[str, list[SearchResult]] = {}
    for each in results:
        search = each.search
        name = f"{search.row}-{search.dataset}-{search.protocol}".replace(":", "+")
        if search.scope == "shared":
            name += "-shared"
        files.setdefault(name, []).append(each)
    return files


def _write(results: Sequence[SearchResult], request: Request) -> list[Path]:
    """Write the best configuration of a method; nothing if no trial of it has a value."""
    found = [each for each in results if each.best is not None]
    if not found:
        return []
    search = found[0].search
    (name, _) = next(iter(by_configuration(found).items()))
    folder = search.study.path / TUNED
    with explained(folder):
        folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    head = [f"# {each.label}: {_described(each)}" for each in found]
    content = yaml.safe_dump(_configuration(found, request), sort_keys=False)
    atomic_write(path, "\n".join([*head, content]).encode())
    return [path]


def _described(result: SearchResult) -> str:
    best = result.best
    assert best is not None
    gain = "" if result.gain is None else f", {result.gain:+.4g} against the default"
    value = result.factor * value_of(best)
    return (
        f"trial {best.number} of {len(result.trials)}, validation score {value:.6g}{gain}; "
        f"search {result.search.name}"
    )


def _configuration(results: Sequence[SearchResult], request: Request) -> dict[str, Any]:
    """Return the file: the request with the best settings, for one fold each where they differ."""
    search = results[0].search
    spec = search.cells[0].spec
    asked = request.alone(f"{spec.method}:{spec.preset}", search.dataset, search.protocol)
    left_out = {"methods", "datasets", "protocols", "settings", "out", "study", "floor", "by_fold"}
    kept = asked.model_dump(mode="json", exclude_defaults=True, exclude=left_out | {"tuned"})
    tuned: Tuned = search.scope
    head = {"method": asked.methods[0], "dataset": search.dataset, "protocol": search.protocol}
    found = [(each.search.fold, *_best_settings(each)) for each in results]
    sections: dict[str, dict[str, Any]] = {k: dict(v) for k, v in asked.settings.items()}
    file = head | kept | {"floor": False, "tuned": tuned}
    if search.scope == "fold":
        file["by_fold"] = {
            fold: {"recipe": recipe, spec.method: config} for fold, config, recipe in found
        }
        file.pop("folds", None)
    else:
        ((_, config, recipe),) = found
        sections[spec.method] = config
        sections["recipe"] = sections.get("recipe", {}) | recipe
    return file | _sections(sections, spec.method)


def _best_settings(result: SearchResult) -> tuple[dict[str, Any], dict[str, Any]]:
    assert result.best is not None
    config, recipe = result.settings(result.best)
    return config, recipe if result.search.space.is_trained else {}


def _sections(settings: Mapping[str, dict[str, Any]], method: str) -> dict[str, Any]:
    """Lay settings out as a configuration file has them."""
    shared = {key: settings[key] for key in ("recipe", "encoder") if settings.get(key)}
    others = {k: v for k, v in settings.items() if k not in (*shared, "recipe", "encoder", method)}
    own = {"methods": {method: settings[method]}} if settings.get(method) else {}
    return shared | own | ({"datasets": others} if others else {})
