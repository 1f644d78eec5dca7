"""nnMamba: a small 3-D residual network with a state-space branch over all voxels of a stage.

Beside the convolutions of a block, the voxels of its input are read as one sequence, four times:
as it is, with channels reversed, with tokens reversed, with both. One Mamba block reads all four;
the results are turned back and averaged.

Source: Gong et al., "nnMamba: 3D Biomedical Image Segmentation, Classification and Landmark
Detection with State Space Model", ISBI 2025, arXiv 2402.03526; the Mamba block: Gu and Dao,
arXiv 2312.00752. CMML (arXiv 2605.25968) encodes volumes with "nnMamba" and prints no widths. These
are the downsampling half of the segmentation network at base width 16, as in CFCML by the same
first author (arXiv 2603.20016): 3,417,616 parameters, and CMML's three encoders have 10,252,848.
Departures: the scan is plain PyTorch with a backward pass of its own instead of a CUDA kernel; the
library's tags for "no weight decay" on A and D are not set, as CFCML ignores them.
"""

# B batch, C channels, X Y Z axes of a volume, L tokens, d model width, E inner width, N states,
# R step rank, S chunks of a sequence, K steps of a chunk

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BASE_WIDTH = 16
N_STAGES = 3
N_STATES = 16
D_CONV = 4  # steps that the causal convolution sees
EXPAND = 2
STEP_RANGE = (1e-3, 1e-1)  # of dt at the start
MIN_STEP = 1e-4
MAX_STATES = 2**27  # numbers of one state tensor at a time: 512 MiB


