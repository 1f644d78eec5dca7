"""Sentences that captions are made of, written from the runs themselves.

A caption says what was measured, on what, how often, and what each row was given, so that a table
can be read without its study. What differs between rows is said per row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.scores.metrics import metric_named
from bench.scores.results import Repeat
from bench.scores.rows import RowRuns
from bench.scores.scoring import constant_places
from bench.spec import TEXT_MODELS, Augmentation
from bench.wording import counted, listed

if TYPE_CHECKING:
    from bench.layout import LayoutColumn
    from bench.scores.results import RunResult

SELECTION = {
    "all-subsets": "mean validation AUC over the non-empty subsets of what a case has",
    "as-trained": "validation AUC with the gaps of training",
    "complete": "validation AUC on all that a case has",
}
TUNING = {
    "fold": "in each fold, inside its training and validation part",
    "split": "on the validation part",
    "shared": "TUNED ON CASES THAT THIS TABLE TESTS, by one search over all folds: its scores are "
    "too good",
}
ROUNDING = 5e-3  # of the shares of stages, a third of something among them
REASON_LENGTH = 200  # characters of an error that a footnote repeats
LEARNED_TOKENS = "a learned token per attribute"
NOT_ALTERED = "as they are"


def repeat_name(repeat: Repeat) -> str:
    """Name a repeat in words: `fold 0, seed 3`."""
    return f"fold {repeat[0]}, seed {repeat[1]}"


def per_row(rows: Sequence[RowRuns], say: Callable[[RunResult], str]) -> str:
    """Say a property of the runs once if all rows share it, else with the rows it holds for."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for text in dict.fromkeys(say(run) for run in row.runs):
            said.setdefault(text, []).append(row.label)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{text} ({', '.join(labels)})" for text, labels in said.items())


def metrics_sentence(metrics: Sequence[str], n_classes: int) -> str:
    """Say what the numbers are, for K classes; 0 if no run says how many."""
    units = {metric_named(name).unit for name in metrics}
    names = []
    for name in metrics:
        metric = metric_named(name)
        long_name = metric.long_name
        if name == "AUC" and n_classes:
            several = f"macro one-versus-rest over {n_classes} classes"
            long_name += f", {'of the second class' if n_classes == 2 else several}"
        in_percent = ", in percent" if metric.unit == "%" and len(units) > 1 else ""
        names.append(f"{name}: {long_name}{in_percent}")
    return "; ".join(names) + ("; in percent." if units == {"%"} else ".")


def repeats_sentence(repeats: Sequence[Repeat]) -> str:
    """Say what a number and its spread are taken over."""
    folds, seeds = {fold for fold, _ in repeats}, {seed for _, seed in repeats}
    if len(repeats) == 1:
        return f"One repeat ({repeat_name(repeats[0])}): no spread."
    grid = f" ({counted(len(folds), 'fold')} x {counted(len(seeds), 'seed')})"
    is_grid = len(repeats) == len(folds) * len(seeds)
    return f"Mean ± sample SD over {len(repeats)} repeats{grid if is_grid else ''}."


def average_sentence(n_repeats: int, *, in_blocks: bool = False) -> str:
    """Say what the column AVG is."""
    spread = ", ± the sample SD of these over repeats" if n_repeats > 1 else ""
    where = "of its block" if in_blocks else ""
    columns = f"the columns {where}".strip()
    return f"AVG: mean over repeats of each repeat's mean over {columns}{spread}."


def expected_sentence(weights: Mapping[str, float], *, fits: bool) -> str:
    """Say what the column Expected is, or why a table has none."""
    if not fits:
        named = listed(weights)
        return f"No column Expected: the stated probabilities are of other columns ({named})."
    said = ", ".join(f"{name} = {weight:g}" for name, weight in weights.items())
    return f"Expected: the mean score if the conditions have these probabilities: {said}."


