"""One learned token per attribute of a table.

Source: Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (2021), the feature
tokenizer of section 3.3: a number scales a learned direction, a category picks a learned vector,
and both get a bias per attribute. Departure: a value never seen in training (code 0) starts as the
zero vector, so that its token is the bias alone and not untrained noise.
"""

# B batch, A attributes, D token width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.data import AttributeKind
from bench.encoders.inputs import ModalityInput


class AttributeEncoder(nn.Module):
    """Encode a table as (B, A, D): z * w_a + b_a for numbers, e_a[code] + b_a for categories."""

    numeric: Tensor
    categorical: Tensor
    offset: Tensor

    def __init__(self, kinds: Sequence[AttributeKind], n_codes: Sequence[int], d_attribute: int):
        super().__init__()
        numeric = [a for a, kind in enumerate(kinds) if kind == "numeric"]
        categorical = [a for a, kind in enumerate(kinds) if kind == "categorical"]
        sizes = torch.tensor([n_codes[a] for a in categorical], dtype=torch.long)
        offset = sizes.cumsum(0) - sizes  # first row of each attribute in the one embedding
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.long), persistent=False)
        self.register_buffer("categorical", torch.tensor(categorical, dtype=torch.long), False)
        self.register_buffer("offset", offset, persistent=False)
        self.attribute = tuple(range(len(kinds)))  # whose slot each token is
        self.n_tokens, self.d_token = len(kinds), d_attribute
        self.value_tokens: Tensor | None = None  # nothing of a value is frozen
        self.bias = _uniform(len(kinds), d_attribute)
        self.weight = _uniform(len(numeric), d_attribute) if numeric else None
        self.embedding = _uniform(int(sizes.sum()), d_attribute) if categorical else None
        if self.embedding is not None:
            with torch.no_grad():
                self.embedding[offset] = 0.0  # code 0

    def forward(self, content: ModalityInput) -> Tensor:
        """Return (B, A, D); unobserved attributes are zeros whatever their cells hold."""
        assert content.numbers is not None
        assert content.codes is not None
        observed = content.codes >= 0  # (B, A)
        values = self.bias.new_zeros(*observed.shape, self.bias.shape[1])
        if self.weight is not None:
            z = torch.where(observed, content.numbers, 0.0)[:, self.numeric]
            values[:, self.numeric] = z.unsqueeze(2) * self.weight
        if self.embedding is not None:
            row = content.codes.clamp(min=0)[:, self.categorical] + self.offset
            values[:, self.categorical] = nn.functional.embedding(row, self.embedding)
        return torch.where(observed.unsqueeze(2), values + self.bias, 0.0)

    def slots(self, content: ModalityInput) -> Tensor:
        """Return which slots hold an observed attribute: (B, A) bool."""
        assert content.codes is not None
        return content.codes >= 0


def _uniform(n_rows: int, d_attribute: int) -> nn.Parameter:
    """Draw from U(-1/sqrt(D), 1/sqrt(D)), as the source's code does."""
    bound = d_attribute**-0.5
    return nn.Parameter(torch.empty(n_rows, d_attribute).uniform_(-bound, bound))