class NNMamba(nn.Module):
    """Encode volumes (B, C, X, Y, Z) as (B, 128, X / 16, Y / 16, Z / 16), sizes rounded up."""

    def __init__(self, n_channels: int = 1):
        super().__init__()
        width = BASE_WIDTH
        self.stem = nn.Sequential(
            nn.Conv3d(n_channels, width, 3, stride=2, padding=1),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*(Stage(width * 2**s) for s in range(N_STAGES)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map; there is no pooling and no final norm."""
        return self.stages(self.stem(x))


class Stage(nn.Module):
    """Halve the volume, double the channels, then two blocks that share ONE global branch.

    The branch counts once in the parameters, and its two normalisations see the inputs of both
    blocks in turn.
    """

    def __init__(self, width: int):
        super().__init__()
        self.down = ResidualBlock(width, 2 * width, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(2 * width, 2 * width) for _ in range(2))
        self.branch = GlobalBranch(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to (B, 2 C, X / 2, Y / 2, Z / 2)."""
        x = self.down(x)
        for block in self.blocks:
            x = block(x, self.branch(x))
        return x


class ResidualBlock(nn.Module):
    """Two convolutions and a skip: the input itself, or its projection where the shape changes."""

    def __init__(self, d_in: int, d_out: int, stride: int = 1):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(d_in, d_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(d_out),
            nn.ReLU(),
            nn.Conv3d(d_out, d_out, 3, padding=1, bias=False),
            nn.BatchNorm3d(d_out),
        )
        self.skip = nn.Identity() if stride == 1 else _pointwise(d_in, d_out, stride)

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """Map (B, C, X, Y, Z); `branch` is added before the last ReLU."""
        y = self.convolutions(x)
        return F.relu((y if branch is None else y + branch) + self.skip(x))


def _pointwise(d_in: int, d_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(d_in, d_out, 1, stride=stride, bias=False), nn.BatchNorm3d(d_out)
    )


class GlobalBranch(nn.Module):
    """Let every voxel of a map see every other one, in the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.before = _pointwise(width, width)
        self.mamba = Mamba(width)
        self.after = _pointwise(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to the same shape; the last axis runs fastest in the sequence."""
        a = F.relu(self.before(x))
        tokens = rearrange(a, "b c x y z -> b (x y z) c")
        mixed = four_flips(self.mamba, tokens)
        m = rearrange(mixed, "b (x y z) c -> b c x y z", x=x.shape[2], y=x.shape[3])
        return F.relu(self.after(m + a))


def four_flips(mamba: nn.Module, x: Tensor) -> Tensor:
    """Average the block over x as it is, channels reversed, tokens reversed, and both.

    Args:
        mamba: maps (B, L, d) to (B, L, d), row by row.
        x: (B, L, d).
    """
    axes = ((), (2,), (1,), (1, 2))
    y = mamba(torch.cat([x.flip(each) for each in axes]))  # (4 B, L, d)
    turned_back = [part.flip(each) for part, each in zip(y.chunk(4), axes, strict=True)]
    return torch.stack(turned_back).mean(0)


class Mamba(nn.Module):
    """A selective state-space block on sequences (B, L, d), causal in L."""

    def __init__(self, d_model: int, n_states: int = N_STATES):
        super().__init__()
        inner, self.rank, self.n_states = EXPAND * d_model, math.ceil(d_model / 16), n_states
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, D_CONV, padding=D_CONV - 1, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * n_states, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, n_states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._start_steps()

    @torch.no_grad()
    def _start_steps(self) -> None:
        """Let softplus(bias) be log-uniform in `STEP_RANGE`."""
        bound = self.rank**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        low, high = map(math.log, STEP_RANGE)
        step = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp().clamp(min=MIN_STEP)
        self.dt_proj.bias.copy_(step + (-torch.expm1(-step)).log())  # inverse of softplus

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, d) to (B, L, d); the output at t depends on the inputs up to t."""
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E) each
        u = self.conv1d(u.mT)[..., : x.shape[1]].mT  # padded on both sides: keep what is causal
        u = F.silu(u)
        q, B, C = self.x_proj(u).split([self.rank, self.n_states, self.n_states], dim=-1)
        dt = F.linear(q, self.dt_proj.weight)  # the bias joins in float32
        y = gated_scan(u, dt, self.dt_proj.bias, self.A_log, B, C, self.D, z)
        return self.out_proj(y.to(x.dtype))


def gated_scan(
    u: Tensor,
    dt_raw: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
) -> Tensor:
    """Scan with step softplus(dt_raw + dt_bias) and A = -exp(A_log), add D u, gate with SiLU(z).

    At least float32 even under autocast: products over thousands of steps do not survive less.

    Args:
        u: (B, L, E), as are dt_raw and z.
        dt_raw: the step before bias and softplus.
        dt_bias: (E,), as is D.
        A_log: (E, N).
        B: (B, L, N), as is C; shared by all E channels.
        C: how the states are read.
        D: weight of the input itself.
        z: the gate.

    Returns:
        (B, L, E).
    """
    with torch.autocast(u.device.type, enabled=False):
        wide = torch.promote_types(u.dtype, torch.float32)
        u, dt_raw, B, C, z = (x.to(wide) for x in (u, dt_raw, B, C, z))
        y = selective_scan(u, F.softplus(dt_raw + dt_bias), -A_log.exp(), B, C)
        return (y + D * u) * F.silu(z)


def selective_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return y_t = C_t h_t of h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t, h_0 = 0: (B, L, E).

    Args:
        u: (B, L, E), as is dt > 0.
        dt: step sizes.
        A: (E, N), negative.
        B: (B, L, N), as is C.
        C: how the states are read.
    """
    return _SelectiveScan.apply(u, dt, A, B, C)


class _SelectiveScan(Function):
    """The scan with a backward pass that computes the states again instead of keeping them.

    Autograd would keep several (B, L, E, N) tensors per call; this keeps the arguments alone. The
    batch is worked off in chunks, so that no state tensor has more than `MAX_STATES` numbers.
    """

    @staticmethod
    def forward(ctx, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u, dt, A, B, C)
        return torch.cat([_read_out(*rows) for rows in _chunks(u, dt, A, B, C)])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        chunks = _chunks(*ctx.saved_tensors, gradient)
        u, dt, A, B, C = zip(*(_gradients(*rows) for rows in chunks), strict=True)
        return torch.cat(u), torch.cat(dt), torch.stack(A).sum(0), torch.cat(B), torch.cat(C)


def _chunks(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *more: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    n_rows = max(1, MAX_STATES // max(1, u.shape[1] * A.numel()))
    for start in range(0, len(u), n_rows):
        rows = slice(start, start + n_rows)
        yield u[rows], dt[rows], A, B[rows], C[rows], *(x[rows] for x in more)


def _terms(u: Tensor, dt: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Return decay and input of the states: (B, L, E, N) each."""
    return (dt.unsqueeze(-1) * A).exp_(), (dt * u).unsqueeze(-1) * B.unsqueeze(-2)


def _read_out(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    h = recurrence(*_terms(u, dt, A, B))
    return torch.einsum("blen,bln->ble", h, C)


def _gradients(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, gy: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of u, dt, A, B and C, from that of y: (B, L, E).

    g_t = C_t gy_t + a_(t+1) g_(t+1) is the gradient of h_t: the same recurrence, backwards.
    """
    a, b = _terms(u, dt, A, B)
    h = recurrence(a, b)
    grad_C = torch.einsum("ble,blen->bln", gy, h)
    a_next = F.pad(a[:, 1:], (0, 0, 0, 0, 0, 1))
    g = recurrence(a_next.flip(1), (gy.unsqueeze(-1) * C.unsqueeze(-2)).flip(1)).flip(1)
    w = F.pad(h[:, :-1], (0, 0, 0, 0, 1, 0)).mul_(a).mul_(g)  # g_t a_t h_(t-1)
    g_B = torch.einsum("blen,bln->ble", g, B)
    grad_dt = torch.einsum("blen,en->ble", w, A) + u * g_B
    grad_A = torch.einsum("blen,ble->en", w, dt)
    grad_B = torch.einsum("blen,ble->bln", g, dt * u)
    return dt * g_B, grad_dt, grad_A, grad_B, grad_C


def recurrence(a: Tensor, b: Tensor) -> Tensor:
    """Solve h_t = a_t h_(t-1) + b_t along dim 1, h before the first step 0.

    On a CPU step by step, elsewhere in two levels: there the number of steps is the cost.

    Args:
        a: (B, L, E, N), as is b.
        b: what each step adds.
    """
    return (step_by_step if a.device.type == "cpu" else in_two_levels)(a, b)


def step_by_step(a: Tensor, b: Tensor) -> Tensor:
    """Solve the recurrence in L steps; see `recurrence`."""
    h = torch.zeros_like(b[:, 0])
    states = []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        h = torch.addcmul(b_t, a_t, h)
        states.append(h)
    return torch.stack(states, dim=1)


def in_two_levels(a: Tensor, b: Tensor) -> Tensor:
    """Solve the recurrence in about 2 sqrt(L) steps; see `recurrence`.

    All chunks are stepped at once from zero, then what each hands on is carried through them.
    """
    L, n_steps = a.shape[1], math.isqrt(a.shape[1])
    padding = (0, 0, 0, 0, 0, -L % n_steps)
    a = F.pad(a, padding, value=1.0).unflatten(1, (-1, n_steps))  # (B, S, K, E, N)
    b = F.pad(b, padding).unflatten(1, (-1, n_steps))
    h, decay = torch.zeros_like(b[:, :, 0]), torch.ones_like(a[:, :, 0])
    states, decays = [], []
    for a_k, b_k in zip(a.unbind(2), b.unbind(2), strict=True):
        h, decay = torch.addcmul(b_k, a_k, h), decay * a_k
        states.append(h)
        decays.append(decay)
    carry = step_by_step(decay, h)  # (B, S, E, N), the true state at the end of each chunk
    carry = F.pad(carry[:, :-1], (0, 0, 0, 0, 1, 0)).unsqueeze(2)
    solved = torch.addcmul(torch.stack(states, 2), torch.stack(decays, 2), carry)
    return solved.flatten(1, 2)[:, :L]
