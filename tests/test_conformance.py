"""Every method of the registry keeps every promise; broken toys do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bench.blocks import Head, PooledProjection
from bench.conformance import check_method
from bench.conformance.networks import METHOD_CHECKS
from bench.conformance.shallow import SHALLOW_CHECKS
from bench.conformance.suite import _check
from bench.data import Task, Tokens
from bench.method import Config, Method, Prediction, Progress, ShallowMethod
from bench.registry import Registry

REGISTRY = Registry()
NAMES = REGISTRY.names("method")
DEEP = [name for name in NAMES if not issubclass(REGISTRY.load("method", name), ShallowMethod)]
SHALLOW = sorted(set(NAMES) - set(DEEP))


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DEEP)
def test_method_keeps_the_promise(name, check):
    outcome = _check(check, REGISTRY.load("method", name))
    assert outcome.passed, outcome.detail


@pytest.mark.parametrize("check", SHALLOW_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SHALLOW)
def test_shallow_method_keeps_the_promise(name, check):
    outcome = _check(check, REGISTRY.load("method", name))
    assert outcome.passed, outcome.detail


class Honest(Method):
    """The least that keeps all promises."""

    name = "honest"
    display_name = "Honest"
    config_class = Config

    def __init__(self, task: Task, config: Config):
        super().__init__(task, config)
        self.pool = PooledProjection(task)
        self.head = Head(task.d_model, task.d_model, task.n_classes)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        if not available.any(1).all():
            raise ValueError("a row without any modality")
        return Prediction(self.head(self.pool(tokens, available).sum(1)))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        return {"ce": progress.cross_entropy(self(tokens, observed).logits, label)}


class Leaky(Honest):
    """Reads the tokens without asking whether they are there."""

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        honest = super().forward(tokens, available).logits
        return Prediction(honest + tokens[0].values.mean((1, 2)).nan_to_num()[:, None])


class BatchBound(Honest):
    """Lets the mean of the batch into each prediction."""

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        logits = super().forward(tokens, available).logits
        return Prediction(logits + logits.mean(0))


class Counting(Honest):
    """Counts its forward passes, in evaluation too."""

    count: Tensor

    def __init__(self, task: Task, config: Config):
        super().__init__(task, config)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        self.count += 1
        return super().forward(tokens, available)


class Idle(Honest):
    """Holds a parameter that nothing uses."""

    def __init__(self, task: Task, config: Config):
        super().__init__(task, config)
        self.unused = torch.nn.Parameter(torch.zeros(3))


class Willing(Honest):
    """Predicts a case that has nothing."""

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        return Prediction(self.head(self.pool(tokens, available).sum(1)))


def test_the_least_honest_method_passes():
    assert [check.name for check in check_method(Honest) if not check.passed] == []


@pytest.mark.parametrize(
    ("toy", "promise"),
    [
        (Leaky, "absent content has no influence"),
        (BatchBound, "batch mates have no influence"),
        (Counting, "validation changes no buffer"),
        (Idle, "every parameter learns"),
        (Willing, "empty pattern is refused"),
    ],
)
def test_a_broken_promise_is_named(toy, promise):
    failed = [check.name for check in check_method(toy) if not check.passed]
    assert promise in failed
