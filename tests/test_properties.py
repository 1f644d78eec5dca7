"""What holds for any input: availability, identities, the states of a run, texts in tables."""

from __future__ import annotations

import csv
import io
import re
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bench.availability import random_subset, subset_name, subsets
from bench.seeds import seed_for
from bench.spec import RunSpec, canonical_json, digest
from bench.store import RunFolder, StudyFolder
from bench.tables import Cell, Column, Row, RowGroup, Table, to_csv, to_html, to_latex, to_markdown
from bench.tables.csv import FIELDS, FORMULA
from bench.tables.latex import ESCAPES
from tests.test_store import frame, spec

# --- availability -----------------------------------------------------------------------------

observed_rows = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any), min_size=1, max_size=9
    )
)


@given(rows=observed_rows, seed=st.integers(0, 2**31), law=st.sampled_from(
    ["none", "uniform", "size-uniform", "proper"]))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_dropout_only_removes_and_never_all(rows: list[list[bool]], seed: int, law: Any) -> None:
    observed = torch.tensor(rows)
    drawn = random_subset(observed, torch.Generator().manual_seed(seed), law)
    assert drawn.shape == observed.shape
    assert not (drawn & ~observed).any()
    assert drawn.any(1).all()
    again = random_subset(observed, torch.Generator().manual_seed(seed), law)
    assert torch.equal(drawn, again)


@given(n=st.integers(1, 12))
def test_every_subset_has_a_name_of_its_own(n: int) -> None:
    if n > 8:  # 12 modalities have 4,095 subsets: pairs tell enough of their names
        names = [subset_name((i, j)) for i in range(n) for j in range(i + 1, n)]
        assert len(set(names)) == len(names)
        return
    found = subsets(n)
    assert len(found) == 2**n - 1
    assert len({subset_name(subset) for subset in found}) == len(found)


# --- identities -------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)  # fmt: skip


@given(value=st.dictionaries(st.text(max_size=5), plain, max_size=5))
def test_an_identity_knows_no_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest(value) == digest(backwards)
    assert canonical_json(value) == canonical_json(backwards)


@given(a=plain, b=plain)
def test_other_values_have_other_identities(a: Any, b: Any) -> None:
    assert (canonical_json(a) == canonical_json(b)) == (digest(a) == digest(b))


@given(changes=st.fixed_dictionaries({}, optional={
    "fold": st.integers(0, 9), "seed": st.integers(0, 9), "fingerprint": st.text(max_size=3),
    "pattern": st.text(max_size=3), "method_config": st.dictionaries(st.text(max_size=3), plain),
}))  # fmt: skip
def test_a_run_is_another_if_and_only_if_its_specification_is(changes: dict[str, Any]) -> None:
    one, other = spec(), spec(**changes)
    same = one.model_dump(mode="json") == other.model_dump(mode="json")
    assert (one.identity == other.identity) == same
    assert re.fullmatch(r"[0-9a-f]{12}", other.identity)
    assert RunSpec(**other.model_dump(mode="json")).identity == other.identity


