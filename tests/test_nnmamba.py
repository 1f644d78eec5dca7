"""nnMamba against its reference numbers, its parameter count and its symmetries."""

# B batch, L tokens, d model width, E inner width, N states

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.encoders import nnmamba
from bench.encoders.nnmamba import (
    GlobalBranch,
    Mamba,
    NNMamba,
    Stage,
    four_flips,
    gated_scan,
    in_two_levels,
    selective_scan,
    step_by_step,
)

SOLVERS = (step_by_step, in_two_levels)
Golden = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    """Return the reference numbers, float64."""
    with np.load(shared / "golden" / "nnmamba_selective_scan.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def block_of(golden: Golden) -> Mamba:
    block = Mamba(8, n_states=4).double()
    state = {name: golden[f"block_{name.replace('.', '_')}"] for name in block.state_dict()}
    block.load_state_dict(state)
    return block


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def scan_arguments(L: int = 7) -> tuple[Tensor, ...]:
    """Draw u, dt, A, B and C of 2 sequences, 3 channels and 2 states, with gradients."""
    drawn = (
        torch.randn(2, L, 3).double(),
        torch.rand(2, L, 3).double(),
        -torch.rand(3, 2).double(),
        torch.randn(2, L, 2).double(),
        torch.randn(2, L, 2).double(),
    )
    return tuple(x.requires_grad_() for x in drawn)


def triple_loop(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Write the recurrence down as the equations have it, one number at a time."""
    y = torch.zeros_like(u)
    for b in range(u.shape[0]):
        for e in range(u.shape[2]):
            for n in range(A.shape[1]):
                h = torch.zeros((), dtype=u.dtype)
                for t in range(u.shape[1]):
                    h = (dt[b, t, e] * A[e, n]).exp() * h + dt[b, t, e] * B[b, t, n] * u[b, t, e]
                    y[b, t, e] += C[b, t, n] * h
    return y.detach()


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_scan_and_its_gradients_are_those_of_the_reference(
    golden: Golden, solver: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nnmamba, "recurrence", solver)
    names = ("u", "dt_raw", "dt_bias", "A_log", "B", "C", "D", "z")
    given = {name: golden[f"scan_{name}"].clone().requires_grad_() for name in names}
    y = gated_scan(**given)
    torch.testing.assert_close(y, golden["scan_y"], atol=1e-10, rtol=0)
    (golden["scan_w"] * y).sum().backward()
    for name, x in given.items():
        torch.testing.assert_close(x.grad, golden[f"scan_grad_{name}"], atol=1e-10, rtol=0)


def test_the_block_and_its_four_flips_are_those_of_the_reference(golden: Golden) -> None:
    block = block_of(golden)
    torch.testing.assert_close(block(golden["block_x"]), golden["block_y"], atol=1e-10, rtol=0)
    flipped = four_flips(block, golden["block_x"])
    torch.testing.assert_close(flipped, golden["block_y4"], atol=1e-10, rtol=0)


def test_the_scan_is_the_recurrence_written_out() -> None:
    arguments = scan_arguments()
    torch.testing.assert_close(selective_scan(*arguments).detach(), triple_loop(*arguments))


def test_the_backward_pass_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(selective_scan, scan_arguments())


@pytest.mark.parametrize("L", [1, 2, 3, 10, 16, 17])
def test_two_levels_solve_what_single_steps_solve(L: int) -> None:
    a, b = torch.rand(2, L, 3, 4).double(), torch.randn(2, L, 3, 4).double()
    torch.testing.assert_close(in_two_levels(a, b), step_by_step(a, b), atol=1e-14, rtol=0)


def test_a_batch_worked_off_in_chunks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (nnmamba.MAX_STATES, 1):
        monkeypatch.setattr(nnmamba, "MAX_STATES", limit)
        torch.manual_seed(0)
        arguments = scan_arguments()
        y = selective_scan(*arguments)
        found.append([y, *torch.autograd.grad(y.square().sum(), arguments)])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(whole, chunked)


def test_the_scan_keeps_nothing_but_its_arguments() -> None:
    arguments = scan_arguments()
    kept: set[int] = set()

    def keep(x: Tensor) -> Tensor:
        kept.add(x.data_ptr())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        selective_scan(*arguments)
    assert kept == {x.data_ptr() for x in arguments}


def test_decays_that_vanish_leave_no_trace() -> None:
    a, b = torch.full((1, 50, 1, 1), 1e-30), torch.ones(1, 50, 1, 1)
    for solver in SOLVERS:
        assert torch.equal(solver(a, b), b)


def test_autocast_leaves_the_scan_in_float32() -> None:
    block, x = Mamba(16), torch.randn(2, 40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), block(x), atol=0.02, rtol=0.05)


def test_one_call_of_the_block_is_causal() -> None:
    block, x = Mamba(16), torch.randn(2, 12, 16)
    changed = x.clone()
    changed[:, 7:] = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x)[:, :7], block(changed)[:, :7])
    assert not torch.allclose(block(x)[:, 7:], block(changed)[:, 7:])


@pytest.mark.parametrize("axes", [(2,), (1,), (1, 2)])
def test_flipping_the_sequence_flips_the_four_flips(axes: tuple[int, ...]) -> None:
    block, x = Mamba(16).double(), torch.randn(2, 12, 16).double()
    expected = four_flips(block, x).flip(axes)
    torch.testing.assert_close(four_flips(block, x.flip(axes)), expected)


def test_the_states_decay_at_rates_1_to_n_and_steps_start_in_their_range() -> None:
    block = Mamba(32)
    torch.testing.assert_close(block.A_log.exp(), torch.arange(1.0, 17).repeat(64, 1))
    step = torch.nn.functional.softplus(block.dt_proj.bias)
    assert 1e-3 * 0.999 < step.min() < step.max() < 1e-1 * 1.001
    assert block.dt_proj.weight.abs().max() <= 2**-0.5


def test_the_parameters_are_those_of_the_paper_part_by_part() -> None:
    encoder = NNMamba()
    assert count(encoder) == 3_417_616
    assert 3 * count(encoder) == 10_252_848
    stages = [stage for stage in encoder.stages if isinstance(stage, Stage)]
    assert count(encoder.stem) == 7_440
    assert [count(stage) for stage in stages] == [165_120, 652_288, 2_592_768]
    assert [count(stage.down) for stage in stages] == [42_176, 168_320, 672_512]
    assert [count(stage.branch) for stage in stages] == [12_096, 41_088, 149_760]
    assert [count(stage.branch.mamba) for stage in stages] == [9_920, 32_640, 116_480]


def test_a_stage_has_one_global_branch_for_both_its_blocks() -> None:
    stage = Stage(4)
    assert sum(isinstance(module, GlobalBranch) for module in stage.modules()) == 1
    stage.train()(torch.randn(2, 4, 4, 4, 4))
    updates = {name: int(n) for name, n in stage.named_buffers() if "num_batches" in name}
    assert {n for name, n in updates.items() if name.startswith("branch.")} == {2}
    assert {n for name, n in updates.items() if not name.startswith("branch.")} == {1}


def test_the_branch_sees_the_input_of_the_block() -> None:
    stage = Stage(2).eval()
    seen: list[Tensor] = []
    stage.branch.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = torch.randn(1, 2, 4, 4, 4)
    stage(x)
    torch.testing.assert_close(seen[0], stage.down(x))
    torch.testing.assert_close(seen[1], stage.blocks[0](seen[0], stage.branch(seen[0])))


def test_every_stage_halves_the_volume_rounded_up_and_doubles_the_channels() -> None:
    encoder, shapes = NNMamba().eval(), []
    for module in (encoder.stem, *encoder.stages):
        module.register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape)))
    with torch.no_grad():
        encoder(torch.randn(1, 1, 24, 16, 16))
    assert shapes == [(1, 16, 12, 8, 8), (1, 32, 6, 4, 4), (1, 64, 3, 2, 2), (1, 128, 2, 1, 1)]


def test_gradients_reach_every_parameter() -> None:
    encoder = NNMamba(n_channels=2)
    encoder(torch.randn(2, 2, 8, 32, 16)).square().sum().backward()  # two tokens at the end
    dead = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias before a normalisation is a shift that the normalisation takes away again
    assert [name for name in dead if name not in ("stem.0.bias", "stem.3.bias")] == []