def worst_sentence(metrics: Sequence[str]) -> str:
    """Say what the column Worst is."""
    losses = [name for name in metrics if metric_named(name).better == "lower"]
    highest = f" (the highest {listed(losses)})" if losses else ""
    return f"Worst: the lowest mean of a row's columns{highest}, with the column in brackets."


def common_cases_sentence(n_cases: int) -> str:
    """Say that a table is restricted."""
    return f"Restricted to the {counted(n_cases, 'case')} that every column has."


def cases_sentence(cases: Collection[set[str]]) -> str:
    """Say how many cases were tested in the columns, and whether these share them."""
    every: set[str] = set().union(*cases)
    differ = any(each and each != every for each in cases)
    note = "; the columns have different cases, compare rows within a column" if differ else ""
    return f"{counted(len(every), 'test case')} in all, n per column{note}."


def columns_sentence(conditions: Mapping[str, str]) -> str:
    """Explain columns, header -> long name; those made of others explain themselves."""
    simple = {long for long in conditions.values() if "+" not in long}
    shown = {
        name: long
        for name, long in conditions.items()
        if name != long and not ("+" in long and set(long.split("+")) <= simple)
    }
    if not shown:
        return ""
    rest = "; the others combine these" if len(shown) < len(conditions) else ""
    return f"Columns: {', '.join(f'{name} = {long}' for name, long in shown.items())}{rest}."


def gaps_sentences(rows: Sequence[RowRuns], columns: Sequence[LayoutColumn]) -> list[str]:
    """Say how gaps went: realised rates, turns that passed to other cases, cases left empty."""
    runs = [run for row in rows for run in row.done]
    draws = {"in training": _training_draws(runs), "at test": _test_draws(runs, columns)}
    sentences = [_realised(where, found) for where, found in draws.items() if found]
    passed = {
        f"{where}, {rate}": sum(draw["n_displaced"] for draw in each.values())
        for where, found in draws.items()
        for rate, each in found.items()
    }
    n_passed = sum(passed.values())
    if n_passed:
        said = "; ".join(f"{n} {where}" for where, n in passed.items() if n)
        turns = counted(n_passed, "turn")
        sentences.append(
            f"The draw is not completely at random: {turns} fell on a case's last cell and passed "
            f"to another case ({said})."
        )
    return sentences + _empty_sentence(runs, columns)


def _empty_sentence(runs: Iterable[RunResult], columns: Sequence[LayoutColumn]) -> list[str]:
    """Say how many cases a column scores that have nothing in it, the most of any repeat."""
    header = {column.condition: column.header for column in columns}
    most: dict[str, int] = {}
    for run in runs:
        for condition, drawn in run.facts.get("condition_gaps", {}).items():
            if condition in header and drawn.get("n_empty"):
                name = header[condition]
                most[name] = max(most.get(name, 0), drawn["n_empty"])
    if not most:
        return []
    said = ", ".join(f"{n} in {name}" for name, n in most.items())
    return [
        "Every column scores all test cases; those that have nothing of it are given the class "
        f"shares of training, by every method alike (at most, in a repeat: {said})."
    ]


Draws = dict[str, dict[Hashable, Mapping[str, Any]]]  # rate -> what was drawn -> how it went


def _training_draws(runs: Iterable[RunResult]) -> Draws:
    """Collect the draws of training gaps; methods share them."""
    draws: Draws = {}
    for run in runs:
        gaps, drawn = run.spec["setting"].get("gaps"), run.facts.get("gaps")
        if gaps and drawn and drawn["realised"]:
            draws.setdefault(_percent(gaps["rate"]), {})[run.setting, run.repeat] = drawn
    return draws


