"""CMML against its reference numbers, its parameter counts, its switches and what it promises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.availability import DropoutLaw
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BadConfig
from bench.layers.completion import similarity_loss
from bench.layers.context import ContextCompletion, n_context_tokens
from bench.layers.contrastive import prototype_losses
from bench.layers.memory_bank import Memory, MemoryBank, move_slots, move_slots_in_turn, retrieve
from bench.layers.slots import Slots, owner_of_slots
from bench.method import Progress
from bench.methods.cmml import CMML, CMMLConfig
from tests.toy_tokens import (
    gradient_names,
    image,
    make_task,
    make_tokens,
    n_parameters,
    patterns,
    polluted,
    table,
)

SWIN_T = 27_519_354
THREE_NNMAMBA = 10_252_848
DERM7PT = (((49, 768), (49, 768), (42, 1536)), 2, SWIN_T)
ODIR = (((256, 2048), (256, 2048), (12, 1536)), 3, 0)  # frozen encoder
MEN = (((128, 128), (128, 128), (128, 128), (60, 1536)), 3, THREE_NNMAMBA)
DATA = [DERM7PT, ODIR, MEN]

TASK = make_task(image("clinical"), image("dermoscopic", 3, 7), table("table"))
COMPLETE = torch.ones(8, 3, dtype=torch.bool)
LABEL = torch.arange(8) % 2
SMALL: dict[str, Any] = {
    "n_stages": 2,
    "d_bottleneck": 4,
    "enc_mlp": 4,
    "dec_mlp": 4,
    "memory_size": 6,
}


def build_for(task: Task, settings: dict[str, Any]) -> CMML:
    return CMML(task, CMMLConfig(**(SMALL | settings)))


def build(**settings: Any) -> CMML:
    return build_for(TASK, settings)


def completion_of(model: CMML) -> ContextCompletion:
    assert model.completion is not None
    return model.completion


def bank_of(model: CMML, m: int) -> MemoryBank:
    banks = completion_of(model).banks
    assert banks is not None
    bank = banks[m]
    assert isinstance(bank, MemoryBank)
    return bank


def at_epoch(epoch: int, *, seed: int = 0, dropout: DropoutLaw | None = None) -> Progress:
    return Progress("train", epoch, 0, 50, torch.Generator().manual_seed(seed), dropout)


def full_tokens(task: Task = TASK, n_rows: int = 8) -> list[Tokens]:
    return make_tokens(task, n_rows, p_attribute=1.0, p_token=1.0)


def step(
    model: CMML, tokens: list[Tokens], epoch: int, observed: Tensor = COMPLETE
) -> dict[str, Tensor]:
    """Take losses, gradients and the act after a step, without an optimiser."""
    progress = at_epoch(epoch)
    terms = model.losses(tokens, observed, LABEL, progress)
    torch.stack(list(terms.values())).sum().backward()
    model.after_step(progress)
    return terms


def lacking(*modalities: int) -> Tensor:
    """Every second row of eight lacks these modalities."""
    available = COMPLETE.clone()
    available[::2, list(modalities)] = False
    return available


def shaped_task(shapes: tuple[tuple[int, int], ...], n_classes: int, d_model: int) -> Task:
    specs = [TokenSpec(f"m{m}", "vector", n, width) for m, (n, width) in enumerate(shapes)]
    return Task(tuple(specs), tuple(map(str, range(n_classes))), d_model)


def block_parameters(i: int, o: int, h: int | None, config: CMMLConfig) -> int:
    projection = o * o + o if config.out_projection else 0
    mlp = 0 if h is None else 2 * o * h + h + o + 2 * o
    return 3 * (i * o + o) + projection + mlp + 2 * i


def expected_parameters(task: Task, config: CMMLConfig) -> int:
    """Count by the closed formula, independent of the modules."""
    D, K, M = task.d_model, task.n_classes, task.n_modalities
    n_tokens = [spec.n_tokens for spec in task.modalities]
    mhca = 4 * D * D + 4 * D
    hidden = config.classifier_hidden
    narrow = config.d_bottleneck
    return (
        sum(spec.d_token * D + D for spec in task.modalities)
        + 5 * block_parameters(D, narrow, config.enc_mlp, config)
        + 5 * block_parameters(narrow, D, config.dec_mlp, config)
        + 2 * M * mhca
        + mhca * [config.init_attn, config.ref_attn].count("mhca")
        + (4 * sum(n_tokens) + round(sum(n_tokens) / M) + M) * D
        + (D * K + K if hidden is None else D * hidden + hidden + hidden * K + K)
    )


# --- formulas ---------------------------------------------------------------------------------


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    arrays = np.load(shared / "golden" / "cmml_recommended_formulas.npz")
    return {name: torch.tensor(array) for name, array in arrays.items()}


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_contrastive_losses_equal_the_reference(golden: dict[str, Tensor]) -> None:
    tau = float(golden["tau"])
    scl, pcl = prototype_losses(golden["feat"], golden["labels"], tau)
    _, summed = prototype_losses(golden["feat"], golden["labels"], tau, "sum")

    assert close(scl, golden["L_sample"])
    assert close(pcl, golden["L_proto_mean_pos"])
    assert close(summed, golden["L_proto_sum_pos"])


@pytest.mark.parametrize(
    ("move", "name"), [(move_slots, "batched"), (move_slots_in_turn, "sequential")]
)
def test_memory_update_equals_the_reference(
    golden: dict[str, Tensor], move: Any, name: str
) -> None:
    bank, slot = move(golden["mem"], golden["tokens"], float(golden["eta"]))

    assert close(bank, golden[f"mem_{name}"])
    assert slot.tolist() == golden[f"hits_{name}"].tolist()


def test_retrieval_equals_the_reference(golden: dict[str, Tensor]) -> None:
    assert close(retrieve(golden["query"], golden["mem"]), golden["retrieved"])


def test_contrast_of_two_orthogonal_classes_is_known() -> None:
    feature = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    scl, pcl = prototype_losses(feature, torch.tensor([0, 1]), tau=1.0)

    assert scl.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert pcl.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_contrast_needs_two_classes_and_skips_absent_ones() -> None:
    feature, label = torch.randn(6, 4), torch.tensor([0, 0, 2, 2, 2, 0])

    assert [x.item() for x in prototype_losses(feature, torch.ones(6).long(), 0.07)] == [0, 0]
    gap = torch.stack(prototype_losses(feature, label, 0.07))
    assert torch.equal(gap, torch.stack(prototype_losses(feature, label.clamp(max=1), 0.07)))


@pytest.mark.parametrize(
    ("distance", "expected"), [("cosine", (1.5 + 1) / 2), ("l1", (2 + 1) / 2), ("mse", (4 + 1) / 2)]
)
def test_similarity_averages_dropped_tokens_then_cases(distance: Any, expected: float) -> None:
    completed = [torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [9.0, 9.0]]])]
    target = [torch.tensor([[[-1.0, -1.0], [1.0, -1.0]], [[2.0, -2.0], [5.0, 0.0]]])]
    if distance != "cosine":  # one distance per token: 2 and 2 in the first case, 1 in the second
        target = [torch.tensor([[[-1.0, -1.0], [3.0, 3.0]], [[2.0, 0.0], [5.0, 0.0]]])]
    chosen = [torch.tensor([[True, True], [True, False]])]

    loss = similarity_loss(completed, target, chosen, distance)
    assert loss.item() == pytest.approx(expected)
    assert similarity_loss(completed, target, [~chosen[0] & False], distance) == 0


def test_similarity_sends_no_gradient_to_its_target() -> None:
    x, y = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    similarity_loss([x], [y], [torch.ones(2, 3, dtype=torch.bool)]).backward()

    assert x.grad is not None
    assert y.grad is None


def test_context_tokens_are_counted_as_in_the_paper() -> None:
    assert n_context_tokens("mean", (49, 49, 42)) == 47
    assert n_context_tokens("mean", (256, 256, 12)) == 175
    assert n_context_tokens("mean", (128, 128, 128, 60)) == 111
    assert n_context_tokens(0.3, (49, 49, 42)) == 42
    assert n_context_tokens(0.1, (1, 1)) == 1


def test_slots_are_there_missing_or_padding() -> None:
    spec = replace(table("table", n_codes=(2, 2), slots=2), n_tokens=5, attribute=(0, 0, 1, 1, -1))
    there = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool
    )
    slots = Slots.of(there, torch.tensor([True, True, True, False]), owner_of_slots(spec))

    expected = [[0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert slots.missing.int().tolist() == expected
    assert slots.rows.tolist() == [1, 3]


# --- one case, written out ---------------------------------------------------------------------


def heads_attend(q: Tensor, k: Tensor, v: Tensor, n_heads: int) -> Tensor:
    """Attend head by head, (Q, D) to (L, D), without any batch."""
    found = []
    for q_h, k_h, v_h in zip(*(x.chunk(n_heads, -1) for x in (q, k, v)), strict=True):
        found.append((q_h @ k_h.T / math.sqrt(q_h.shape[-1])).softmax(-1) @ v_h)
    return torch.cat(found, -1)


def attend(attention: Any, query: Tensor, x: Tensor) -> Tensor:
    projections = zip(
        (query, x, x),
        attention.mhca.in_proj_weight.chunk(3),
        attention.mhca.in_proj_bias.chunk(3),
        strict=True,
    )
    q, k, v = (each @ weight.T + bias for each, weight, bias in projections)
    return attention.mhca.out_proj(heads_attend(q, k, v, 4))


def pass_block(block: Any, x: Tensor) -> Tensor:
    q, k, v = block.qkv(block.norm(x)).chunk(3, -1)
    u = block.out(heads_attend(q, k, v, 4)) + v
    return u + block.mlp(u)


@torch.no_grad()
def test_a_case_follows_the_equations() -> None:
    task = make_task(image("a"), image("b", 3), table("t", slots=2))  # the table has 3 attributes
    model = build_for(task, {"memory_size": 5}).eval()
    completion, alignment = completion_of(model), model.alignment
    assert completion.context is not None
    assert completion.crta is not None
    assert alignment is not None
    for name in ("seeds", "position", "state", "banks"):
        for tensor in getattr(completion, name).state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
    tokens = full_tokens(task, 1)
    tokens[2].valid[:, 2:4] = False
    tokens[2].codes[:, 1] = -1
    found = model(tokens, torch.tensor([[True, False, True]]))

    linear = model.projection.linear
    x_a, x_t = (linear[m](tokens[m].values[0]).relu() for m in (0, 2))
    seen = torch.cat([x_a, x_t[:2], x_t[4:]])
    e_b, e_t = (heads_attend(completion.seeds[m], seen, seen, 1) for m in (1, 2))  # Eq. 3
    x_t[2:4] = e_t[2:4]
    h = []
    for m, x in enumerate((x_a, e_b, x_t)):  # Eq. 4
        state = completion.state[m][1 if m == 1 else 0].clone()
        if m == 2:
            state[2:4] = completion.state[2][1, 2:4]
        h.append(x + completion.position[m] + completion.modal_type[m] + state)
    z = torch.cat([completion.context, *h])
    for encode, decode in zip(
        completion.crta.encoders, completion.crta.decoders, strict=True
    ):  # Eq. 5
        z = z + pass_block(decode, pass_block(encode, z))
    g, r_a, r_b, r_t = z.split([4, 4, 3, 6])
    completed = []
    for m, r in ((1, r_b), (2, r_t[2:4])):  # Eq. 7
        read = retrieve(r, bank_of(model, m).bank)
        completed.append(r + attend(completion.memory_attention[m], r, read))
    x_t[2:4] = completed[1]
    refined = torch.cat([r_a, r_b, r_t])
    reference = g + heads_attend(g, refined, refined, 1)  # Eq. 9
    aligned = [
        f + attend(alignment.attention[m], f, reference)  # Eq. 10
        for m, f in enumerate((x_a, completed[0], x_t))
    ]

    assert torch.allclose(found.representations["completed.b"][0], completed[0], atol=1e-5)
    assert torch.allclose(found.representations["completed.t"][0], x_t, atol=1e-5)
    assert torch.allclose(found.representations["fused"][0], torch.cat(aligned).mean(0), atol=1e-5)


# --- parameter counts -------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["standard", "table4-a", "table4", "fit"])
@pytest.mark.parametrize("d_model", [128, 256])
def test_parameters_follow_the_formula(preset: str, d_model: int) -> None:
    config = CMMLConfig(**CMML.presets[preset])
    for shapes, n_classes, _ in DATA:
        task = shaped_task(shapes, n_classes, d_model)
        with torch.device("meta"):
            assert n_parameters(CMML(task, config)) == expected_parameters(task, config)


@pytest.mark.parametrize(
    ("preset", "totals", "error"),
    [
        ("standard", (30_734_012, 4_296_035, 14_027_155), 0.028),
        ("table4-a", (30_704_156, 4_266_275, 13_997_395), 0.007),
        ("table4", (30_707_836, 4_270_083, 14_001_203), 0.003),
    ],
)
def test_totals_match_the_published_ones(
    preset: str, totals: tuple[int, ...], error: float
) -> None:
    published = (30.71, 4.27, 14.00)
    for (shapes, n_classes, encoders), total, printed in zip(DATA, totals, published, strict=True):
        with torch.device("meta"):
            task = shaped_task(shapes, n_classes, 256)
            found = encoders + n_parameters(CMML(task, CMMLConfig(**CMML.presets[preset])))
        assert found == total
        assert abs(found / 1e6 - printed) < error


def test_standard_preset_is_the_default() -> None:
    assert CMMLConfig(**CMML.presets["standard"]) == CMMLConfig()


# --- ablations --------------------------------------------------------------------------------


def part(name: str) -> str:
    """Name what a parameter belongs to: a part of the method, or of completion or alignment."""
    first, second, *_ = name.split(".")
    return second if first == "completion" or second == "reference_attention" else first


def names(model: CMML) -> set[str]:
    return {part(name) for name, _ in model.named_parameters()}


def banks(model: CMML) -> list[str]:
    return [name for name, _ in model.named_buffers() if name.startswith("completion.banks")]


ALL = names(build(ref_attn="mhca", init_attn="mhca"))


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("baseline", ALL - {"projection", "classifier"}),
        ("no_memory", {"memory_attention"}),
        ("no_context", {"context", "alignment", "reference_attention"}),
        ("no_icma", {"alignment", "reference_attention"}),
        ("static_context", {"reference_attention"}),
        ("no_cdr", set()),
        ("no_cmc", {"initial_attention", "crta", "memory_attention"}),
        ("no_icar", {"alignment", "reference_attention"}),
    ],
)
def test_a_switch_takes_its_parameters_away_and_the_rest_learns(
    switch: str, gone: set[str]
) -> None:
    model = build(**{switch: True}, ref_attn="mhca", init_attn="mhca")
    assert names(model) == ALL - gone

    step(model, full_tokens(), 0, lacking(1))
    assert {part(name) for name in gradient_names(model)} == names(model)


@pytest.mark.parametrize("switch", [next(iter(each)) for each in CMML.ablations.values()])
def test_a_switch_leaves_the_terms_that_it_should(switch: str) -> None:
    terms = set(build(**{switch: True}).losses(full_tokens(), COMPLETE, LABEL, at_epoch(9)))

    contrast = set() if switch in ("baseline", "no_cdr", "no_icar") else {"scl", "pcl"}
    similarity = set() if switch in ("baseline", "no_cmc") else {"sim"}
    assert terms == {"ce"} | contrast | similarity


def test_without_memory_there_are_no_banks() -> None:
    assert len(banks(build())) == 9
    assert banks(build(no_memory=True)) == banks(build(no_cmc=True)) == []


def test_baseline_pools_what_is_available() -> None:
    model, tokens = build(baseline=True).eval(), full_tokens()
    available = lacking(1)
    found = model(tokens, available).representations

    rows = torch.cat([found["tokens.clinical"], found["tokens.table"]], 1).mean(1)
    assert torch.allclose(found["fused"][::2], rows[::2], atol=1e-6)


@pytest.mark.parametrize("switch", ["no_icma", "no_context", "no_icar"])
def test_without_alignment_completed_tokens_are_pooled(switch: str) -> None:
    found = build(**{switch: True}).eval()(full_tokens(), lacking(0, 2)).representations

    completed = torch.cat([x for name, x in found.items() if name.startswith("completed")], 1)
    assert torch.allclose(found["fused"], completed.mean(1), atol=1e-6)


def test_without_completion_missing_tokens_are_constants() -> None:
    model = build(no_cmc=True).eval()
    completed = model(full_tokens(), lacking(1)).representations["completed.dermoscopic"]

    learned = completion_of(model)
    expected = learned.seeds[1] + learned.position[1] + learned.modal_type[1] + learned.state[1][1]
    assert torch.allclose(completed[::2], expected.expand(4, -1, -1), atol=1e-6)


@torch.no_grad()
def test_static_context_makes_complete_rows_blind_to_the_cascade() -> None:
    for static in (True, False):
        model, tokens = build(static_context=static).eval(), full_tokens()
        before = model(tokens, lacking(1)).logits
        crta = completion_of(model).crta
        assert crta is not None
        for parameter in crta.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        changed = (model(tokens, lacking(1)).logits != before).any(1)
        assert changed[::2].all()
        assert changed[1::2].any() != static


# --- memory -----------------------------------------------------------------------------------


def test_a_bank_fills_with_tokens_and_then_moves() -> None:
    bank = MemoryBank(4, Memory(6, eta=0.5))
    first, second = torch.randn(4, 4).abs(), torch.randn(9, 4).abs()
    generator = torch.Generator().manual_seed(0)

    bank.update(first[:0], generator)
    assert int(bank.n_filled) == 0
    bank.update(first, generator)
    assert int(bank.n_filled) == 4
    assert torch.allclose(bank.bank[:4].sort(0)[0], first.sort(0)[0])
    assert bank.hits.tolist() == [1, 1, 1, 1, 0, 0]
    bank.update(second, generator)
    assert int(bank.n_filled) == 6
    assert int(bank.hits.sum()) == 4 + 9


def test_retrieval_reads_filled_slots_only() -> None:
    bank = MemoryBank(4, Memory(6))
    query, token = torch.randn(2, 3, 4), torch.rand(1, 4)

    assert torch.equal(bank(query), retrieve(query, bank.bank))
    bank.update(token, torch.Generator())
    assert torch.allclose(bank(query), token.expand(2, 3, 4))


def test_banks_count_hits_and_freeze() -> None:
    model, tokens = build(memory_epochs=3), full_tokens()
    step(model, tokens, 2)
    assert [int(bank_of(model, m).hits.sum()) for m in range(3)] == [8 * 4, 8 * 3, 8 * 3]

    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    step(model, tokens, 3)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_banks_hold_projected_tokens() -> None:
    model, tokens = build(memory_size=500, eta=1.0), full_tokens()
    step(model, tokens, 0)

    projected = model.projection(tokens, COMPLETE)[0][0].flatten(0, 1)
    stored = bank_of(model, 0).bank[: int(bank_of(model, 0).n_filled)]  # eta 1: never moved
    distance = (stored[:, None] - projected).abs().amax(-1)  # (32 stored, 32 projected)
    assert len(stored) == 32
    assert distance.amin(1).max() == 0


def test_banks_do_not_change_outside_training() -> None:
    model, tokens = build().eval(), full_tokens()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    step(model, tokens, 0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_banks_take_no_dropped_modality_and_no_invalid_token() -> None:
    model = build(warmup_full_epochs=0)
    tokens = make_tokens(TASK, 8, p_attribute=0.6, p_token=0.6)
    step(model, tokens, 0)

    kept = at_epoch(0).drop(COMPLETE, "uniform")
    assert not kept.all()
    expected = [int((each.valid & kept[:, m, None]).sum()) for m, each in enumerate(tokens)]
    assert [int(bank_of(model, m).hits.sum()) for m in range(3)] == expected


def test_no_gradient_enters_the_banks() -> None:
    model = build()
    step(model, full_tokens(), 0, lacking(1))
    assert not any(bank_of(model, m).bank.requires_grad for m in range(3))


@torch.no_grad()
def test_memory_content_matters_only_where_something_is_missing() -> None:
    model, tokens = build().eval(), full_tokens()
    before = model(tokens, lacking(1)).logits
    bank_of(model, 1).bank.normal_()
    after = model(tokens, lacking(1)).logits

    assert torch.equal(after[1::2], before[1::2])
    assert (after != before)[::2].any(1).all()
    permuted = bank_of(model, 1).bank[torch.randperm(6)]
    bank_of(model, 1).bank.copy_(permuted)
    assert torch.allclose(model(tokens, lacking(1)).logits, after, atol=1e-6)


# --- training ---------------------------------------------------------------------------------


def test_nothing_is_dropped_in_the_warm_up() -> None:
    model, tokens = build(warmup_full_epochs=5), full_tokens()

    assert step(model, tokens, 4)["sim"] == 0
    assert step(model, tokens, 5)["sim"] > 0


def test_the_law_of_the_study_is_obeyed() -> None:
    model, tokens = build(), full_tokens()
    for observed in (COMPLETE, lacking(1)):
        terms = model.losses(tokens, observed, LABEL, at_epoch(9, dropout="none"))
        assert terms["sim"] == 0


def test_similarity_asks_only_for_what_was_observed() -> None:
    model, tokens = build().eval(), make_tokens(TASK, 8, p_attribute=0.6, p_token=0.6)
    observed = lacking(2)
    expected = model.losses(tokens, observed, LABEL, at_epoch(9))
    for content in (float("nan"), 50.0):
        found = model.losses(polluted(tokens, observed, content), observed, LABEL, at_epoch(9))
        assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}
    assert expected["sim"] > 0


@pytest.mark.parametrize("settings", [{}, {"init_attn": "mhca", "ref_attn": "mhca"}])
def test_every_parameter_gets_a_gradient(settings: dict[str, Any]) -> None:
    model = build(**settings)
    tokens = make_tokens(TASK, 8)
    seen = set()
    for epoch in (0, 9):
        step(model, tokens, epoch)
        seen |= gradient_names(model)
    assert seen == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("content", [0.0, 1.0])
def test_losses_stay_finite_on_constant_content(content: float) -> None:
    model = build()
    tokens = [replace(each, values=torch.full_like(each.values, content)) for each in full_tokens()]
    for epoch in (0, 9):
        assert all(term.isfinite() for term in step(model, tokens, epoch).values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_equal_generators_give_equal_losses() -> None:
    model, tokens = build(dropout=0.0, classifier_dropout=0.0), full_tokens()
    first, again, other = (
        model.losses(tokens, COMPLETE, LABEL, at_epoch(9, seed=seed))["sim"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_all_weights_and_distances_can_be_set() -> None:
    model, tokens = build(dropout=0.0, classifier_dropout=0.0), full_tokens()
    plain = model.losses(tokens, COMPLETE, LABEL, at_epoch(9))
    weights = {"w_sim": 2.0, "w_scl": 0.5, "w_pcl": 0.0}
    model.config = model.config.model_copy(update=weights)
    weighted = model.losses(tokens, COMPLETE, LABEL, at_epoch(9))

    for name, weight in weights.items():
        term = name.removeprefix("w_")
        assert weighted[term].item() == pytest.approx(weight * plain[term].item())


# --- promises ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"pool": "modalities", "init_attn": "mhca"}])
@pytest.mark.parametrize("content", [float("nan"), 1e4])
@torch.no_grad()
def test_missing_input_has_no_influence(settings: dict[str, Any], content: float) -> None:
    model = build(**settings).eval()
    tokens = make_tokens(TASK, 7)
    available = patterns(3)

    clean = model(tokens, available).logits
    assert clean.isfinite().all()
    assert torch.equal(model(polluted(tokens, available, content), available).logits, clean)


@torch.no_grad()
def test_batch_mates_and_order_have_no_influence() -> None:
    model, tokens, available = build().eval(), make_tokens(TASK, 7), patterns(3)
    together = model(tokens, available).logits
    order = torch.arange(7).flip(0)
    turned = model([each.rows(order) for each in tokens], available[order]).logits
    assert torch.allclose(turned.flip(0), together, atol=1e-5)
    for row in torch.arange(7).split(1):
        alone = model([each.rows(row) for each in tokens], available[row]).logits
        assert torch.allclose(alone, together[row], atol=1e-5)


@torch.no_grad()
def test_padding_acts_as_if_its_slot_did_not_exist() -> None:
    longer = make_task(image("a", 5), image("b", 5))
    shorter = make_task(image("a", 5), image("b", 4))
    config = {"n_context": 0.4}  # four context tokens in both
    model = build_for(longer, config).eval()
    state = model.state_dict()
    for name in ("completion.seeds.1", "completion.position.1", "completion.state.1"):
        state[name] = state[name][..., :4, :]
    cut = build_for(shorter, config).eval()
    cut.load_state_dict(state)
    tokens = full_tokens(longer)
    tokens[1].valid[:, 4] = False
    trimmed = [tokens[0], replace(tokens[1], values=tokens[1].values[:, :4])]
    trimmed[1] = replace(trimmed[1], valid=trimmed[1].valid[:, :4])

    available = torch.tensor([[True, True], [False, True]]).repeat(4, 1)
    assert torch.allclose(
        model(tokens, available).logits, cut(trimmed, available).logits, atol=1e-6
    )


@pytest.mark.parametrize("n_modalities", [1, 2, 3, 4])
@torch.no_grad()
def test_every_subset_of_one_to_four_modalities_is_predicted(n_modalities: int) -> None:
    specs = (table("t"), image("a", 2), image("b", 7, 3), image("c", 1))[:n_modalities]
    task = make_task(*specs, n_classes=3)
    available = patterns(n_modalities)
    prediction = build_for(task, {}).eval()(make_tokens(task, len(available)), available)

    assert prediction.logits.shape == (2**n_modalities - 1, 3)
    assert all(x.isfinite().all() for x in prediction.representations.values())
    assert prediction.representations["fused"].shape == (len(available), task.d_model)
    for spec in specs:
        shape = (len(available), spec.n_tokens, task.d_model)
        assert prediction.representations[f"tokens.{spec.name}"].shape == shape
        assert prediction.representations[f"completed.{spec.name}"].shape == shape


@torch.no_grad()
def test_available_tokens_stay_as_projected() -> None:
    found = build().eval()(full_tokens(), lacking(1)).representations
    assert torch.equal(found["completed.clinical"], found["tokens.clinical"])
    assert torch.equal(found["completed.dermoscopic"][1::2], found["tokens.dermoscopic"][1::2])
    assert (found["tokens.dermoscopic"][::2] == 0).all()


def test_an_empty_row_is_refused() -> None:
    empty = COMPLETE.clone()
    empty[3] = False
    with pytest.raises(ValueError, match="row 3 has none"):
        build()(full_tokens(), empty)
    with pytest.raises(ValueError, match="row 3 has none"):
        build().losses(full_tokens(), empty, LABEL, at_epoch(0))


@torch.no_grad()
def test_saved_and_loaded_predicts_alike(tmp_path: Path) -> None:
    model, tokens = build(), full_tokens()
    with torch.enable_grad():
        step(model, tokens, 0)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))

    available = lacking(0)
    assert torch.equal(
        other.eval()(tokens, available).logits, model.eval()(tokens, available).logits
    )
    assert int(bank_of(other, 0).n_filled) == 6


def test_it_runs_in_bf16_with_losses_in_float32() -> None:
    model, tokens = build(), make_tokens(TASK, 8)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.losses(tokens, lacking(1), LABEL, at_epoch(9))
    torch.stack(list(terms.values())).sum().backward()
    model.after_step(at_epoch(9))

    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert bank_of(model, 0).bank.dtype == torch.float32


def test_heads_must_divide_both_widths() -> None:
    with pytest.raises(BadConfig, match="n_heads must divide the width 10, got 4"):
        build_for(make_task(image(), d_model=10), {})
    with pytest.raises(BadConfig, match="n_heads must divide the width 6, got 4"):
        build(d_bottleneck=6)


def test_presets_ablations_and_search_give_valid_configurations() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggestions = [CMML.search_space(study.ask()) for _ in range(5)]
    for settings in [*CMML.presets.values(), *CMML.ablations.values(), *suggestions]:
        CMML(TASK, CMMLConfig(**settings))
    assert CMML.dropout_law(CMMLConfig()).endswith("from epoch 6")


# --- learning ---------------------------------------------------------------------------------


def rotated_cases(n_cases: int) -> tuple[list[Tokens], Tensor]:
    """Draw two modalities of two tokens: the second is a fixed rotation of the first plus noise."""
    of_case, of_token = torch.randn(n_cases, 1, 4), torch.randn(n_cases, 2, 4)
    first = of_case + 0.1 * of_token
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    second = first @ rotation + 0.05 * torch.randn(n_cases, 2, 4)
    none, valid = torch.zeros(n_cases, 0), torch.ones(n_cases, 2, dtype=torch.bool)
    tokens = [Tokens(x, valid, torch.tensor([-1, -1]), none.long(), none) for x in (first, second)]
    return tokens, (of_case[:, 0, 0] > 0).long()


def learn(model: CMML, tokens: list[Tokens], label: Tensor, n_steps: int) -> list[dict[str, float]]:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    observed = torch.ones(64, len(tokens), dtype=torch.bool)
    history = []
    for index in range(n_steps):
        progress = replace(at_epoch(index // 4, seed=index), step=index)
        rows = torch.randint(len(label), (64,))
        batch = [each.rows(rows) for each in tokens]
        terms = model.losses(batch, observed, label[rows], progress)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        model.after_step(progress)
        history.append({name: term.item() for name, term in terms.items()})
    return history


def test_completed_tokens_of_new_cases_resemble_the_true_ones() -> None:
    tokens, label = rotated_cases(256 + 64)
    train, new = torch.arange(256), torch.arange(256, 320)
    task = make_task(image("a", 2, 4), image("b", 2, 4), d_model=16)
    settings = {"n_stages": 1, "d_bottleneck": 16, "memory_size": 32, "dropout": 0.0}
    model = build_for(task, settings | {"warmup_full_epochs": 2})
    history = learn(model, [each.rows(train) for each in tokens], label[train], 100)
    model.eval()
    with torch.no_grad():
        both = torch.ones(320, 2, dtype=torch.bool)
        true = model.projection(tokens, both)[0][1]  # (N, T, D)
        first_only = torch.tensor([[True, False]]).expand(64, -1)
        prediction = model([each.rows(new) for each in tokens], first_only)
    completed = prediction.representations["completed.b"]
    reached = F.cosine_similarity(completed, true[new], dim=-1).mean()
    by_mean = F.cosine_similarity(true[train].mean(0, keepdim=True), true[new], dim=-1).mean()

    assert reached > by_mean + 0.1
    dropped = [terms["sim"] for terms in history if terms["sim"] > 0]
    assert np.mean(dropped[-5:]) < 0.6 * dropped[0]
    assert (prediction.logits.argmax(1) == label[new]).float().mean() > 0.9
