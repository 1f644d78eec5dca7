"""SFusion against its reference numbers, its formulas and what it promises."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from bench.availability import subset_name, subsets
from bench.data import TokenSpec
from bench.errors import BadConfig
from bench.layers.pooling import pool_positions
from bench.layers.positions import sinusoidal_table
from bench.methods.sfusion import PLUGIN, FusionBlock, SFusion, SFusionConfig
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

GOLDEN = ["sfusion_s1_D16_L2_H4_P2_M3", "sfusion_s1_D32_L2_H4_P1_M3_pooled"]
SWIN_T = 27_519_354
THREE_NNMAMBA = 10_252_848
DERM7PT = [image("a", 49, 768), image("b", 49, 768), table(n_codes=(2,) * 5, d_token=1536)]
ODIR = [image("a", 256, 2048), image("b", 256, 2048), table(n_codes=(2,) * 2, d_token=1536)]
MEN = [image(name, 128, 128) for name in "abc"] + [table(n_codes=(2,) * 6, d_token=1536)]


TASK = make_task(image(n_tokens=5), table(), image("third", 1, 7), d_model=16)
SMALL = SFusionConfig(n_layers=2)
PATTERNS = patterns(3)  # (7, 3)


def golden_block(path: Path) -> tuple[FusionBlock, dict[str, np.ndarray]]:
    arrays = dict(np.load(path))
    d_model, n_layers, heads, _, volume, n_modalities, _ = arrays["meta_D_L_H_P_vol_M_B"].tolist()
    config = SFusionConfig(n_layers=n_layers, heads=heads, n_positions=volume**3)
    block = FusionBlock(n_modalities, d_model, config).double().eval()
    block.load_state_dict({block_name(k): torch.tensor(v) for k, v in weights_of(arrays, "sd__")})
    return block, arrays


def weights_of(arrays: dict[str, np.ndarray], prefix: str) -> list[tuple[str, np.ndarray]]:
    found = [(k.removeprefix(prefix), v) for k, v in arrays.items() if k.startswith(prefix)]
    return [(k, v[:, :, 0, 0, 0] if "conv_3d" in k else v) for k, v in found]


def block_name(official: str) -> str:
    renamed = official.replace("upsample.conv_3d", "to_logits")
    return renamed.replace("fusion_block.", "encoder.")


def as_tokens(maps: np.ndarray) -> Tensor:
    return rearrange(torch.tensor(maps), "b d x y z -> b (x y z) d")


def golden_inputs(arrays: dict[str, np.ndarray], available: Tensor) -> Tensor:
    tokens = torch.stack([as_tokens(arrays[f"x{m}"]) for m in range(3)], dim=1)
    return tokens * available[:, :, None, None]


def close(found: Tensor, expected: Tensor | np.ndarray) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-9, atol=1e-10)


def test_position_table_equals_the_reference(shared: Path) -> None:
    expected = np.load(shared / "golden/sfusion_pe_table.npz")["pe_T147_D128"][0]
    torch.testing.assert_close(
        sinusoidal_table(147, 128), torch.tensor(expected), rtol=0.0, atol=1e-6
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_block_equals_the_reference_on_every_subset(shared: Path, name: str) -> None:
    block, arrays = golden_block(shared / f"golden/{name}.npz")
    for subset in subsets(3):
        key = subset_name(subset)
        available = torch.zeros(len(arrays["x0"]), 3, dtype=torch.bool)
        available[:, list(subset)] = True
        fused, weights = block(golden_inputs(arrays, available), available)
        close(fused, as_tokens(arrays[f"out_{key}"]))
        expected = [as_tokens(each) for each in arrays[f"weights_{key}"]]
        close(weights[:, list(subset)], torch.stack(expected, dim=1))


@pytest.mark.parametrize("name", GOLDEN)
def test_block_equals_the_reference_with_another_subset_in_each_row(
    shared: Path, name: str
) -> None:
    block, arrays = golden_block(shared / f"golden/{name}.npz")
    n_rows = len(arrays["x0"])
    for first in range(7):
        chosen = [subsets(3)[(first + 3 * row) % 7] for row in range(n_rows)]
        available = torch.tensor([[m in subset for m in range(3)] for subset in chosen])
        fused, _ = block(golden_inputs(arrays, available), available)
        expected = [as_tokens(arrays[f"out_{subset_name(s)}"])[i] for i, s in enumerate(chosen)]
        close(fused, torch.stack(expected))


@pytest.mark.parametrize("name", GOLDEN)
def test_gradients_equal_the_reference(shared: Path, name: str) -> None:
    block, arrays = golden_block(shared / f"golden/{name}.npz")
    available = torch.ones(len(arrays["x0"]), 3, dtype=torch.bool)
    tokens = golden_inputs(arrays, available).requires_grad_()
    fused, _ = block(tokens, available)
    (fused * as_tokens(arrays["cotangent"])).sum().backward()
    assert tokens.grad is not None
    for m in range(3):
        close(tokens.grad[:, m], as_tokens(arrays[f"gradx{m}_012"]))
    expected = {block_name(k): v for k, v in weights_of(arrays, "gradp__")}
    found = {k: v.grad for k, v in block.named_parameters() if v.grad is not None}
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        close(found[key], gradient)


def test_one_modality_passes_unchanged_and_leaves_the_block_untrained() -> None:
    block = FusionBlock(3, 16, SMALL).train()
    available = torch.eye(3, dtype=torch.bool)
    tokens = torch.randn(3, 3, 1, 16) * available[:, :, None, None]
    fused, _ = block(tokens, available)
    fused.square().sum().backward()
    assert torch.equal(fused, tokens[torch.arange(3), torch.arange(3)])
    assert all(p.grad is None or not p.grad.any() for p in block.parameters())


def test_weights_sum_to_one_over_the_available() -> None:
    tokens = torch.randn(7, 3, 4, 16) * PATTERNS[:, :, None, None]
    _, weights = FusionBlock(3, 16, SFusionConfig(n_layers=1, n_positions=4))(tokens, PATTERNS)
    torch.testing.assert_close(weights.sum(1), torch.ones(7, 4, 16))
    assert not weights[~PATTERNS].any()


def test_mean_fusion_is_the_mean_of_the_available() -> None:
    tokens = torch.tensor([[[[2.0]], [[6.0]], [[0.0]]]])
    available = torch.tensor([[True, True, False]])
    fused, _ = FusionBlock(3, 1, SFusionConfig(mean_fusion=True))(tokens, available)
    assert fused.item() == 4.0


def test_without_attention_and_convolution_the_tokens_weigh_themselves() -> None:
    config = SFusionConfig(attention=False, conv=False)
    tokens = torch.tensor([[[[0.0]], [[math.log(3.0)]]]])
    fused, weights = FusionBlock(2, 1, config)(tokens, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(fused.item(), 0.75 * math.log(3.0))


def test_rank_positions_do_not_tell_which_modality_is_missing_and_slots_do() -> None:
    tokens = torch.randn(1, 2, 1, 16)
    zero = torch.zeros(1, 1, 1, 16)
    first = torch.cat([tokens, zero], 1), torch.tensor([[True, True, False]])
    last = torch.cat([zero, tokens], 1), torch.tensor([[False, True, True]])
    for position, same in (("rank", True), ("slot", False), ("none", True)):
        torch.manual_seed(0)
        config = SFusionConfig(n_layers=1, position=position)
        block = FusionBlock(3, 16, config).eval()
        one, other = (block(*inputs)[0] for inputs in (first, last))
        assert torch.allclose(one, other, atol=1e-6) == same


def test_pooling_averages_valid_tokens_per_bin() -> None:
    x = torch.tensor([[[1.0], [3.0], [5.0], [9.0]]])
    valid = torch.tensor([[True, True, False, True]])
    assert pool_positions(x, valid, 1).flatten().tolist() == pytest.approx([13 / 3])
    assert pool_positions(x, valid, 2).flatten().tolist() == [2.0, 9.0]
    expected = torch.nn.functional.adaptive_avg_pool1d(x.mT, 3).flatten()
    torch.testing.assert_close(pool_positions(x, torch.ones_like(valid), 3).flatten(), expected)


def test_a_bin_without_valid_tokens_takes_the_mean_of_the_rest() -> None:
    x = torch.tensor([[[1.0], [3.0], [0.0], [0.0]]])
    valid = torch.tensor([[True, True, False, False]])
    assert pool_positions(x, valid, 2).flatten().tolist() == [2.0, 2.0]
    assert not pool_positions(x, torch.zeros_like(valid), 2).any()


@pytest.mark.parametrize("n_positions", [1, 2])
def test_absent_and_invalid_content_has_no_influence(n_positions: int) -> None:
    config = SFusionConfig(n_layers=2, n_positions=n_positions)
    method = SFusion(TASK, config).eval()
    tokens = make_tokens(TASK, 7)
    changed = polluted(tokens, PATTERNS, float("nan"))
    with torch.no_grad():
        assert torch.equal(method(tokens, PATTERNS).logits, method(changed, PATTERNS).logits)


def test_a_row_is_answered_alike_alone_and_in_a_batch() -> None:
    method = SFusion(TASK, SMALL).eval()
    tokens = make_tokens(TASK, 7)
    whole = method(tokens, PATTERNS).logits
    for row in range(7):
        index = torch.tensor([row])
        alone = method([each.rows(index) for each in tokens], PATTERNS[index]).logits
        torch.testing.assert_close(alone[0], whole[row], rtol=0.0, atol=1e-6)


def test_a_row_without_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one available modality, row 1"):
        SFusion(TASK, SMALL)(make_tokens(TASK, 2), PATTERNS[:2] & torch.tensor([[True], [False]]))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BadConfig, match="heads must divide the width 16, got 3"):
        SFusion(TASK, SFusionConfig(heads=3))


def block_formula(d: int, n_layers: int) -> int:
    return n_layers * (12 * d**2 + 13 * d) + d**2


@pytest.mark.parametrize(("d_model", "n_modalities"), [(16, 2), (64, 4)])
def test_block_has_the_parameters_of_the_formula(d_model: int, n_modalities: int) -> None:
    for n_layers in (1, 8):
        block = FusionBlock(n_modalities, d_model, SFusionConfig(n_layers=n_layers))
        assert sum(p.numel() for p in block.parameters()) == block_formula(d_model, n_layers)


@pytest.mark.parametrize(
    ("modalities", "encoder", "n_classes", "total", "total_default"),
    [
        (DERM7PT, SWIN_T, 2, 34_723_324, 34_756_476),
        (ODIR, 0, 3, 7_859_459, 7_892_739),
        (MEN, THREE_NNMAMBA, 3, 17_162_291, 17_195_571),
    ],
)
def test_table4_totals(
    modalities: list[TokenSpec], encoder: int, n_classes: int, total: int, total_default: int
) -> None:
    task = make_task(*modalities, d_model=256, n_classes=n_classes)
    table4 = SFusion(task, SFusionConfig(**SFusion.presets["table4"]))
    assert n_parameters(table4) + encoder == total
    assert n_parameters(SFusion(task, SFusionConfig())) + encoder == total_default


@pytest.mark.parametrize("name", sorted(SFusion.ablations))
def test_every_ablation_trains_all_the_parameters_it_keeps(name: str) -> None:
    method = SFusion(TASK, SFusionConfig(n_layers=2, p_drop=0.0, **SFusion.ablations[name]))
    observed = torch.ones(8, 3, dtype=torch.bool)
    label = torch.arange(8) % 2
    for seed in range(3):
        terms = method.losses(make_tokens(TASK, 8), observed, label, make_progress(seed=seed))
        torch.stack(list(terms.values())).sum().backward()
    idle = {k for k, p in method.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8}
    assert idle == set(method.shift_invariant)


def test_presets_build() -> None:
    for preset in PLUGIN.presets.values():
        SFusion(TASK, PLUGIN.config_class(**preset))


def test_layers_start_identical() -> None:
    encoder = FusionBlock(2, 16, SFusionConfig(n_layers=3)).encoder
    assert encoder is not None
    for one, other in pairwise(encoder.layers):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_one_modality_alone_runs() -> None:
    task = make_task(image(), d_model=16)
    logits = SFusion(task, SMALL)(make_tokens(task, 2), torch.ones(2, 1, dtype=torch.bool)).logits
    assert logits.isfinite().all()


def test_a_trained_block_weighs_modalities_by_case() -> None:
    task = make_task(image("a", 2, 4), image("b", 2, 4), d_model=16)
    method = SFusion(task, SFusionConfig(n_layers=2, p_drop=0.0))
    label = torch.arange(32) % 2
    tokens = make_tokens(task, 32)
    for each, sign in zip(tokens, (1.0, -1.0), strict=True):
        each.values.nan_to_num_().add_(sign * (2.0 * label[:, None, None] - 1.0))
    observed = torch.ones(32, 2, dtype=torch.bool)
    history = train(method, tokens, observed, label, make_progress(), steps=50, lr=3e-3)
    losses = [terms["ce"] for terms in history]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    _, weights = method.eval().block(method.pool(tokens, observed), observed)
    assert weights[:, 0].std(0).max() > 0.05
