"""MCMoE against its reference numbers, its formulas and what it promises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.availability import random_subset
from bench.data import TokenSpec
from bench.errors import BadConfig
from bench.layers.completion import guidance, kl_per_row
from bench.layers.contrastive import batch_hard_triplet
from bench.layers.generator import TokenGenerator, generate_missing
from bench.layers.positions import sinusoidal_table
from bench.methods.mcmoe import MCMoE, MCMoEConfig
from tests.toy_tokens import (
    image,
    make_progress,
    make_task,
    make_tokens,
    n_parameters,
    patterns,
    polluted,
    table,
    train,
)

SWIN_T = 27_519_354
THREE_NNMAMBA = 10_252_848
DERM7PT = [image("a", 49, 768), image("b", 49, 768), table(n_codes=(2,) * 5, d_token=1536)]
ODIR = [image("a", 256, 2048), image("b", 256, 2048), table(n_codes=(2,) * 2, d_token=1536)]
MEN = [image(name, 128, 128) for name in "abc"] + [table(n_codes=(2,) * 6, d_token=1536)]
TINY = MCMoEConfig(**MCMoE.presets["tiny"])
STILL = TINY.model_copy(update={"p_drop": 0.0})
PATTERNS = patterns(3)  # (7, 3)
TASK = make_task(image(n_tokens=5), table(), image("third", 1, 7), d_model=16)


def close(found: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def load(module: nn.Module, weights: dict[str, np.ndarray], prefix: str) -> None:
    under = {k: v for k, v in weights.items() if k.startswith(prefix)}
    module.load_state_dict({k.removeprefix(prefix): torch.tensor(v) for k, v in under.items()})


def golden_method(path: Path) -> tuple[MCMoE, dict[str, np.ndarray]]:
    weights = dict(np.load(path))
    task = make_task(*repeat(image(), 3), n_classes=4, d_model=16)
    method = MCMoE(task, MCMoEConfig(enc_layers=2, dec_layers=2, n_tokens=5)).eval()
    load(method.encoders[0], weights, "w.transformer.encoder.")
    load(method.decoder, weights, "w.transformer.decoder.")
    load(method.fusion, weights, "w.fusion.")
    for m, letter in enumerate("vaf"):
        load(method.experts[m], weights, f"w.experts.{letter}.")
    assert method.router is not None
    for layer, official in (("0", "fc1"), ("2", "fc2")):
        load(method.router.get_submodule(layer), weights, f"w.router_mix.{official}.")
    return method, weights


def test_generator_equals_the_reference(shared: Path) -> None:
    arrays = dict(np.load(shared / "golden/mcmoe_generator.npz"))
    generator = TokenGenerator(16, 4, n_heads=4)
    renamed = {k.replace("w.gate.0", "w.gate"): v for k, v in arrays.items()}
    load(generator, renamed, "w.")
    first, second = torch.tensor(arrays["ctx1"]), torch.tensor(arrays["ctx2"])
    both = torch.cat([first, second], 1)
    present = torch.ones(4, 8, dtype=torch.bool)
    close(
        generator.attend(torch.tensor(arrays["query"]), both, present), arrays["out_random_query"]
    )
    close(generator(both, present), arrays["out_zero_query"])
    only_first = torch.arange(8).expand(4, -1) < 5
    close(generator(both, only_first), arrays["out_zero_query_one_ctx"])
    swapped = torch.cat([second, first], 1)
    close(generator(swapped, present), arrays["out_zero_query"])


def test_generated_tokens_are_identical(shared: Path) -> None:
    out = np.load(shared / "golden/mcmoe_generator.npz")["out_zero_query"]
    assert np.ptp(out, axis=1).max() < 1e-6


def test_mixture_and_fusion_equal_the_reference(shared: Path) -> None:
    method, _ = golden_method(shared / "golden/mcmoe_model_weights.npz")
    arrays = np.load(shared / "golden/mcmoe_moe_fusion_eval.npz")
    mixed = []
    assert method.router is not None
    for m, letter in enumerate("vaf"):
        h = torch.tensor(arrays[f"h_{letter}"])
        close(method.router(h).softmax(-1), arrays[f"router_{letter}"])
        mixed.append(method.mix(m, h))
        close(mixed[m], arrays[f"mix_{letter}"])
    made = [expert(torch.tensor(arrays["h_v"])) for expert in method.experts]
    close(torch.stack(made, dim=2), arrays["experts_on_v"])
    close(method.fuse(mixed), arrays["fused"])


def test_decoder_positions_equal_the_reference(shared: Path) -> None:
    weights = np.load(shared / "golden/mcmoe_model_weights.npz")
    table = sinusoidal_table(136, 16, dtype=torch.float32)
    close(table, weights["w.pos_encoder.pe"][:, 0])


def test_losses_equal_the_reference(shared: Path) -> None:
    arrays = np.load(shared / "golden/mcmoe_losses.npz")
    mix, expert = torch.tensor(arrays["mix"]), torch.tensor(arrays["expert"])
    close(kl_per_row(mix, expert).mean(), arrays["kl"])
    close(batch_hard_triplet(torch.tensor(arrays["emb"])), arrays["triplet_margin1"])
    observed = torch.ones(4, 3, dtype=torch.bool)
    kept = observed & (torch.arange(3) > 0)
    same = [mix, mix]
    error, divergence = guidance([expert, *same], [mix, *same], [], observed, kept, experts=None)
    close(error, arrays["recon_mse"])
    assert divergence == 0


def test_triplet_by_hand() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 2.0]]])
    # Query 0: (1,0), (0,1); query 1: (0,1), (0,2). Positive - negative + 1 per output:
    # 1-1+1, 0-0+1 (query 1, row 0: nearest of query 0 is (0,1) at 0), 1-0+1, 0-0+1.
    assert batch_hard_triplet(features).item() == pytest.approx((1 + 1 + 2 + 1) / 4)


def test_kl_by_hand() -> None:
    expert = torch.tensor([[[math.log(3.0), 0.0]]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert kl_per_row(torch.zeros(1, 1, 2), expert).item() == pytest.approx(expected)


def test_reconstruction_terms_by_hand() -> None:
    method = MCMoE(TASK, STILL).eval()
    encoded = [torch.zeros(2, 4, 16) for _ in range(3)]
    completed = [torch.full((2, 4, 16), 3.0) if m == 1 else encoded[m] for m in range(3)]
    observed = torch.tensor([[True, True, True], [True, False, True]])
    kept = torch.tensor([[True, False, True], [True, False, True]])
    own = [expert(h) for expert, h in zip(method.experts, encoded, strict=True)]
    experts = method.experts
    error, divergence = guidance(encoded, completed, own, observed, kept, experts=experts)
    assert error.item() == pytest.approx(9.0 / 2)  # the natural gap does not count
    assert divergence.item() == pytest.approx(0.0, abs=1e-7)


def test_detached_targets_do_not_pull_the_true_tokens() -> None:
    observed = torch.ones(4, 3, dtype=torch.bool)
    kept = torch.tensor([[True, False, True]]).expand(4, -1)
    experts = MCMoE(TASK, STILL).experts
    for detach in (False, True):
        encoded = [torch.randn(4, 4, 16, requires_grad=True) for _ in range(3)]
        completed = [h.detach() + 1.0 for h in encoded]
        terms = guidance(
            encoded, completed, completed, observed, kept, experts=experts, detach=detach
        )
        assert torch.stack(terms).requires_grad != detach


def test_proper_subsets_always_lack_something_and_are_uniform() -> None:
    observed = torch.tensor([[True, True, True]] * 6000 + [[False, True, False]] * 10)
    drawn = random_subset(observed, torch.Generator().manual_seed(0), "proper")
    assert torch.equal(drawn[6000:], observed[6000:])
    names = (drawn[:6000] * torch.tensor([1, 2, 4])).sum(1)
    share = torch.bincount(names, minlength=8) / 6000
    assert not share[[0, 7]].any()
    torch.testing.assert_close(share[1:7], torch.full((6,), 1 / 6), rtol=0.0, atol=0.02)


def test_two_modalities_leave_two_proper_subsets() -> None:
    drawn = random_subset(
        torch.ones(50, 2, dtype=torch.bool), torch.Generator().manual_seed(0), "proper"
    )
    assert (drawn.sum(1) == 1).all()


def test_absent_and_invalid_content_has_no_influence() -> None:
    method = MCMoE(TASK, TINY).eval()
    tokens = make_tokens(TASK, 7)
    changed = polluted(tokens, PATTERNS, float("nan"))
    with torch.no_grad():
        assert torch.equal(method(tokens, PATTERNS).logits, method(changed, PATTERNS).logits)


def test_hidden_modalities_do_not_reach_the_classification_in_training() -> None:
    method = MCMoE(TASK, STILL)
    kept = torch.tensor([[True, False, True]]).expand(4, -1)
    encoded = [torch.randn(4, 4, 16) for _ in range(3)]
    changed = [encoded[0], torch.randn(4, 4, 16), encoded[2]]
    made = [generate_missing(each, kept, method.generators) for each in (encoded, changed)]
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_a_row_is_answered_alike_alone_and_in_a_batch() -> None:
    method = warmed(MCMoE(TASK, TINY)).eval()
    tokens = make_tokens(TASK, 7)
    whole = method(tokens, PATTERNS).logits
    for row in range(7):
        index = torch.tensor([row])
        alone = method([each.rows(index) for each in tokens], PATTERNS[index]).logits
        torch.testing.assert_close(alone[0], whole[row], rtol=0.0, atol=1e-5)


def test_official_positions_depend_on_the_place_in_the_batch() -> None:
    tokens = make_tokens(TASK, 7)
    flipped = [each.rows(torch.arange(7).flip(0)) for each in tokens]
    for bug in (False, True):
        method = MCMoE(TASK, TINY.model_copy(update={"official_pe_bug": bug})).eval()
        straight = method(tokens, PATTERNS).logits
        back = method(flipped, PATTERNS.flip(0)).logits.flip(0)
        assert torch.allclose(straight, back, atol=1e-5) != bug


def warmed(method: MCMoE) -> MCMoE:
    """Let batch normalisation see some data."""
    with torch.no_grad():
        method.train()(make_tokens(method.task, 8), torch.ones(8, 3, dtype=torch.bool))
    return method


def test_evaluation_leaves_every_buffer_as_it_was() -> None:
    method = warmed(MCMoE(TASK, TINY)).eval()
    before = {k: v.clone() for k, v in method.named_buffers()}
    method.losses(make_tokens(TASK, 7), PATTERNS, torch.zeros(7).long(), make_progress())
    assert all(torch.equal(v, before[k]) for k, v in method.named_buffers())


def test_generated_tokens_replace_the_missing_ones_only() -> None:
    method = MCMoE(TASK, TINY).eval()
    prediction = method(make_tokens(TASK, 7), PATTERNS)
    for m in range(3):
        there = PATTERNS[:, m]
        encoded = prediction.representations[f"tokens.{m}"]
        completed = prediction.representations[f"completed.{m}"]
        assert torch.equal(encoded[there], completed[there])
        assert not encoded[~there].any()
        assert completed[~there].any()
        assert (completed[~there] == completed[~there][:, :1]).all()


def test_learned_queries_generate_different_tokens() -> None:
    method = MCMoE(TASK, TINY.model_copy(update={"learned_query": True})).eval()
    completed = method(make_tokens(TASK, 7), PATTERNS).representations["completed.0"]
    assert completed[~PATTERNS[:, 0]].std(1).max() > 0


def test_without_generator_zeros_stand_in() -> None:
    method = MCMoE(TASK, TINY.model_copy(update={"generator": False})).eval()
    completed = method(make_tokens(TASK, 7), PATTERNS).representations["completed.2"]
    assert not completed[~PATTERNS[:, 2]].any()


def test_a_row_without_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one available modality, row 1"):
        MCMoE(TASK, TINY)(make_tokens(TASK, 2), PATTERNS[:2] & torch.tensor([[True], [False]]))


@pytest.mark.parametrize(
    ("d_model", "changes", "message"),
    [
        (16, {"heads": 3}, "heads must divide the width 16, got 3"),
        (18, {"heads": 2}, "generator_heads must divide the width 18, got 4"),
        (9, {"heads": 1, "generator_heads": 1}, "d_model must be even, got 9"),
    ],
)
def test_widths_that_do_not_fit_are_refused(
    d_model: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        MCMoE(replace(TASK, d_model=d_model), MCMoEConfig(**changes))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def core_formula(D: int, M: int, n_query: int) -> int:
    terms = [
        3 * (10 * D**2 + 12 * D) + 2 * D,
        3 * (14 * D**2 + 18 * D) + 2 * D,
        M * (10 * D**2 + 9 * D),
        M * (2 * D**2 + 9 * D // 2),
        D**2 // 2 + D // 2 + M * D // 2 + M,
        (2 * M + 2) * D**2 + 9 * D,
        2 * n_query * D + n_query,
    ]
    return sum(terms)


@pytest.mark.parametrize(
    ("d_model", "n_modalities", "total"), [(128, 3, 1_928_391), (256, 3, 7_674_247), (64, 4, None)]
)
def test_core_has_the_parameters_of_the_formula(
    d_model: int, n_modalities: int, total: int | None
) -> None:
    task = make_task(*repeat(image(n_tokens=9), n_modalities), d_model=d_model, n_classes=4)
    method = MCMoE(task, MCMoEConfig())
    core = count(method) - count(method.projection) - count(method.resample)
    assert core == core_formula(d_model, n_modalities, 4)
    assert total is None or core == total
    assert count(method.resample) == n_modalities * (9 * 32 * 3 + 32)


@pytest.mark.parametrize(
    ("modalities", "changes", "encoder", "n_classes", "total"),
    [
        (DERM7PT, {}, SWIN_T, 2, 35.636),
        (ODIR, {}, 0, 3, 8.812),
        (MEN, {"n_tokens": 48, "n_tokens_table": 16}, THREE_NNMAMBA, 3, 19.834),
    ],
)
def test_table4_totals(
    modalities: list[TokenSpec],
    changes: dict[str, int],
    encoder: int,
    n_classes: int,
    total: float,
) -> None:
    task = make_task(*modalities, d_model=256, n_classes=n_classes)
    method = MCMoE(task, MCMoEConfig(**{**MCMoE.presets["table4"], **changes}))
    assert round((n_parameters(method) + encoder) / 1e6, 3) == total


def test_table4_runs_with_unequal_lengths() -> None:
    method = MCMoE(TASK, MCMoEConfig(**MCMoE.presets["table4"]))
    terms = method.losses(make_tokens(TASK, 7), PATTERNS, torch.arange(7) % 2, make_progress())
    assert torch.stack(list(terms.values())).isfinite().all()


def configurations() -> Iterator[tuple[str, MCMoEConfig]]:
    yield "default", STILL
    yield "weighted", STILL.model_copy(update={"read_out": "weighted"})
    for name, changes in MCMoE.ablations.items():
        yield name, STILL.model_copy(update=dict(changes))


@pytest.mark.parametrize(("name", "config"), list(configurations()))
def test_every_ablation_trains_all_the_parameters_it_keeps(name: str, config: MCMoEConfig) -> None:
    method = MCMoE(TASK, config)
    observed = torch.ones(8, 3, dtype=torch.bool)
    for seed in range(3):
        terms = method.losses(
            make_tokens(TASK, 8), observed, torch.arange(8) % 2, make_progress(seed=seed)
        )
        torch.stack(list(terms.values())).sum().backward()
    gradients = {k: p.grad for k, p in method.named_parameters()}
    idle = {k for k, g in gradients.items() if g is None or g.abs().max() < 1e-6}
    assert idle == set(method.shift_invariant)


def test_ablations_remove_their_terms() -> None:
    observed = torch.ones(4, 3, dtype=torch.bool)
    found = {}
    for name, config in configurations():
        terms = MCMoE(TASK, config).losses(
            make_tokens(TASK, 4), observed, torch.arange(4) % 2, make_progress()
        )
        found[name] = set(terms)
    every = {"ce", "triplet", "gen_mse", "kl"}
    assert found["default"] == found["learned query"] == every
    assert found["w/o KL"] == every - {"kl"}
    assert found["w/o triplet"] == every - {"triplet"}
    assert found["w/o generator"] == found["w/o generation error"] == every - {"gen_mse"}


@pytest.mark.parametrize("n_tokens", [1, 4])
def test_a_training_batch_of_two_rows_works(n_tokens: int) -> None:
    method = MCMoE(TASK, TINY.model_copy(update={"n_tokens": n_tokens}))
    observed = torch.tensor([[True, False, False], [True, True, False]])
    terms = method.losses(make_tokens(TASK, 2), observed, torch.tensor([0, 1]), make_progress())
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("n_modalities", [1, 2, 4])
def test_any_number_of_modalities_runs(n_modalities: int) -> None:
    task = make_task(*repeat(image(), n_modalities), d_model=16)
    available = torch.eye(n_modalities, dtype=torch.bool)
    logits = MCMoE(task, TINY).eval()(make_tokens(task, n_modalities), available).logits
    assert logits.isfinite().all()


def test_a_trained_router_differs_by_token_and_the_loss_falls() -> None:
    task = make_task(image("a", 2, 4), image("b", 2, 4), d_model=16)
    method = MCMoE(task, STILL.model_copy(update={"n_tokens": 2}))
    label = torch.arange(32) % 2
    tokens = make_tokens(task, 32)
    for each, sign in zip(tokens, (1.0, -1.0), strict=True):
        each.values.nan_to_num_().add_(sign * (2.0 * label[:, None, None] - 1.0))
    observed = torch.ones(32, 2, dtype=torch.bool)
    history = train(method, tokens, observed, label, make_progress(), steps=50, lr=3e-3)
    losses = [sum(terms.values()) for terms in history]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert method.router is not None
    encoded = method.eval().encode(tokens, observed)
    weights = torch.cat([method.router(h).softmax(-1) for h in encoded])
    torch.testing.assert_close(weights.sum(-1), torch.ones(64, 2))
    assert weights[..., 0].std() > 0.02
