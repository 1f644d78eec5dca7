"""Missing patterns: rates, nesting, mechanisms, and that no one sees what was taken away."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import Attribute, Availability, Dataset, Modality, Split
from bench.errors import BadRequest, UnknownName
from bench.patterns import Pattern, draw, test_pattern, training_pattern
from bench.protocol import (
    AS_THEY_ARE,
    Gaps,
    Setting,
    all_subset_conditions,
    condition_of,
    gaps_condition,
    gaps_of,
)

N_CASES = 120
ATTRIBUTES = ("age", "size", "sex", "site")


def make_dataset(n_modalities: int = 3, *, n_cases: int = N_CASES, gaps: bool = False) -> Dataset:
    """Return tables of four attributes each, with a site column; natural gaps on request."""
    generator = np.random.default_rng(7)
    modalities, content = [], {}
    for m in range(n_modalities):
        kinds = ("numeric", "numeric", "categorical", "categorical")
        names = zip(ATTRIBUTES, kinds, strict=True)
        modalities.append(
            Modality(f"table{m}", "table", tuple(Attribute(name, kind) for name, kind in names))  # type: ignore[arg-type]
        )
        frame = pd.DataFrame(
            {
                "age": generator.normal(size=n_cases),
                "size": generator.normal(size=n_cases),
                "sex": generator.choice(["f", "m"], n_cases).astype(object),
                "site": generator.choice(["arm", "leg", "back"], n_cases).astype(object),
            }
        )
        if gaps:
            for name in frame.columns:
                frame.loc[generator.random(n_cases) < 0.2, name] = None
            frame.loc[generator.random(n_cases) < 0.1 * m, :] = None
        content[f"table{m}"] = frame
    content["table0"].loc[:, "age"] = np.arange(n_cases, dtype=float)
    return Dataset(
        name="toy",
        modalities=tuple(modalities),
        classes=("no", "yes"),
        cases=np.array([f"c{i}" for i in range(n_cases)]),
        label=np.arange(n_cases) % 2,
        group=np.array([f"g{i // 2}" for i in range(n_cases)]),
        content=content,
        available=np.ones((n_cases, n_modalities), bool),
        fingerprint="toy",
        columns={"hospital": np.array(["a", "b", "c"])[np.arange(n_cases) % 3]},
    )


def removed(dataset: Dataset, pattern: Pattern, level: str) -> np.ndarray:
    """Return (N, C) bool: the cells that are naturally there and gone."""
    natural, left = dataset.natural(), pattern.availability
    if level == "modality":
        return natural.modality & ~left.modality
    return np.concatenate(
        [natural.attributes[m] & ~left.attributes[m] for m in sorted(natural.attributes)], axis=1
    )


def present(dataset: Dataset, level: str) -> np.ndarray:
    natural = dataset.natural()
    if level == "modality":
        return natural.modality
    return np.concatenate([natural.attributes[m] for m in sorted(natural.attributes)], axis=1)


def draw_all(dataset: Dataset, gaps: Gaps, repeat: tuple[int, int] = (0, 0)) -> Pattern:
    rows = np.arange(dataset.n_cases)
    return draw(dataset, gaps, dataset.natural(), rows, "train", repeat)


@pytest.mark.parametrize("level", ["modality", "attribute"])
@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "natural gaps"])
@given(
    rate=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4, 0.5]),
    seed=st.integers(0, 50),
    n_modalities=st.integers(3, 5),
)
@settings(max_examples=25, deadline=None)
def test_exactly_the_rounded_share_of_each_column_goes(level, gaps, rate, seed, n_modalities):
    dataset = make_dataset(n_modalities, gaps=gaps)
    pattern = draw_all(dataset, Gaps(rate, level), (0, seed))
    gone = removed(dataset, pattern, level).sum(0)
    wanted = [round(rate * int(n)) for n in present(dataset, level).sum(0)]
    assert gone.tolist() == wanted
    had = dataset.natural().modality.any(1)
    assert pattern.availability.modality[had].any(1).all()


@pytest.mark.parametrize("level", ["modality", "attribute"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"independent": True},
        {"mechanism": "mar", "given": "age"},
        {"mechanism": "mnar-label"},
        {"mechanism": "block", "given": "hospital"},
    ],
    ids=str,
)
def test_what_is_gone_at_a_rate_is_gone_at_a_higher_one(level, how):
    dataset = make_dataset(gaps=True)
    before = np.zeros_like(present(dataset, level))
    for rate in (0.1, 0.2, 0.3, 0.4, 0.5):
        after = removed(dataset, draw_all(dataset, Gaps(rate, level, **how)), level)
        assert (before <= after).all()
        assert after.sum() > before.sum()
        before = after


def test_a_table_without_an_attribute_is_an_absent_modality():
    dataset = make_dataset()
    left = draw_all(dataset, Gaps(0.5, "attribute")).availability
    for m, seen in left.attributes.items():
        np.testing.assert_array_equal(left.modality[:, m], seen.any(1))
    assert not left.modality.all()


def test_a_draw_depends_on_data_level_mechanism_part_and_repeat_alone():
    dataset = make_dataset()
    rows, natural = np.arange(N_CASES), dataset.natural()
    first = draw(dataset, Gaps(0.3), natural, rows, "train", (1, 2)).availability.modality
    again = draw(dataset, Gaps(0.3), natural, rows, "train", (1, 2)).availability.modality
    np.testing.assert_array_equal(first, again)
    for part, repeat in (("test", (1, 2)), ("train", (0, 2)), ("train", (1, 3))):
        other = draw(dataset, Gaps(0.3), natural, rows, part, repeat).availability.modality
        assert (first != other).any()
    renamed = replace(dataset, name="another")
    other = draw(renamed, Gaps(0.3), natural, rows, "train", (1, 2)).availability.modality
    assert (first != other).any()


def test_two_modalities_at_half_leave_one_each_and_say_that_turns_were_passed_on():
    dataset = make_dataset(2)
    pattern = draw_all(dataset, Gaps(0.5))
    assert (pattern.availability.modality.sum(1) == 1).all()
    assert pattern.n_displaced > 0
    assert draw_all(dataset, Gaps(0.1)).n_displaced <= pattern.n_displaced
    assert pattern.realised == {"table0": 0.5, "table1": 0.5}


def test_independent_coins_come_near_the_rate_and_empty_no_case():
    dataset = make_dataset(3, n_cases=3000)
    pattern = draw_all(dataset, Gaps(0.4, independent=True))
    shares = removed(dataset, pattern, "modality").mean(0)
    # a case that would be emptied, .4 ** 3 of them, keeps one of its three: .4 - .064 / 3
    assert np.allclose(shares, 0.4 - 0.4**3 / 3, atol=0.03)
    assert pattern.availability.modality.any(1).all()


def test_unequal_rates_hold_per_modality():
    dataset = make_dataset()
    gaps = Gaps(0.4, "modality", "unequal", rates=(("table0", 0.2), ("table2", 0.4)))
    assert draw_all(dataset, gaps).realised == {"table0": 0.2, "table1": 0.0, "table2": 0.4}


def test_a_column_that_no_case_has_tells_no_rate_and_others_tell_it_unrounded():
    dataset = make_dataset(n_cases=114)
    table = dataset.content["table1"]
    assert isinstance(table, pd.DataFrame)
    table.loc[:, "size"] = np.nan
    found = draw_all(dataset, Gaps(0.6, "attribute")).realised
    assert "table1.size" not in found
    assert set(found.values()) == {68 / 114}


def test_missing_at_random_follows_the_given_column():
    dataset = make_dataset()
    gone = removed(dataset, draw_all(dataset, Gaps(0.3, mechanism="mar", given="age")), "modality")
    age = np.arange(N_CASES)
    assert all(age[gone[:, m]].mean() > age[~gone[:, m]].mean() + 15 for m in range(3))


def test_missing_not_at_random_follows_the_own_value_or_the_label():
    dataset = make_dataset()
    gaps = Gaps(0.3, "attribute", "mnar-value")
    gone = removed(dataset, draw_all(dataset, gaps), "attribute")
    size = dataset.table("table1")["size"].to_numpy()
    assert size[gone[:, 5]].mean() > size[~gone[:, 5]].mean() + 0.5
    gone = removed(dataset, draw_all(dataset, Gaps(0.3, mechanism="mnar-label")), "modality")
    assert dataset.label[gone.any(1)].mean() > 0.6
    assert "NOT at random" in gaps.words


def test_blocks_lose_a_modality_together():
    dataset = make_dataset()
    gaps = Gaps(1 / 3, mechanism="block", given="hospital")
    gone = removed(dataset, draw_all(dataset, gaps), "modality")
    per_hospital = np.stack([gone[i::3].mean(0) for i in range(3)])
    assert (np.sort(per_hospital, axis=0)[-1] > 0.9).all()  # one hospital bears each column's gaps
    cells = removed(dataset, draw_all(dataset, Gaps(0.25, "attribute", "block")), "attribute")
    table = cells[:, :4]
    assert (table.all(1) | ~table.any(1)).mean() > 0.95


@pytest.mark.parametrize(
    ("gaps", "error", "text"),
    [
        (Gaps(0.7), BadRequest, "at most 0.667"),
        (Gaps(0.3, mechanism="mar"), BadRequest, "needs the column"),
        (Gaps(0.3, mechanism="mar", given="agee"), UnknownName, "did you mean age"),
        (Gaps(0.3, mechanism="mnar-value"), BadRequest, "level attribute"),
        (Gaps(0.3, mechanism="unequal"), BadRequest, "relative rate"),
        (Gaps(0.3, mechanism="unequal", rates=(("tabel0", 0.1),)), UnknownName, "table0"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_gaps_that_cannot_be_made_are_refused(gaps, error, text):
    with pytest.raises(error, match=text):
        draw_all(make_dataset(), gaps)


def test_a_rate_that_natural_gaps_make_impossible_is_refused():
    dataset = make_dataset(2)
    natural = dataset.natural()
    modality = natural.modality.copy()
    modality[: N_CASES // 2, 1] = False
    attributes = {0: natural.attributes[0], 1: natural.attributes[1] & modality[:, [1]]}
    half = Availability(modality, attributes)
    with pytest.raises(BadRequest, match="cannot go without emptying cases"):
        draw(dataset, Gaps(0.5), half, np.arange(N_CASES), "train", (0, 0))


def test_training_gaps_leave_the_test_part_and_differ_between_parts():
    dataset = make_dataset()
    thirds = np.arange(N_CASES).reshape(3, -1)
    split = Split(*thirds)
    pattern = training_pattern(dataset, Setting(Gaps(0.3)), split, (0, 0))
    left = pattern.availability.modality
    assert left[split.test].all()
    for part in (split.train, split.valid):
        assert (~left[part]).sum(0).tolist() == [12, 12, 12]
    assert (left[split.train] != left[split.valid]).any()
    assert training_pattern(dataset, Setting(), split, (0, 0)).availability.modality.all()


def test_a_condition_with_gaps_scores_all_cases_and_a_subset_those_that_have_it():
    dataset = make_dataset(gaps=True)
    split = Split(np.arange(0), np.arange(0), np.arange(N_CASES))
    rows, pattern = test_pattern(dataset, gaps_condition(Gaps(0.2)), split, (0, 0))
    had = dataset.natural().modality.any(1)
    assert len(rows) == had.sum()
    assert pattern.availability.modality[rows].any(1).all()
    rows, pattern = test_pattern(dataset, AS_THEY_ARE, split, (0, 0))
    np.testing.assert_array_equal(
        pattern.availability.modality[rows], dataset.natural().modality[rows]
    )


def test_a_subset_of_every_case_scores_all_and_counts_those_that_have_nothing_of_it():
    dataset = make_dataset(gaps=True)
    split = Split(np.arange(0), np.arange(0), np.arange(N_CASES))
    has = dataset.natural().modality
    for condition in all_subset_conditions(dataset, every_case=True):
        again = condition_of(json.loads(json.dumps(asdict(condition))))
        assert again == condition
        rows, pattern = test_pattern(dataset, condition, split, (0, 0))
        assert rows.tolist() == list(range(N_CASES))
        assert condition.subset is not None
        kept = np.isin(np.arange(3), condition.subset)
        np.testing.assert_array_equal(pattern.availability.modality, has & kept)
        assert pattern.n_empty == (~(has & kept).any(1)).sum()
    assert (~has[:, 2]).any()


def test_gaps_survive_plain_json():
    gaps = Gaps(0.2, "attribute", "unequal", rates=(("table0.age", 0.1),))
    value = {**vars(gaps), "rates": [list(pair) for pair in gaps.rates]}
    assert gaps_of(value) == gaps