@given(purposes=st.lists(st.text(max_size=6), min_size=2, max_size=6, unique=True))
def test_seeds_of_other_purposes_differ_and_fit_a_generator(purposes: list[str]) -> None:
    seeds = [seed_for(purpose.replace("\x1f", ""), i) for i, purpose in enumerate(purposes)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- the states of a run ----------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """One run folder: whatever happens to it, in whatever order, it tells the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.run = StudyFolder(self.root, "main").create().run(spec())
        self.state = "pending"
        self.n_rows = 0
        self.has_predictions = False
        self.n_checkpoints = 0

    @property
    def at_work(self) -> bool:
        return self.state == "running"

    @precondition(lambda self: self.state not in ("running", "done"))
    @rule()
    def begin(self) -> None:
        self.run.begin(spec(), {})
        self.state, self.n_rows, self.has_predictions = "running", 0, False

    @precondition(lambda self: self.state == "done")
    @rule()
    def begin_when_done(self) -> None:
        with pytest.raises(ValueError, match="a finished run never changes"):
            self.run.begin(spec(), {})

    @precondition(lambda self: self.at_work)
    @rule()
    def log(self) -> None:
        self.run.append_history({"epoch": self.n_rows})
        self.n_rows += 1

    @precondition(lambda self: self.at_work)
    @rule()
    def predict(self) -> None:
        self.run.write_predictions(frame("0", "01"))
        self.has_predictions = True

    @precondition(lambda self: self.at_work)
    @rule()
    def save(self) -> None:
        self.run.write_json("resume.json", {"resumed": [1]})
        self.n_checkpoints = 1

    @precondition(lambda self: self.at_work)
    @rule(end=st.sampled_from(["finish", "fail", "skip"]))
    def end(self, end: str) -> None:
        if end == "finish":
            self.run.finish(conditions=["0", "01"])
        elif end == "fail":
            self.run.fail("too bad", "")
        else:
            self.run.skip("cannot")
        self.state = {"finish": "done", "fail": "failed", "skip": "skipped"}[end]

    @precondition(lambda self: self.at_work)
    @rule()
    def release(self) -> None:
        self.run.release()
        self.state = "pending"

    @precondition(lambda self: self.at_work)
    @rule()
    def die(self) -> None:
        mark = self.run.read_json("running.json")
        self.run.release()  # ends what beats for it in this process
        self.run.write_json("running.json", mark | {"pid": 2**22 + 1, "born": 1})
        self.state = "pending"

    @precondition(lambda self: self.state == "done" and self.has_predictions)
    @rule()
    def ask_for_more(self) -> None:
        self.run.add_predictions(frame("0", "1"), {"1": "one"})
        assert set(self.run.predictions()["condition"]) == {"0", "01", "1"}

    @invariant()
    def tells_the_truth(self) -> None:
        seen = RunFolder(self.run.path)  # as another process sees it
        assert seen.state == self.state
        assert [row["epoch"] for row in seen.history()] == list(range(self.n_rows))
        assert seen.path_of("predictions.parquet").exists() == self.has_predictions
        assert seen.path_of("resume.json").exists() == bool(self.n_checkpoints)
        assert not list(self.run.path.glob(".*"))

    def teardown(self) -> None:
        self.run.release()
        shutil.rmtree(self.root)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


# --- texts in tables --------------------------------------------------------------------------

texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&\"'|*_`\\${}#%~^=+-@\t\n"),
    max_size=25,
)


def table_of(*words: str) -> Table:
    """Put texts wherever a table can hold one."""
    title, header, group, row, cell, note = words
    columns = (Column("0", header, "AUC", header, unit="%", n=3),)
    rows = (Row(row, (Cell(text=cell),), marks=("a",)), Row(row, (Cell(80.0, note=cell),)))
    return Table(title, columns, (RowGroup(group, rows),), (note,), {"a": note})


six_texts = st.tuples(*[texts] * 6)


@given(words=six_texts)
@settings(max_examples=50, deadline=None)
def test_csv_gives_any_text_back_on_one_line_and_never_as_a_formula(words: Any) -> None:
    title, header, group, row, cell, _ = words
    lines = list(csv.DictReader(io.StringIO(to_csv(table_of(*words)))))
    assert [tuple(line) for line in lines] == [FIELDS] * 2
    wanted = {"table": title, "group": group, "row": row, "condition_name": header, "text": cell}
    for line in lines:
        for name, text in wanted.items():
            plain_text = " ".join(text.split())
            assert line[name].removeprefix("'") == plain_text.removeprefix("'")
            assert len(line[name]) < 2 or line[name][0] not in FORMULA


class Tags(HTMLParser):
    """Collect what a browser would take for tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


def tags(text: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


@given(words=six_texts)
@example(words=("", " ", " ", "", "\r", ""))
@settings(max_examples=50, deadline=None)
def test_html_has_the_same_tags_whatever_the_texts(words: Any) -> None:
    harmless = ["x" if word.split() else "" for word in words]
    assert tags(to_html(table_of(*words))) == tags(to_html(table_of(*harmless)))


def commands(text: str) -> list[str]:
    """List the commands and environments of LaTeX text, without what stands for a character."""
    for escape in sorted(ESCAPES.values(), key=len, reverse=True):
        text = text.replace(escape, "")
    return re.findall(r"\\[a-zA-Z]+|\\.|[&$#%_^~]", text)


@given(words=six_texts)
@example(words=("", " ", " ", "", "\r", ""))
@settings(max_examples=50, deadline=None)
def test_latex_has_the_same_commands_whatever_the_texts(words: Any) -> None:
    harmless = ["x" if word.split() else "" for word in words]
    assert commands(to_latex(table_of(*words))) == commands(to_latex(table_of(*harmless)))


@given(words=six_texts)
@settings(max_examples=50, deadline=None)
def test_markdown_tables_stay_rectangles_whatever_the_texts(words: Any) -> None:
    for block in to_markdown(table_of(*words)).split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1