def _test_draws(runs: Iterable[RunResult], columns: Sequence[LayoutColumn]) -> Draws:
    rates = {column.condition: _percent(column.rate) for column in columns if column.rate}
    draws: Draws = {}
    for run in runs:
        for condition, drawn in run.facts.get("condition_gaps", {}).items():
            if condition in rates and drawn["realised"]:
                draws.setdefault(rates[condition], {})[condition, run.repeat] = drawn
    return draws


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _realised(where: str, draws: Draws) -> str:
    said = []
    for rate, each in draws.items():
        shares = [100 * share for draw in each.values() for share in draw["realised"].values()]
        low, high = f"{min(shares):.1f}", f"{max(shares):.1f}"
        said.append(f"{low if low == high else f'{low} to {high}'} % at {rate}")
    return f"Realised {where}, range over columns and repeats: {', '.join(said)}."


def budget_sentence(rows: Sequence[RowRuns], preset: str) -> str:
    """Say what training was given."""

    def say(run: RunResult) -> str:
        recipe = run.spec["recipe"]
        sizes = f"d_model {recipe['d_model']}, {counted(recipe['epochs'], 'epoch')}"
        smaller = run.facts.get("smaller_batch")
        if smaller:
            return (
                f"{sizes}, batches of {smaller['batch_size']} where memory did not suffice for "
                f"{recipe['batch_size']}"
            )
        return f"{sizes}, batches of {recipe['batch_size']}"

    name = f" (preset {preset})" if preset else ""
    return f"Budget{name}: {'; '.join([per_row(rows, say), *_beyond_budget(rows)])}."


def _beyond_budget(rows: Sequence[RowRuns]) -> Iterator[str]:
    """Say which rows had more than the one budget: several models, or stages beyond its epochs."""
    for row in rows:
        n_models = max((run.facts.get("n_models") or 1 for run in row.done), default=1)
        share = max((run.facts.get("share_of_epochs") or 1 for run in row.done), default=1)
        if n_models > 1:
            yield f"{row.label} trains {n_models} models, each by itself"
        if share > 1 + ROUNDING:
            yield f"the stages of {row.label} take {share:.3g} times these epochs"


def tuning_sentence(rows: Sequence[RowRuns]) -> str:
    """Say which rows were tuned and on what; empty if none was."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for how in dict.fromkeys(run.spec.get("tuned", "") for run in row.runs):
            if how:
                said.setdefault(TUNING[how], []).append(row.label)
    each = "; ".join(f"{', '.join(labels)}: {text}" for text, labels in said.items())
    return f"Settings found by search. {each}. The other rows have their defaults." if each else ""


def selection_sentence(rows: Sequence[RowRuns]) -> str:
    """Say by which rule the epoch was chosen."""

    def say(run: RunResult) -> str:
        rule = run.spec["selection"]
        return f"{rule} = {SELECTION[rule]}" if rule in SELECTION else rule

    later = per_row(rows, lambda run: f"epoch {run.spec['recipe']['warmup_epochs'] + 1}")
    return (
        f"Model selection: {per_row(rows, say)}; of a stage's epochs from {later} on, of all where "
        "it has no more."
    )


def dropout_sentence(rows: Sequence[RowRuns]) -> str:
    """Say which modalities each row's training dropped by itself; empty if no run says it."""
    telling = [row for row in rows if any("dropout_law" in run.facts for run in row.done)]
    if not telling:
        return ""
    laws: dict[str, list[str]] = {}
    for row in telling:
        law = next(str(run.facts["dropout_law"]) for run in row.done if "dropout_law" in run.facts)
        laws.setdefault(law, []).append(row.label)
    said = "; ".join(f"{law} ({', '.join(labels)})" for law, labels in laws.items())
    return f"Modalities dropped in training: {said}."


def arena_sentence(rows: Sequence[RowRuns]) -> str:
    """Say class balance, encoder of pictures and precision."""
    balance = per_row(rows, lambda run: run.spec["recipe"]["balance"])
    encoder = per_row(rows, lambda run: _encoder(run.spec["encoder"]))
    read = per_row(rows, lambda run: _tables(run.spec["encoder"]))
    tables = "" if read == LEARNED_TOKENS else f"tables: {read}; "
    altered = per_row(rows, lambda run: _alterations(run.spec["encoder"]))
    training = "" if altered == NOT_ALTERED else f"training pictures and volumes: {altered}; "
    precision = per_row(rows, lambda run: run.spec["precision"])
    return (
        f"Class balance: {balance}; encoder of pictures, where there are any: {encoder}; "
        f"{training}{tables}precision: {precision}."
    )


