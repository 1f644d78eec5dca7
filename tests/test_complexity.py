"""Costs against formulas by hand, the traps of torch's counter, and the tables made of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.blocks import Head, PooledProjection
from bench.cli import main
from bench.complexity.counting import Uncounted, count_macs, measure, median_seconds, peak_bytes
from bench.complexity.table4 import (
    DATA,
    METHODS,
    n_macs,
    n_parameters,
    replayed,
    table4_method,
    table4_task,
)
from bench.complexity.tables import Effort, complete_cases, complexity_tables
from bench.data import Task, Tokens
from bench.encoders import Encoders, Inputs, fit_preprocessor
from bench.engine.inference import Model
from bench.errors import BadData, BadRequest, UnknownName
from bench.method import Config, Method, Prediction, Progress
from bench.request import Request
from bench.spec import EncoderConfig
from bench.tables import Table, to_csv, to_latex, to_markdown
from tests.toy_cases import everything

CPU = torch.device("cpu")
B, T, D, F4 = 2, 5, 16, 32
ATTENTION = B * (4 * T * D * D + 2 * T * T * D)  # four projections, scores, mixing


class Pooled(Method):
    """The least that predicts."""

    name = "pooled"
    display_name = "Pooled"

    def __init__(self, task: Task, config: Config):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.head = Head(task.d_model, task.d_model, task.n_classes)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        return Prediction(self.head(self.pool(tokens, available).sum(1)))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        return {"ce": progress.cross_entropy(self(tokens, observed).logits, label)}


def macs_of(model: nn.Module, *inputs: Tensor) -> int:
    return count_macs(model.eval(), lambda: model(*inputs))


def test_a_linear_layer_costs_rows_times_both_widths() -> None:
    assert macs_of(nn.Linear(10, 20), torch.randn(5, 7, 10)) == 5 * 7 * 10 * 20


def test_a_convolution_costs_its_kernel_at_every_output() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    assert macs_of(layer, torch.randn(2, 4, 9, 9)) == 2 * 5 * 5 * 6 * (4 // 2) * 3 * 3


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_costs_its_projections_and_products(need_weights: bool) -> None:
    layer = nn.MultiheadAttention(D, 4, batch_first=True).eval()
    x = torch.randn(B, T, D)
    assert count_macs(layer, lambda: layer(x, x, x, need_weights=need_weights)) == ATTENTION


def test_masked_attention_costs_as_much() -> None:
    layer = nn.MultiheadAttention(D, 4, batch_first=True).eval()
    x, absent = torch.randn(B, T, D), torch.tensor([[False] * 4 + [True]] * B)
    assert count_macs(layer, lambda: layer(x, x, x, key_padding_mask=absent)) == ATTENTION


def test_a_transformer_layer_in_evaluation_is_not_counted_as_nothing() -> None:
    layer = nn.TransformerEncoderLayer(D, 4, F4, batch_first=True)
    assert macs_of(layer, torch.randn(B, T, D)) == ATTENTION + B * 2 * T * D * F4


def test_attention_without_a_layer_costs_its_two_products() -> None:
    q = torch.randn(B, 4, T, 4)
    cost = count_macs(nn.Identity(), lambda: F.scaled_dot_product_attention(q, q, q))
    assert cost == 2 * B * 4 * T * T * 4


@pytest.mark.parametrize("layer", [nn.LSTM(4, 3), nn.Bilinear(4, 4, 2)])
def test_a_costly_layer_that_counts_zero_is_an_error_with_its_name(layer: nn.Module) -> None:
    model = nn.ModuleDict({"hidden": layer})
    n_inputs = 2 if isinstance(layer, nn.Bilinear) else 1
    with pytest.raises(Uncounted, match=rf"hidden \({type(layer).__name__}\)"):
        count_macs(model, lambda: layer(*[torch.randn(2, 4)] * n_inputs))


def test_a_layer_called_without_rows_is_no_error() -> None:
    assert macs_of(nn.Linear(3, 4), torch.zeros(0, 3)) == 0


def test_counting_leaves_the_switches_as_they_were() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(True)
    macs_of(model, torch.zeros(1, 2))
    assert torch.backends.mha.get_fastpath_enabled()
    assert model.weight.requires_grad
    assert not model.bias.requires_grad


def test_views_of_parameters_may_enter_a_layer() -> None:
    seeds, layer = nn.Parameter(torch.randn(1, 3)), nn.Linear(3, 2)
    model = nn.ModuleDict({"layer": layer}).eval()
    model.register_parameter("seeds", seeds)
    assert count_macs(model, lambda: layer(seeds.expand(4, -1))) == 4 * 3 * 2


def test_peak_memory_counts_what_lives_at_one_time() -> None:
    layers = [nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1)]
    model, x = nn.Sequential(*layers), torch.randn(5, 10)
    held = [*model.parameters(), x]
    assert peak_bytes(lambda: model(x), CPU, held) == 2 * 5 * 20 * 4
    assert peak_bytes(lambda: layers[0](x), CPU, held) == 5 * 20 * 4
    assert peak_bytes(lambda: model(x[:2].view(2, 10)), CPU, held) == 2 * 2 * 20 * 4


def test_time_is_the_median_of_the_repeats_after_the_warm_up() -> None:
    calls: list[int] = []
    assert median_seconds(lambda: calls.append(1), CPU, 5) >= 0
    assert len(calls) == 7


def toy_model() -> tuple[Model, Inputs]:
    data = everything()
    preprocessor = fit_preprocessor(data, np.arange(6), data.natural())
    encoders = Encoders(data.modalities, preprocessor, EncoderConfig())
    model = Model(encoders, Pooled(encoders.task(data.classes, 8), Config()))
    return model, complete_cases(data, preprocessor, 2)


def test_an_absent_modality_is_not_encoded() -> None:
    model, inputs = toy_model()
    found = measure(model, inputs, timed=[(0, 1, 2)], n_repeats=1, n_models=2)
    assert found.costs[(1,)].encoder_macs == 0
    assert found.costs[(0, 1, 2)].encoder_macs == found.costs[(2,)].encoder_macs > 0
    assert found.costs[(0, 1, 2)].macs == max(cost.macs for cost in found.costs.values())
    assert [subset for subset, cost in found.costs.items() if cost.seconds] == [(0, 1, 2)]
    assert found.n_parameters == 2 * sum(p.numel() for p in model.parameters())


def test_a_complete_case_is_made_of_several_when_nobody_has_everything() -> None:
    gaps = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
    data = replace(everything(), available=gaps)
    preprocessor = fit_preprocessor(data, np.arange(6), data.natural())
    inputs = complete_cases(data, preprocessor, 3)
    expected = preprocessor.inputs(data, np.array([4, 2]), data.natural())
    assert inputs.observed.tolist() == [[True] * 3] * 3
    for m, field, place in ((0, "codes", 0), (2, "pictures", 1)):
        ours, theirs = (getattr(each.content[m], field) for each in (inputs, expected))
        assert torch.equal(ours[0], theirs[place])


def test_a_modality_that_nobody_has_is_refused() -> None:
    data = everything()
    preprocessor = fit_preprocessor(data, np.arange(6), data.natural())
    nobody = replace(data, available=data.available & np.array([True, False, True]))
    with pytest.raises(BadData, match="no case has the modality 'genes'"):
        complete_cases(nobody, preprocessor, 1)


def cell_of(table: Table, row: str, block: str, key: str) -> float | None:
    (line,) = [each for each in table.rows if each.label == row]
    (place,) = [i for i, c in enumerate(table.columns) if (c.group, c.key) == (block, key)]
    return line.cells[place].value


def small(*methods: str, **settings: dict[str, object]) -> Request:
    return Request(methods=methods, settings=settings)


def test_table_has_the_numbers_of_concat_by_hand() -> None:
    (table,) = complexity_tables(small("concat:dropout"), Effort(n_repeats=1))
    tokens, head = 3 * 10 * 32 * 64, 3 * 64 * 64 + 64 * 2
    assert cell_of(table, "concat:dropout", "MACs", "complete") == (tokens + head) / 1e6
    assert cell_of(table, "concat:dropout", "FLOPs", "complete") == 2 * (tokens + head) / 1e6
    n_method = 3 * (32 * 64 + 64) + (3 * 64 * 64 + 64) + (64 * 2 + 2)
    assert cell_of(table, "concat:dropout", "Parameters", "method") == n_method / 1e6
    assert {"complete", "method", "least", "most"} == {
        column.key for column in table.columns if column.group == "MACs"
    }


def test_settings_and_presets_count_as_in_a_run() -> None:
    narrow = small("concat:dropout", "shaspec:table4", recipe={"d_model": 32})
    (table,) = complexity_tables(narrow, Effort(n_repeats=1))
    macs = 3 * 10 * 32 * 32 + 3 * 32 * 32 + 32 * 2
    assert cell_of(table, "concat:dropout", "MACs", "complete") == macs / 1e6
    assert "width 32" in table.caption[0]


def test_subsets_get_a_column_each_when_asked() -> None:
    (table,) = complexity_tables(small("unimodal"), Effort(n_repeats=1, per_subset=True))
    times = [column for column in table.columns if column.group == "Time"]
    assert [column.key for column in times] == ["0", "1", "2", "01", "02", "12", "012"]
    assert times[3].long_header == "mean+se"
    assert all(isinstance(cell.value, float) for cell in table.rows[0].cells)


def test_what_cannot_be_counted_says_why() -> None:
    (table,) = complexity_tables(small("unimodal", "fusionm4net", "pattern-only"), Effort(1, 1))
    assert [cell.text for cell in table.rows[1].cells] == ["n/a"] * len(table.columns)
    reasons = list(table.footnotes.values())
    assert reasons[0].startswith("needs a modality of kind image")
    assert reasons[1].startswith("fitted with scikit-learn")
    for write in (to_markdown, to_latex, to_csv):
        assert "n/a" in write(table)


def test_copies_of_a_specialist_are_summed() -> None:
    (table,) = complexity_tables(small("concat-specialist"), Effort(n_repeats=1))
    (one,) = complexity_tables(small("concat:dropout"), Effort(n_repeats=1))
    total = cell_of(table, "concat-specialist", "Parameters", "total")
    single = cell_of(one, "concat:dropout", "Parameters", "total")
    assert total is not None
    assert single is not None
    assert total == pytest.approx(7 * single)


def test_an_effort_of_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="--batch wants a number from 1 on, got 0"):
        Effort(batch_size=0)
    with pytest.raises(BadRequest, match="--repeats wants a number from 1 on, got 0"):
        Effort(n_repeats=0)


def test_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["complexity", "-m", "unimodal", "-d", "wdbc", "--repeats", "1", "--format", "csv"])
    assert ended.value.code == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {line["metric"] for line in lines} == {
        "Parameters", "MACs", "FLOPs", "Time", "Peak memory",
    }  # fmt: skip


# --- Table 4 of the CMML paper ----------------------------------------------------------------


def on_meta(method: str, name: str) -> int:
    with torch.device("meta"):
        return n_parameters(table4_method(method, name), name)


def test_tasks_have_the_shapes_of_the_paper() -> None:
    shapes = {
        name: [(spec.n_tokens, spec.d_token) for spec in table4_task(name).modalities]
        for name in DATA
    }
    assert shapes == {
        "Derm7pt": [(49, 768), (49, 768), (42, 1536)],
        "ODIR": [(256, 2048), (256, 2048), (12, 1536)],
        "MEN": [(128, 128)] * 3 + [(60, 1536)],
    }
    with pytest.raises(UnknownName, match="did you mean ODIR"):
        table4_task("ODIRR")


def test_printed_numbers_are_those_of_the_reference_file(shared: Path) -> None:
    with (shared / "published.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["protocol"] == "complexity"]
    published = {
        (line["method"].lower(), line["dataset"], line["metric"]): float(line["mean"])
        for line in lines
        if line["mean"]
    }
    ours = {
        (method, name, metric): value
        for method, rebuilt in METHODS.items()
        for name, pair in rebuilt.printed.items()
        for metric, value in zip(("Param", "GFLOPs"), pair, strict=True)
    }
    assert ours == published


@pytest.mark.parametrize("method", ["cmml", "shaspec", "simmlm", "mcmoe"])
def test_identified_methods_have_the_printed_size(method: str) -> None:
    for name, (printed, _) in METHODS[method].printed.items():
        assert on_meta(method, name) / 1e6 == pytest.approx(printed, rel=0.01)


def test_sfusion_is_a_quarter_of_a_million_short() -> None:
    for name, (printed, _) in METHODS["sfusion"].printed.items():
        assert 0.2 < printed - on_meta("sfusion", name) / 1e6 < 0.26


def test_redcore_is_what_its_preset_gives_beside_the_printed() -> None:
    assert round(on_meta("redcore", "Derm7pt") / 1e6, 2) == 42.54
    assert METHODS["redcore"].note


def test_encoders_are_counted_as_the_paper_counts_them() -> None:
    swin, derm7pt = DATA["Derm7pt"].n_trained, on_meta("simmlm", "Derm7pt")
    with torch.device("meta"):
        own = sum(p.numel() for p in table4_method("simmlm", "Derm7pt").parameters())
    assert derm7pt == own + 3 * swin == 83_871_735
    assert on_meta("shaspec", "Derm7pt") == 28_471_807


def test_macs_of_shaspec_are_near_the_printed() -> None:
    macs = n_macs(table4_method("shaspec", "Derm7pt"), "Derm7pt")
    assert macs / 1e9 == pytest.approx(8.76, rel=0.04)  # ours has the products inside attention


@pytest.mark.slow
def test_replay_prints_every_method_beside_the_paper() -> None:
    table = replayed("table4")
    assert [row.label.split()[0] for row in table.rows] == [
        "ShaSpec", "SFusion", "RedCore", "SimMLM", "MCMoE", "CMML",
    ]  # fmt: skip
    difference = cell_of(
        table, "CMML (table4)", "Derm7pt, parameters", "Derm7pt.parameters.difference"
    )
    assert difference == pytest.approx(100 * (30_707_836 / 30.71e6 - 1))
    assert table.rows[0].cells[-2].text == "-"  # ShaSpec on MEN is not reported
    macs = cell_of(table, "SFusion (table4)", "MEN, MACs", "MEN.MACs.ours")
    assert macs is not None
    assert 3 * (2.13 + 0.73) < macs < 3 * 3.05  # convolutions, projections and scan of nnMamba


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(UnknownName, match="table4"):
        replayed("table3")
