"""Layouts: which trainings and conditions the columns of a protocol's table are."""

from __future__ import annotations

import json

import pytest

from bench.availability import subsets
from bench.layout import Layout, LayoutColumn, merged
from bench.protocol import Gaps, RatesConfig
from bench.request import Request
from bench.study.planning import plan
from bench.study.study import Study, limited

RATES = ("c-tr+m-te", "m-tr+c-te", "m-tr+m-te")


def planned(*protocols: str, **gaps: object) -> Study:
    asked = {"rates": (0.0, 0.3), **gaps}
    return plan(
        Request(methods=("concat",), protocols=protocols, folds=(0,), seeds=(0,), gaps=asked)
    )


def shown(layout: Layout) -> list[tuple[str, str, str, str]]:
    return [(each.block, each.header, each.setting, each.condition) for each in layout.columns]


def column(header: str, rate: float, **changes: object) -> LayoutColumn:
    values = {"setting": "complete", "selection": "as-trained", "condition": header, **changes}
    return LayoutColumn(**values, header=header, long_name=header, rate=rate)  # type: ignore[arg-type]


def layout(*columns: LayoutColumn, law: str = "attributes") -> Layout:
    return Layout("toy", "c-tr+m-te", "C-Tr+M-Te", "rates", columns, law=law)


def test_the_columns_of_a_rates_protocol_are_rates_where_it_varies_them() -> None:
    test, train, both = planned(*RATES, train_rate=0.5).layouts
    assert shown(test) == [
        ("", "0 %", "complete", "as-is"),
        ("", "30 %", "complete", "attribute-30"),
    ]
    assert shown(train) == [
        ("", "0 %", "complete", "as-is"),
        ("", "30 %", "attribute-30", "as-is"),
    ]
    assert shown(both) == [
        ("train 50 %", "0 %", "attribute-50", "as-is"),
        ("train 50 %", "30 %", "attribute-50", "attribute-30"),
    ]
    assert [each.rate for each in train.columns] == [0.0, 0.3]
    assert [each.kind for each in (test, train, both)] == ["rates"] * 3
    assert train.title == "wdbc, M-Tr+C-Te (attributes)"


def test_a_grid_has_a_block_of_columns_per_training_rate() -> None:
    study = plan(
        Request(
            methods=("concat",),
            protocols=("m-tr+m-te",),
            folds=(0,),
            seeds=(0,),
            settings={"m-tr+m-te": {"grid": True, "rates": (0.0, 0.2)}},
        )
    )
    blocks = [each.block for each in study.layouts[0].columns]
    assert blocks == ["train 0 %"] * 2 + ["train 20 %"] * 2


def test_a_training_that_protocols_share_is_in_the_layout_of_each() -> None:
    study = planned("all-subsets", "natural", *RATES)
    trained = {(cell.spec.setting["name"], cell.spec.selection) for cell in study.cells}
    assert set().union(*(each.trainings for each in study.layouts)) == trained
    by_protocol = {each.protocol: each for each in study.layouts}
    assert shown(by_protocol["natural"]) == [("", "as-is", "complete", "as-is")]
    assert by_protocol["natural"].kind == "single"
    every = by_protocol["all-subsets"]
    assert [each.subset for each in every.columns] == subsets(3)
    assert [each.header for each in every.columns][:4] == ["0", "1", "2", "01"]
    assert every.title == "wdbc, All subsets"


def test_subsets_of_every_case_are_a_table_of_their_own_with_the_same_headers() -> None:
    usual = planned("all-subsets", "c-tr+m-te").layouts[0]
    every = planned("all-subsets", "c-tr+m-te", every_case=True).layouts[0]
    assert len(merged([usual, every])) == 2
    assert every.title == "wdbc, All subsets (every case)"
    assert [each.header for each in every.columns] == [each.header for each in usual.columns]
    assert [each.subset for each in every.columns] == subsets(3)
    assert not {each.condition for each in every.columns} & {each.header for each in usual.columns}


def test_layouts_cross_a_process_border_and_a_limit() -> None:
    study = planned("all-subsets", "c-tr+m-te")
    again = Study.from_json(json.loads(json.dumps(study.to_json())))
    assert again.layouts == study.layouts
    assert limited(study, 1).layouts == study.layouts


def test_a_study_asked_for_further_rates_shows_one_table_with_all_of_them() -> None:
    first = layout(column("0 %", 0.0), column("50 %", 0.5))
    second = layout(column("0 %", 0.0), column("30 %", 0.3))
    (both,) = merged([first, second])
    assert [each.header for each in both.columns] == ["0 %", "30 %", "50 %"]


def test_rates_are_sorted_within_their_block() -> None:
    first = layout(column("30 %", 0.3, block="b"), column("30 %", 0.3, block="a"))
    (both,) = merged([first, layout(column("0 %", 0.0, block="a"))])
    assert [(each.block, each.header) for each in both.columns] == [
        ("b", "30 %"),
        ("a", "0 %"),
        ("a", "30 %"),
    ]


def test_other_laws_and_other_protocols_keep_their_own_table() -> None:
    first, second = layout(column("0 %", 0.0)), layout(column("0 %", 0.0), law="modalities")
    assert merged([first, second, first]) == [first, second]


@pytest.mark.parametrize(
    ("gaps", "title"),
    [
        (Gaps(0.3), "modalities"),
        (Gaps(0.3, "attribute", "mnar-label"), "attributes, NOT at random: by the label"),
        (Gaps(0.3, "modality", "mar", "age"), "modalities, at random given another column (age)"),
    ],
)
def test_titles_say_the_mechanism_unless_it_is_completely_at_random(gaps: Gaps, title: str) -> None:
    assert gaps.variant == title


def test_the_law_is_the_same_at_every_rate() -> None:
    config = RatesConfig(mechanism="unequal", unequal={"se": 0.5, "mean": 1.0})
    laws = {gaps.law for gaps in map(config.gaps, (0.1, 0.3)) if gaps}
    assert laws == {
        "attributes of the tables, completely at random, at a rate of its own per modality "
        "(relative to the rate: mean 1, se 0.5), exact counts per column"
    }
