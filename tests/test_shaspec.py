"""ShaSpec against its reference numbers, its formulas and what it promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor

from bench.data import Task
from bench.layers.shared_features import (
    alignment,
    domain_classification,
    donor_weights,
    modality_pairs,
)
from bench.method import Progress
from bench.methods.shaspec import PLUGIN, Composition, ShaSpec, ShaSpecConfig
from tests.toy_tokens import complete_tokens, n_parameters, patterns, vector_task

SWIN_T = 27_519_354
SHAPES = ((5, 6), (3, 4), (1, 7))  # (T, C) of each modality


def make_progress(epoch: int = 10, seed: int = 0) -> Progress:
    return Progress("train", epoch, 0, 20, torch.Generator().manual_seed(seed))


def build(task: Task, **settings: Any) -> ShaSpec:
    return ShaSpec(task, ShaSpecConfig(**settings))


def ring(n_modalities: int) -> Tensor:
    return torch.tensor(modality_pairs(n_modalities, "ring")).T


def assert_equal(ours: Tensor, reference: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.tensor(reference), rtol=1e-9, atol=1e-10)


def test_composition_equals_the_official_layer_and_its_gradients(shared: Path) -> None:
    arrays = np.load(shared / "golden" / "shaspec_compos_k1_plain.npz")
    layer = Composition(8).double()
    weight = torch.tensor(arrays["conv_weight"][..., 0, 0, 0])
    layer.linear.weight = torch.nn.Parameter(weight)
    inputs = [tokens_of(arrays[name]).requires_grad_() for name in ("shared", "specific")]
    out = layer(*inputs)
    (out * tokens_of(arrays["cotangent"])).sum().backward()
    assert_equal(out, tokens_of(arrays["out"]).numpy())
    for x, name in zip(inputs, ("grad_shared", "grad_specific"), strict=True):
        assert x.grad is not None
        assert_equal(x.grad, tokens_of(arrays[name]).numpy())
    assert layer.linear.weight.grad is not None
    assert_equal(layer.linear.weight.grad, arrays["grad_conv_weight"][..., 0, 0, 0])


def tokens_of(volume: np.ndarray) -> Tensor:
    return torch.tensor(volume).flatten(2).transpose(1, 2).contiguous()  # (B, T, D)


def test_auxiliary_losses_equal_the_official_values_and_gradients(shared: Path) -> None:
    arrays = np.load(shared / "golden" / "shaspec_losses.npz")
    features = torch.tensor(arrays["shared_interleaved"]).requires_grad_()
    logits = torch.tensor(arrays["spec_logits_interleaved"]).requires_grad_()
    r, all_there = features.reshape(3, 4, -1), torch.ones(3, 4, dtype=torch.bool)
    everyone = torch.tensor(modality_pairs(4, "all")).T
    l1 = alignment(r, all_there, ring(4), "l1")
    ce = domain_classification(logits.reshape(3, 4, 4), all_there, torch.eye(4).double())
    (0.1 * l1 + 0.02 * ce).backward()
    assert_equal(l1, arrays["term_shared_ring_L1"])
    assert_equal(alignment(r, all_there, ring(4), "mse"), arrays["term_shared_ring_MSE"])
    assert_equal(alignment(r, all_there, everyone, "l1"), arrays["term_shared_allpairs_L1"])
    assert_equal(ce, arrays["term_spec_CE"])
    assert_equal(0.1 * l1 + 0.02 * ce, arrays["aux_total"])
    assert features.grad is not None
    assert logits.grad is not None
    assert_equal(features.grad, arrays["grad_shared"])
    assert_equal(logits.grad, arrays["grad_spec_logits"])


def test_ring_has_all_pairs_of_three_modalities_and_one_pair_of_two() -> None:
    assert modality_pairs(2, "ring") == [(0, 1)]
    assert {frozenset(pair) for pair in modality_pairs(3, "ring")} == {
        frozenset(pair) for pair in modality_pairs(3, "all")
    }
    assert len(modality_pairs(4, "ring")) == 4
    assert len(modality_pairs(4, "all")) == 6


def test_alignment_by_hand_averages_over_the_cases_that_have_both() -> None:
    r = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[3.0, 3.0], [0.0, 1.0]], [[9.0, 9.0], [0.0, 0.0]]])
    available = torch.tensor([[True, True], [True, True], [True, False]])
    assert alignment(r, available, ring(2), "l1").item() == pytest.approx((0.5 + 2.5) / 2)
    assert alignment(r, available, ring(2), "mse").item() == pytest.approx((0.5 + 6.5) / 2)
    lonely = torch.tensor([[True, False]] * 3)
    assert alignment(r, lonely, ring(2), "l1").item() == 0.0


def test_kl_alignment_is_the_divergence_of_the_softmaxes() -> None:
    r = torch.tensor([[[0.0, np.log(3.0)], [0.0, 0.0]]])
    by_hand = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    all_there = torch.ones(1, 2, dtype=torch.bool)
    assert alignment(r, all_there, ring(2), "kl").item() == pytest.approx(by_hand)


def test_auxiliary_losses_ignore_missing_entries() -> None:
    available = torch.tensor([[True, True, False], [True, False, True]])
    r, logits = torch.randn(2, 3, 4), torch.randn(2, 3, 3)
    elsewhere = torch.where(available[..., None], 0.0, 100.0)
    for distance in ("l1", "mse", "kl"):
        before, after = (alignment(x, available, ring(3), distance) for x in (r, r + elsewhere))
        assert before == after
    noisy = logits + elsewhere * torch.randn(2, 3, 3)
    first, second = (domain_classification(x, available, torch.eye(3)) for x in (logits, noisy))
    assert first == second


def test_confusion_is_least_when_the_classifier_is_undecided() -> None:
    all_there = torch.ones(2, 3, dtype=torch.bool)
    uniform = torch.full((3, 3), 1 / 3)
    undecided = domain_classification(torch.zeros(2, 3, 3), all_there, uniform)
    decided = domain_classification(torch.randn(2, 3, 3), all_there, uniform)
    assert undecided.item() == pytest.approx(np.log(3))
    assert decided > undecided


def test_donors_follow_the_rule() -> None:
    available = torch.tensor([[False, True, True], [False, False, True]])
    assert donor_weights(available, "mean").tolist() == [[0, 0.5, 0.5], [0, 0, 1]]
    assert donor_weights(available, "first").tolist() == [[0, 1, 0], [0, 0, 1]]
    assert not donor_weights(available, "zero").any()


def test_first_donor_is_a_random_available_one_in_training() -> None:
    available = torch.tensor([[False, True, True]]).repeat(200, 1)
    share = donor_weights(available, "first", torch.Generator().manual_seed(0)).float().mean(0)
    assert share[0] == 0.0
    assert share[1].item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rule", ["mean", "first"])
def test_missing_embeddings_are_all_the_same_shared_features(rule: str) -> None:
    task = vector_task(*SHAPES)
    method = build(task, missing_fill=rule).eval()
    tokens, available = complete_tokens(task, 1), torch.tensor([[False, True, False]])
    completed = method(tokens, available).representations
    shared, _, composed = method.embed(tokens, available)
    assert torch.equal(completed["completed.m0"], completed["completed.m2"])
    assert torch.equal(completed["completed.m0"][:, 0], shared[:, 1])
    assert torch.equal(completed["completed.m1"][:, 0], composed[:, 1])


def test_missing_embedding_is_the_mean_of_the_available_shared_features() -> None:
    task = vector_task(*SHAPES)
    method = build(task).eval()
    tokens, available = complete_tokens(task, 4), torch.tensor([[True, False, True]] * 4)
    shared = method.embed(tokens, available)[0]
    filled = method(tokens, available).representations["completed.m1"][:, 0]
    torch.testing.assert_close(filled, (shared[:, 0] + shared[:, 2]) / 2)


@pytest.mark.parametrize("settings", [{}, *PLUGIN.presets.values(), *PLUGIN.ablations.values()])
def test_content_of_what_is_absent_has_no_influence(settings: dict[str, Any]) -> None:
    task = vector_task(*SHAPES)
    method = build(task, **settings).eval()
    available = patterns(3)
    tokens = complete_tokens(task, len(available))
    tokens[0].valid[:, 3:] = False
    for noise in (float("nan"), 1e6):
        spoilt = []
        for m, each in enumerate(tokens):
            there = each.valid & available[:, m, None]
            values = torch.where(there[..., None], each.values, noise)
            spoilt.append(replace(each, values=values))
        assert torch.equal(method(spoilt, available).logits, method(tokens, available).logits)
        losses = [
            method.losses(x, available, torch.ones(7).long(), make_progress(0))
            for x in (tokens, spoilt)
        ]
        assert losses[0] == losses[1]


def test_batch_mates_and_order_have_no_influence() -> None:
    task = vector_task(*SHAPES)
    method = build(task).eval()
    tokens, available = complete_tokens(task, 7), patterns(3)
    whole = method(tokens, available).logits
    order = torch.randperm(7)
    shuffled = method([each.rows(order) for each in tokens], available[order]).logits
    torch.testing.assert_close(shuffled, whole[order], atol=1e-5, rtol=0)
    alone = method([each.rows(torch.tensor([2])) for each in tokens], available[2:3]).logits
    torch.testing.assert_close(alone, whole[2:3], atol=1e-5, rtol=0)


def test_row_without_any_modality_is_refused() -> None:
    task = vector_task(*SHAPES)
    with pytest.raises(ValueError, match="at least one available"):
        build(task)(complete_tokens(task, 2), torch.tensor([[True, False, True], [False] * 3]))


@pytest.mark.parametrize("n_modalities", [2, 3, 4])
@pytest.mark.parametrize("d_model", [16, 24])
def test_parameters_are_as_many_as_the_formula_says(n_modalities: int, d_model: int) -> None:
    M, D, C = n_modalities, d_model, 5
    task = vector_task(*[(2, 7)] * M, d_model=D, n_classes=C)
    fusion = (1 + M) * (D**2 + D) + 2 * D**2 + M * D + M
    head = M * D**2 + D + C * D + C
    assert n_parameters(build(task)) == fusion + head + M * 8 * D
    assert n_parameters(build(task, specific=False)) == D**2 + D + head + M * 8 * D
    assert n_parameters(build(task, beta=0.0)) == fusion - M * D - M + head + M * 8 * D


@pytest.mark.parametrize(("d_model", "count"), [(128, 99_203), (256, 395_011), (512, 1_576_451)])
def test_fusion_part_has_the_published_size(d_model: int, count: int) -> None:
    with torch.device("meta"):
        method = build(vector_task(*[(1, 3)] * 3, d_model=d_model))
    assert n_parameters(method) - n_parameters(method.head) - n_parameters(method.projection) == (
        count
    )


def test_table4_preset_reproduces_the_printed_totals() -> None:
    derm7pt = vector_task((49, 768), (49, 768), (9, 1536), d_model=256, n_classes=2)
    odir = vector_task((256, 2048), (256, 2048), (9, 1536), d_model=256, n_classes=3)
    table4 = PLUGIN.presets["table4"]
    assert SWIN_T + n_parameters(build(derm7pt, **table4)) == 28_471_807
    assert n_parameters(build(odir, **table4)) == 1_607_942
    assert SWIN_T + n_parameters(build(derm7pt)) == 28_898_943
    assert n_parameters(build(odir)) == 2_035_206


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_layers": 2, "pairs": "all"},
        {"dao": "mse"},
        {"dao": "kl"},
        {"dao": "ce", "beta": 0.0},
        *PLUGIN.presets.values(),
        *PLUGIN.ablations.values(),
    ],
)
def test_gradients_reach_every_parameter(settings: dict[str, Any]) -> None:
    task = vector_task(*SHAPES)
    method = build(task, **settings)
    tokens, label = complete_tokens(task, 32), torch.randint(0, 2, (32,))
    terms = method.losses(tokens, torch.ones(32, 3, dtype=torch.bool), label, make_progress())
    torch.stack(list(terms.values())).sum().backward()
    silent = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_ablations_remove_their_term() -> None:
    task = vector_task(*SHAPES)
    tokens, label = complete_tokens(task, 4), torch.tensor([0, 1, 0, 1])
    observed = torch.ones(4, 3, dtype=torch.bool)
    for settings, gone in (({"alpha": 0.0}, "alignment"), ({"specific": False}, "domain")):
        assert gone in build(task).losses(tokens, observed, label, make_progress())
        assert gone not in build(task, **settings).losses(tokens, observed, label, make_progress())


def test_nothing_is_dropped_during_the_warm_up() -> None:
    task = vector_task(*SHAPES)
    method = build(task, p_drop=0.0)
    tokens, label = complete_tokens(task, 8), torch.zeros(8, dtype=torch.long)
    observed = torch.ones(8, 3, dtype=torch.bool)
    early = [method.losses(tokens, observed, label, make_progress(4, seed)) for seed in (0, 1)]
    late = [method.losses(tokens, observed, label, make_progress(5, seed)) for seed in (0, 1)]
    assert early[0] == early[1]
    assert late[0]["classification"] != late[1]["classification"]


def test_a_modality_absent_from_the_whole_batch_leaves_the_losses_finite() -> None:
    task = vector_task(*SHAPES)
    observed = torch.tensor([[True, False, False]] * 4)
    for settings in ({}, {"masked_losses": False}, {"dao": "kl"}):
        method = build(task, **settings)
        terms = method.losses(
            complete_tokens(task, 4), observed, torch.ones(4).long(), make_progress()
        )
        assert all(term.isfinite() for term in terms.values())


def test_training_lowers_the_loss_and_tells_the_modalities_apart() -> None:
    task = vector_task(*SHAPES)
    method = build(task, warmup_full_epochs=0, beta=0.2)
    label = torch.randint(0, 2, (64,))
    tokens = [
        replace(x, values=x.values + 2 * label[:, None, None]) for x in complete_tokens(task, 64)
    ]
    observed, progress = torch.ones(64, 3, dtype=torch.bool), make_progress()
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    totals = []
    for _ in range(80):
        total = torch.stack(list(method.losses(tokens, observed, label, progress).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert np.mean(totals[-5:]) < 0.7 * np.mean(totals[:5])
    specific = method.embed(tokens, observed)[1]
    correct = method.domain_classifier(specific).argmax(-1) == torch.arange(3)  # (B, M)
    assert correct.float().mean() > 0.8


def test_evaluation_changes_no_state_and_survives_saving() -> None:
    task = vector_task(*SHAPES)
    method, twin = build(task).eval(), build(task).eval()
    before = {name: x.clone() for name, x in method.state_dict().items()}
    tokens = complete_tokens(task, 7)
    logits = method(tokens, patterns(3)).logits
    assert all(torch.equal(x, before[name]) for name, x in method.state_dict().items())
    twin.load_state_dict(before)
    assert torch.equal(twin(tokens, patterns(3)).logits, logits)


def test_dropout_law_is_told() -> None:
    assert (
        PLUGIN.dropout_law(ShaSpecConfig.model_validate({}))
        == "none for 5 epochs, then size-uniform"
    )


def test_constant_inputs_give_finite_losses_and_gradients() -> None:
    task = vector_task(*SHAPES)
    method = build(task)
    constant = [replace(x, values=torch.full_like(x.values, 3.0)) for x in complete_tokens(task, 4)]
    observed = torch.ones(4, 3, dtype=torch.bool)
    terms = method.losses(constant, observed, torch.zeros(4).long(), make_progress())
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_search_space_gives_valid_configurations() -> None:
    trial = optuna.create_study().ask()
    ShaSpecConfig.model_validate(PLUGIN.search_space(trial))
