"""What a model costs: parameters, multiply-accumulates, time and memory of a forward pass.

One multiply-accumulate (MAC) is two FLOPs; many papers print MACs and call them FLOPs. Counted are
matrix products, convolutions and attention, which is nearly all; not additions, activations and
normalisation.

Attention in evaluation mode runs in fused kernels that torch's counter does not know: it counts 0
without a word. So those are off while counting, and a layer that must cost something but counts 0
is an error.
"""

# B batch, M modalities

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.availability import Subset, subsets
from bench.encoders import Inputs
from bench.engine.inference import Model
from bench.errors import BenchError

COSTLY = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
N_WARM_UP = 2  # passes before time is taken

Run = Callable[[], object]


class Uncounted(BenchError):
    """A layer that costs something was counted as 0, so the total would be wrong."""


@dataclass(frozen=True)
class Cost:
    """One forward pass on one availability pattern."""

    macs: int  # per case, encoders included
    encoder_macs: int  # per case
    seconds: float | None = None  # per case, median; None: not measured
    peak_bytes: int | None = None  # of the whole batch, beside weights and inputs


@dataclass(frozen=True)
class Complexity:
    """What a model costs, complete and per subset."""

    n_trainable: int
    n_parameters: int
    n_method: int  # parameters of the method alone, without the encoders
    costs: Mapping[Subset, Cost]

    @property
    def complete(self) -> Cost:
        """The cost of a case that has everything."""
        return self.costs[max(self.costs, key=len)]


def measure(
    model: Model, inputs: Inputs, *, timed: Sequence[Subset], n_repeats: int, n_models: int = 1
) -> Complexity:
    """Measure a model on a batch of complete cases, and on each subset of their modalities.

    Args:
        model: on the device of the inputs; set to evaluation mode.
        inputs: B cases, all of which have all M modalities.
        timed: subsets whose time and memory are taken too.
        n_repeats: timed passes, of which the median counts.
        n_models: trained copies of the model of which one answers (a specialist per subset).

    Raises:
        Uncounted: a layer of known cost counts 0.
    """
    model.eval()
    parameters = list(model.parameters())
    costs = {
        subset: _cost(model, inputs, subset, n_repeats if subset in timed else 0)
        for subset in subsets(inputs.observed.shape[1])
    }
    return Complexity(
        n_models * sum(p.numel() for p in parameters if p.requires_grad),
        n_models * sum(p.numel() for p in parameters),
        n_models * sum(p.numel() for p in model.method.parameters()),
        costs,
    )


def _cost(model: Model, inputs: Inputs, subset: Subset, n_repeats: int) -> Cost:
    kept = torch.zeros_like(inputs.observed)
    kept[:, list(subset)] = True
    batch = inputs.restrict(kept)
    one = batch.rows(torch.zeros(1, dtype=torch.long, device=kept.device))
    encoder_macs = count_macs(model, partial(model.encode, one))
    macs = count_macs(model, partial(_forward, model, one))
    if not n_repeats:
        return Cost(macs, encoder_macs)
    run = partial(_forward, model, batch)
    seconds = median_seconds(run, kept.device, n_repeats) / len(kept)
    held = [*model.parameters(), *model.buffers(), *_tensors(batch)]
    return Cost(macs, encoder_macs, seconds, peak_bytes(run, kept.device, held))


def _forward(model: Model, batch: Inputs) -> Tensor:
    return model.method(model.encode(batch), batch.observed).logits


def _tensors(batch: Inputs) -> list[Tensor]:
    found = [batch.observed, *(x for each in batch.content for x in vars(each).values())]
    return [x for x in found if x is not None]


# --- multiply-accumulates ---------------------------------------------------------------------


def count_macs(model: nn.Module, run: Run) -> int:
    """Count the multiply-accumulates of one call, without gradients.

    Args:
        model: the module whose layers are watched.
        run: calls it.

    Raises:
        Uncounted: a layer of known cost counts 0.
    """
    counter = FlopCounterMode(display=False)
    with _watched(model, counter) as silent, _countable(model), counter:
        run()
    if silent:
        raise Uncounted(
            f"{len(silent)} layers that cost something count 0 operations, first {silent[0]}; "
            "torch's counter does not know their kernel, so the total would be too small"
        )
    return int(counter.get_total_flops()) // 2


@contextmanager
def _countable(model: nn.Module) -> Iterator[None]:
    """Have attention run in products that the counter knows.

    Parameters do not train meanwhile: the counter would hang hooks on their gradients, which a view
    of one made without gradients cannot take.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    training = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.backends.mha.set_fastpath_enabled(False)
    model.requires_grad_(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in training:
            parameter.requires_grad_(True)


@contextmanager
def _watched(model: nn.Module, counter: FlopCounterMode) -> Iterator[list[str]]:
    """List the costly layers that ran on something and added nothing to the counter."""
    silent: list[str] = []
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, COSTLY):
            watch = _Watch(f"{name or 'the model'} ({type(layer).__name__})", counter, silent)
            hooks.append(layer.register_forward_pre_hook(watch.before))
            hooks.append(layer.register_forward_hook(watch.after, with_kwargs=True))
    try:
        yield silent
    finally:
        for hook in hooks:
            hook.remove()


class _Watch:
    """Tells whether a call of one layer adds to the counter."""

    def __init__(self, name: str, counter: FlopCounterMode, silent: list[str]):
        self.name = name
        self.counter = counter
        self.silent = silent
        self.count = 0

    def before(self, layer: nn.Module, args: Any) -> None:
        """Note where the counter stands."""
        self.count = self.counter.get_total_flops()

    def after(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Name the layer if the counter stands still, unless it was called with no rows."""
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if all(x.numel() for x in given) and self.counter.get_total_flops() == self.count:
            self.silent.append(self.name)


# --- time and memory --------------------------------------------------------------------------


def median_seconds(run: Run, device: torch.device, n_repeats: int) -> float:
    """Return the median time of a call, after two that do not count."""
    times = []
    with torch.inference_mode():
        for _ in range(N_WARM_UP + n_repeats):
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            times.append(time.perf_counter() - started)
    return median(times[N_WARM_UP:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(run: Run, device: torch.device, held: Sequence[Tensor] = ()) -> int:
    """Return the most memory that tensors made during a call took at one time.

    On CUDA it is the allocator's peak. Elsewhere live tensors are counted one by one, so what a
    kernel needs within itself is left out. The size of the process would tell nothing: it keeps
    what it once had.

    Args:
        run: the call.
        device: where it computes.
        held: tensors that live anyway (weights, inputs), so that views of them cost nothing.
    """
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.no_grad():
            run()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.no_grad(), _LiveTensors(held) as live:
        run()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Add up the storages of the tensors that operations return, until they are gone."""

    def __init__(self, held: Sequence[Tensor]):
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in held}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._note(x.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += n_bytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, n_bytes).atexit = False

    def _forget(self, key: int, n_bytes: int) -> None:
        self.known.discard(key)
        self.now -= n_bytes
