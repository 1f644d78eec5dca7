"""Every benchmark runs at a small size and gives finite ratios; no time is asserted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    augmentation,
    frozen,
    imports,
    methods,
    processes,
    reencoding,
    startup,
    step,
    stored,
    subsets,
    trial,
)
from benchmarks.__main__ import BENCHMARKS, OPT_IN, main
from benchmarks.arena import Arena, Shape, methods_for
from benchmarks.interpreters import python
from benchmarks.loops import Loops, Marks, bare_pictures, ready
from benchmarks.results import Goal, Result, page
from benchmarks.strategies import once, present_again, zeros_again
from benchmarks.turns import Turns, in_turns, in_words

Measure = Callable[[], Iterator[Result]]

# A small picture encoder stands for Swin-T.
SMALL: dict[str, Any] = {"n_turns": 1, "n_cases": 1, "side": 32, "image": "resnet10t"}
IN_THIS_PROCESS: dict[str, Measure] = {
    "step": partial(step.measure, n_turns=1, n_cases=18, n_pictured=6, side=32, enough=0),
    "frozen": partial(frozen.measure, n_cases=3, side=32),
    "methods": partial(
        methods.measure, n_turns=1, n_cases=18, n_pictured=2, names=["concat"], enough=0
    ),
    "augmentation": partial(
        augmentation.measure, n_turns=1, n_cases=3, width=24, height=16, side=16
    ),
    "subsets": partial(subsets.measure, **SMALL),
    "reencoding": partial(reencoding.measure, **SMALL),
}
WHOLE_PROCESSES: dict[str, Measure] = {
    "startup": partial(startup.measure, n_turns=1),
    "stored": partial(stored.measure, n_turns=1, n_seeds=1),
    "imports": partial(imports.measure, n_runs=1, workers=(1,)),
    "processes": partial(processes.measure, n_turns=1, n_runs=2, epochs=1),
    "trial": partial(trial.measure, n_turns=1, epochs=1),
}


def check(results: list[Result], *, lowest: float) -> None:
    """Hold results to what can be said without a clock: counts are as promised."""
    assert results
    assert all(each.met for each in results if each.goal.relation == "=")
    for result in results:
        assert math.isfinite(result.value)
        assert result.value >= lowest
        assert result.n == 1


@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_a_benchmark_of_this_process_gives_finite_ratios(name: str) -> None:
    results = list(IN_THIS_PROCESS[name]())
    check(results, lowest=0 if name == "frozen" else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_PROCESSES)
def test_a_benchmark_of_whole_processes_gives_finite_ratios(name: str) -> None:
    check(list(WHOLE_PROCESSES[name]()), lowest=-1 if name == "trial" else 0)


def test_every_benchmark_is_tested_here() -> None:
    assert sorted([*IN_THIS_PROCESS, *WHOLE_PROCESSES]) == sorted(BENCHMARKS)
    assert set(OPT_IN) <= set(BENCHMARKS)


def test_every_way_to_predict_the_subsets_gives_the_same_probabilities() -> None:
    arena = Arena.of(Shape(3, n_pictures=2, n_tables=1), d_model=16)
    model, inputs = arena.builder("cmml")(None).eval(), arena.inputs(np.arange(3))
    ours = once(model, inputs)
    assert len(ours) == 7
    for others in (present_again(model, inputs), zeros_again(model, inputs)):
        np.testing.assert_allclose(others, ours, atol=1e-5)


def test_the_plain_loop_makes_the_same_tokens_in_each_way() -> None:
    arena = Arena.of(Shape(4, n_pictures=2))
    model, inputs = arena.builder("concat")(None).eval(), arena.inputs(np.arange(4))
    index = inputs.observed[:, 0].nonzero().flatten()
    for bare, own in zip(bare_pictures(model, inputs)(index), model.encode(inputs), strict=True):
        np.testing.assert_allclose(bare.values.detach(), own.values.detach(), atol=1e-5)
        assert bare.valid.equal(own.valid)
    for before, own in zip(ready(model, inputs)(index), model.encode(inputs), strict=True):
        np.testing.assert_allclose(before.values, own.values.detach(), atol=1e-5)


def test_the_plain_loop_goes_through_the_stages_of_a_method() -> None:
    arena = Arena.of(Shape(18, n_vectors=2, n_tables=1), d_model=16)
    for name in ("concat-specialist", "simmlm"):
        assert Loops(arena, name).plain() > 0


def test_an_epoch_is_the_median_of_those_after_the_first() -> None:
    marks = Marks({"one": [5.0, 6.0, 9.0, 11.0], "two": [20.0, 20.5]})
    assert marks.seconds == 2.0 + 0.5


def test_every_deep_method_can_be_measured() -> None:
    names = methods_for(Arena.of(Shape(4, n_vectors=2, n_tables=1)).dataset)
    assert {"cmml", "concat", "simmlm", "fusionm4net"} <= set(names)
    assert "logistic-specialist" not in names


def test_turns_alternate_after_one_that_does_not_count() -> None:
    said: list[str] = []

    def of(name: str, values: Iterator[float]) -> float:
        said.append(name)
        return next(values)

    first, second = iter([9.0, 1.0, 4.0, 3.0]), iter([9.0, 2.0, 2.0, 2.0])
    turns = in_turns(lambda: of("a", first), lambda: of("b", second), 3)
    assert said == ["a", "b"] * 4
    assert turns == Turns((1.0, 4.0, 3.0), (2.0, 2.0, 2.0))
    assert turns.ratio == 1.5
    assert turns.times == "3 s / 2 s"
    assert in_words(0.0571) == "57.1 ms"


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("P8", "<=", 3), 3.0, True),
        (Goal("P8", "<=", 3), 3.1, False),
        (Goal("P6", ">=", 1.8), 1.8, True),
        (Goal("P6", ">=", 1.8), 1.7, False),
        (Goal("P9", "=", 2), 2.0, True),
        (Goal("P9", "=", 2), 3.0, False),
        (Goal("P8", "<=", 3), math.nan, False),
    ],
)
def test_a_goal_is_met_or_not(goal: Goal, value: float, met: bool) -> None:
    assert goal.is_met_by(value) is met


def test_a_page_says_on_what_and_by_which_command() -> None:
    lines = page([Result(Goal("P8", "<=", 3), "a / b", 1.25, 7, "5 ms / 4 ms")], "command")
    machine, _, command, _, head, rule, line = lines.splitlines()
    assert "cores" in machine
    assert "torch " in machine
    assert command == "`command`"
    assert [cell.strip() for cell in head.split("|")[1:-1]][:3] == ["id", "what", "ratio"]
    assert set(rule) == set("|- ")
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["P8", "a / b", "1.25", "<= 3", "yes", "5 ms / 4 ms", "7"]


def test_a_table_is_printed_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subsets, "measure", partial(subsets.measure, **SMALL | {"n_turns": 2}))
    kept = tmp_path / "results" / "small.md"
    assert main(["subsets", "--turns", "1", "--out", str(kept)]) in (0, 1)
    printed = capsys.readouterr().out
    assert kept.read_text() == printed
    assert f"`python -m benchmarks subsets --turns 1 --out {kept}`" in printed
    assert printed.count("| P3 |") == 2


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["no-such-benchmark"])
    assert exit_.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_a_failing_interpreter_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="nothing_of_this_name"):
        python("-c", "import nothing_of_this_name")