def _tables(config: Mapping[str, object]) -> str:
    text = str(config.get("text", ""))
    if not text:
        return LEARNED_TOKENS
    model = config.get("text_model") or TEXT_MODELS[text]
    what = "[CLS] of each attribute" if text == "cls" else "all tokens"
    return f"sentences read by {model} (frozen, {what})"


def _alterations(config: Mapping[str, Any]) -> str:
    """Say how training cases are altered: the settings that are not their defaults."""
    given, defaults = config.get("augment"), Augmentation().model_dump()
    if given is None:
        return NOT_ALTERED
    changed = {key: value for key, value in given.items() if value != defaults.get(key)}
    said = ", ".join(f"{key} {str(value).lower()}" for key, value in changed.items())
    if config.get("frozen") and not given.get("variants"):
        said += " (pictures not: their encoder is frozen, and there are 0 variants)"
    return f"altered, {said}" if changed else NOT_ALTERED


def _encoder(config: Mapping[str, object]) -> str:
    if config.get("weights"):
        weights = "local weights"
    else:
        weights = "pretrained" if config.get("pretrained") else "random weights"
    return f"{config['image']} ({weights}{', frozen' if config.get('frozen') else ''})"


def constant_sentences(rows: Sequence[RowRuns], columns: Sequence[LayoutColumn]) -> list[str]:
    """Say of each row where it predicts one and the same for all cases of a column."""
    tested = {
        (run.setting, condition) for row in rows for run in row.done for condition in run.parts
    }
    names = {column.place: column.name for column in columns if column.place in tested}
    sentences = []
    for row in rows:
        constant = constant_places(row.done, list(names))
        if constant:
            everywhere = len(constant) == len(names)
            listing = listed(names[place] for place in constant)
            columns_named = f"column{'s' * (len(constant) > 1)} {listing}"
            where = "each column" if everywhere else columns_named
            sentences.append(
                f"{row.label} is exactly 50.00 AUC in {where}: its prediction is the same for all "
                "cases there."
            )
    return sentences


def outcome_sentence(row: RowRuns, repeats: Sequence[Repeat]) -> str:
    """Say what became of the repeats of a row that are not done; empty if all are."""
    runs = {run.repeat: run for run in row.runs}
    outcomes: dict[str, list[Repeat]] = {}
    for repeat in repeats:
        text = outcome(runs[repeat]) if repeat in runs else "not run"
        outcomes.setdefault(text, []).append(repeat)
    outcomes.pop("done", None)
    if not outcomes:
        return ""
    if not row.done and len(outcomes) == 1:
        return f"{next(iter(outcomes))}."
    said = "; ".join(
        f"{text} (" + "; ".join(map(repeat_name, which)) + ")" for text, which in outcomes.items()
    )
    return f"{len(row.done)} of {counted(len(repeats), 'repeat')} done; {said}."


def outcome(run: RunResult) -> str:
    """Say what became of a run: `done`, `failed: out of memory`, `n/a: takes two modalities`."""
    word = {"skipped": "n/a", "pending": "not finished"}.get(run.state, run.state)
    reason = run.reason if len(run.reason) <= REASON_LENGTH else f"{run.reason[:REASON_LENGTH]}..."
    return f"{word}: {reason}" if reason else word


def leaks_sentence(found: Sequence[str] | None) -> str:
    """Say what a scan of the data found to give the label away; None: it was not scanned."""
    if found is None:
        return ""
    return f"Leak scan: {'; '.join(found) or 'nothing found'}."
