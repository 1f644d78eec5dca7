"""The chapter of a report on searches: what was searched, what was found, what it does not tell.

Everything is read from the study's own files: the records and journals of `bench tune`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from bench.errors import Damaged
from bench.pages.chapter import Chapter
from bench.reporting.summary import Finding
from bench.scores.results import RunResult, load_results
from bench.scores.rows import TUNED_RECIPE
from bench.search.ledger import JOURNAL, is_killed
from bench.store import StudyFolder
from bench.tuning.importance import (
    EVALUATORS,
    EvaluatorName,
    gain_drawings,
    importances,
    mean_gain,
    view_drawings,
    view_tables,
)
from bench.tuning.report import (
    TUNED,
    by_configuration,
    history_drawings,
    scope_sentence,
    search_tables,
)
from bench.tuning.results import (
    SearchResult,
    by_row,
    by_table,
    search_records,
    stored_search,
    value_of,
)
from bench.wording import counted, listed

EVALUATOR: EvaluatorName = "ped-anova"


def search_chapter(folder: StudyFolder) -> Chapter | None:
    """Describe the searches of a study, and say which are not to be seen; None if it has none.

    Raises:
        BadData: a record is damaged; names it.
    """
    records = search_records(folder)
    if not records:
        return None
    results, unseen = [], []
    for record in records:
        if record["storage"] != JOURNAL:
            unseen.append(_finding_of(record, _elsewhere(record)))
            continue
        try:
            results.append(SearchResult.of(stored_search(folder, record, None)))
        except Damaged as error:
            unseen.append(_finding_of(record, f"Not shown, as {error}."))
    findings = [*(_finding(rows) for rows in by_table(results).values()), *unseen]
    views = {each.label: tuple(view_drawings(each, EVALUATOR)) for each in results}
    return Chapter(
        "searches",
        "Searches",
        _lead(results, len(records)),
        tuple(findings),
        (*search_tables(results), *view_tables(results, EVALUATOR)),
        (*history_drawings(results), *gain_drawings(results)),
        tuple((f"{label}: what its settings do", each) for label, each in views.items() if each),
        tuple(line for each in results for line in _reasons(each)),
        tuple(run for each in results for run in _runs(each)),
    )


def _runs(result: SearchResult) -> Iterator[RunResult]:
    """Yield the runs of the trials, each once, with what was searched of the recipe named so."""
    search = result.search
    trials = (trial.user_attrs.get("runs", []) for trial in result.trials)
    searched = [key for key in TUNED_RECIPE if key not in search.fixed_recipe]
    for run in load_results(search.study, list(dict.fromkeys(chain.from_iterable(trials)))):
        kept = {key: v for key, v in run.spec["recipe"].items() if key not in searched}
        recipe = {**kept, "searched": " and ".join(searched)}
        yield replace(run, spec={**run.spec, "recipe": recipe})


def _lead(results: Sequence[SearchResult], n_searches: int) -> str:
    n_trials = sum(len(each.trials) for each in results)
    searches = counted(n_searches, "search")
    return f"{searches} with {counted(n_trials, 'trial')}, without test scores"


# --- in words ---------------------------------------------------------------------------------


def _finding(results: Sequence[SearchResult]) -> Finding:
    """Say what the searches of one dataset and protocol are, found, and leave open."""
    search = results[0].search
    title = f"{search.dataset}, {search.protocol}: search of settings"
    return Finding(title, tuple(_sentences(results)))


def _sentences(results: Sequence[SearchResult]) -> Iterator[str]:
    rows = by_row(results)
    yield f"Searched: {'; '.join(_searched(row, each) for row, each in rows.items())}."
    for scope in dict.fromkeys(each.search.scope for each in results):
        yield scope_sentence(scope)
    yield from _found(rows)
    yield from _weighed(rows)
    files = listed(f"{TUNED}/{name}.yaml" for name in by_configuration(results))
    yield (
        "Not told here: any test score, since no trial reads a test case; and the best of many "
        "trials is above one draw by chance alone. What is left of a gain, fresh runs tell: "
        f"`bench run --config` with {files} of this study."
    )


def _searched(row: str, results: Sequence[SearchResult]) -> str:
    """Say what was varied of a method, in how many trials, and how they ended."""
    counts: dict[str, int] = {"complete": 0, "pruned": 0, "failed": 0, "of dead processes": 0}
    for each in results:
        counts["complete"] += each.counts["COMPLETE"]
        counts["pruned"] += each.counts["PRUNED"]
        counts["failed"] += each.counts["FAIL"]
        counts["of dead processes"] += each.n_killed
    ended = ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none ended"
    names = sorted({name for each in results for t in each.trials for name in t.params})
    varied = f" over {listed(names)}" if names else ""
    n_trials = counted(sum(len(each.trials) for each in results), "trial")
    folds = f" in {counted(len(results), 'fold')}" if len(results) > 1 else ""
    return f"{row}{varied}, {n_trials}{folds} ({ended})"


def _found(rows: Mapping[str, Sequence[SearchResult]]) -> Iterator[str]:
    """Say how far each default is from its best, the farthest first."""
    known = [row for row in rows if mean_gain(rows[row]) > -np.inf]
    known.sort(key=lambda row: -mean_gain(rows[row]))
    said = "; ".join(_gain(row, rows[row]) for row in known)
    if said:
        is_percent = min(each.factor for results in rows.values() for each in results) > 1
        yield f"Found, on validation{' (in percent)' if is_percent else ''}: {said}."
    for row in rows:
        if row not in known:
            yield f"{row}: no gain is known, as its default or every trial has no value."


def _gain(row: str, results: Sequence[SearchResult]) -> str:
    whole = [each for each in results if each.gain is not None]
    factor = min(each.factor for each in whole)
    default = np.mean([factor * value_of(each.default) for each in whole if each.default])
    best = np.mean([factor * value_of(each.best) for each in whole if each.best])
    digits = 2 if factor > 1 else 4
    mean = f", means of {len(whole)} searches" if len(whole) > 1 else ""
    return (
        f"{row} has {default:.{digits}f} with its default and {best:.{digits}f} at best "
        f"({best - default:+.{digits}f}{mean})"
    )


def _weighed(rows: Mapping[str, Sequence[SearchResult]]) -> Iterator[str]:
    """Say which setting matters most to each method, or why nobody knows."""
    most, without = [], []
    for row, results in rows.items():
        found = [importances(each, EVALUATOR) for each in results]
        shares = [each for each in found if not isinstance(each, str)]
        without += [] if shares else [f"{row} ({found[0]})"]
        if shares:
            names = dict.fromkeys(name for each in shares for name in each)
            means = {n: float(np.mean([each.get(n, 0.0) for each in shares])) for n in names}
            name = max(means, key=means.__getitem__)
            most.append(f"{name} for {row} ({100 * means[name]:.0f} %)")
    if most:
        yield f"What matters most, by {EVALUATORS[EVALUATOR]}: {listed(most)}."
    if without:
        yield f"No importance is known of {listed(without)}."


def _finding_of(record: Mapping[str, Any], sentence: str) -> Finding:
    """Say of a search that is not shown why that is so."""
    fold = "" if record["fold"] is None else f", fold {record['fold']}"
    title = f"{record['dataset']}, {record['protocol']}: search of {record['row']}{fold}"
    return Finding(title, (sentence,))


def _elsewhere(record: Mapping[str, Any]) -> str:
    """Say of a search in a database where its trials are."""
    return (
        f"Its trials are in {record['storage']}, outside of this study's files, and not shown "
        "here; `bench sensitivity --study NAME --storage ADDRESS` shows them."
    )


def _reasons(result: SearchResult) -> Iterator[tuple[str, str]]:
    """List the trials without a value by state and reason, with those of dead processes."""
    numbers: dict[str, list[int]] = {}
    for trial in result.search.ledger.trials():
        if trial.state.name in ("PRUNED", "FAIL"):
            state = "pruned" if trial.state.name == "PRUNED" else "failed"
            state = "of a dead process" if is_killed(trial) else state
            reason = str(trial.user_attrs.get("reason", "no reason is noted"))
            said = reason.partition("\n")[0]
            said = said if said.startswith(state) else f"{state}: {said}"
            numbers.setdefault(said, []).append(trial.number)
    for said, found in numbers.items():
        word = "trial" if len(found) == 1 else "trials"
        yield f"{result.label}, {word} {listed(map(str, found))}", said
