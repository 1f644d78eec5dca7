"""Small synthetic tasks and tokens for the tests of attribute-level methods."""

# B batch, T tokens, A attributes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.availability import DropoutLaw, subsets
from bench.data import AttributeKind, Task, Tokens, TokenSpec
from bench.method import Method, Progress


def image(name: str = "image", n_tokens: int = 4, d_token: int = 6) -> TokenSpec:
    return TokenSpec(name, "image", n_tokens, d_token)


def table(
    name: str = "table",
    n_codes: tuple[int, ...] = (2, 3, 4),
    d_token: int = 5,
    slots: int = 1,
    value_tokens: Tensor | None = None,
) -> TokenSpec:
    A = len(n_codes)
    kinds: tuple[AttributeKind, ...] = tuple("categorical" for _ in n_codes)
    return TokenSpec(
        name,
        "table",
        A * slots,
        d_token,
        attribute=tuple(i for i in range(A) for _ in range(slots)),
        attribute_names=tuple(f"a{i}" for i in range(A)),
        attribute_kinds=kinds,
        n_codes=n_codes,
        value_tokens=value_tokens,
    )


def make_task(*specs: TokenSpec, n_classes: int = 2, d_model: int = 8) -> Task:
    return Task(specs, tuple(map(str, range(n_classes))), d_model)


def vector_task(*shapes: tuple[int, int], d_model: int = 16, n_classes: int = 2) -> Task:
    """Make a task of vectors, each modality with a number of tokens and their width."""
    specs = [TokenSpec(f"m{m}", "vector", n, width) for m, (n, width) in enumerate(shapes)]
    return make_task(*specs, n_classes=n_classes, d_model=d_model)


def table_tokens(spec: TokenSpec, codes: Tensor) -> Tokens:
    """Encode codes (B, A), -1 where unobserved: one fixed random vector per attribute and value."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(max(spec.n_codes), len(spec.attribute), spec.d_token, generator=generator)
    slot = torch.tensor(spec.attribute)
    seen = codes[:, slot] >= 0  # (B, T)
    values = vectors[codes[:, slot].clamp(min=0), torch.arange(len(slot))]
    values = values.masked_fill(~seen[..., None], float("nan"))
    numbers = codes.float().masked_fill(codes < 0, float("nan"))
    return Tokens(values, seen, slot, codes, numbers)


def make_tokens(
    task: Task, n_rows: int, *, p_attribute: float = 0.7, p_token: float = 0.8
) -> list[Tokens]:
    """Draw tokens with gaps; every modality keeps at least one token per row."""
    return [
        _random_table(spec, n_rows, p_attribute)
        if spec.kind == "table"
        else _random_image(spec, n_rows, p_token)
        for spec in task.modalities
    ]


def complete_tokens(task: Task, n_rows: int) -> list[Tokens]:
    """Draw tokens of vectors, all of them valid."""
    return [
        Tokens(
            torch.randn(n_rows, spec.n_tokens, spec.d_token),
            torch.ones(n_rows, spec.n_tokens, dtype=torch.bool),
            torch.full((spec.n_tokens,), -1),
            torch.zeros(n_rows, 0, dtype=torch.long),
            torch.zeros(n_rows, 0),
        )
        for spec in task.modalities
    ]


def _random_table(spec: TokenSpec, n_rows: int, p_attribute: float) -> Tokens:
    codes = torch.stack([torch.randint(0, n, (n_rows,)) for n in spec.n_codes], dim=1)
    seen = torch.rand(codes.shape) < p_attribute
    seen[:, 0] |= ~seen.any(1)
    return table_tokens(spec, codes.masked_fill(~seen, -1))


def _random_image(spec: TokenSpec, n_rows: int, p_token: float) -> Tokens:
    valid = torch.rand(n_rows, spec.n_tokens) < p_token
    valid[:, 0] = True
    values = torch.randn(n_rows, spec.n_tokens, spec.d_token)
    values = values.masked_fill(~valid[..., None], float("nan"))
    none = torch.zeros(n_rows, 0)
    return Tokens(values, valid, torch.full((spec.n_tokens,), -1), none.long(), none)


def make_progress(
    stage: str = "train", *, seed: int = 0, dropout: DropoutLaw | None = None
) -> Progress:
    return Progress(stage, 0, 0, 1, torch.Generator().manual_seed(seed), dropout)


def patterns(n_modalities: int) -> Tensor:
    """All availability patterns but the empty one: (2^M - 1, M) bool."""
    return torch.tensor(
        [[m in subset for m in range(n_modalities)] for subset in subsets(n_modalities)]
    )


def polluted(tokens: Sequence[Tokens], available: Tensor, content: float) -> list[Tokens]:
    """Replace all that may not be read: absent modalities, and slots of what is unobserved."""
    found = []
    for m, each in enumerate(tokens):
        there = each.valid & available[:, m, None]
        gone = ~available[:, m, None] | (each.codes < 0)
        found.append(
            replace(
                each,
                values=each.values.masked_fill(~there[..., None], content),
                valid=each.valid | ~available[:, m, None],
                codes=each.codes.masked_fill(gone, 1),
                numbers=each.numbers.masked_fill(gone, content),
            )
        )
    return found


def without_dropout(method: Method) -> Method:
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


def n_parameters(method: nn.Module) -> int:
    return sum(each.numel() for each in method.parameters() if each.requires_grad)


def train(
    method: Method,
    tokens: Sequence[Tokens],
    observed: Tensor,
    label: Tensor,
    progress: Progress,
    *,
    steps: int,
    lr: float = 1e-2,
    prefixes: tuple[str, ...] = ("",),
) -> list[dict[str, float]]:
    """Train on one batch; only parameters whose `method.` name starts with a prefix move."""
    chosen = [p for name, p in method.named_parameters() if f"method.{name}".startswith(prefixes)]
    optimiser = torch.optim.Adam(chosen, lr=lr)
    history = []
    for _ in range(steps):
        terms = method.losses(tokens, observed, label, progress)
        optimiser.zero_grad()
        total(terms).backward()
        optimiser.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    return history


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradient_names(method: Method) -> set[str]:
    """Name the parameters whose gradient is not zero."""
    return {
        name
        for name, parameter in method.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    }
