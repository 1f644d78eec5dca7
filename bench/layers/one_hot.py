"""Tables as zeros and ones, without anything learned: the patient data of FusionM4Net."""

# B batch, T tokens, A attributes, F columns

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.data import Task, Tokens


class ReportCode(nn.Module):
    """One-hot code of the attributes of all tables; zeros for what is not observed."""

    def __init__(self, task: Task):
        super().__init__()
        self.tables = [m for m, spec in enumerate(task.modalities) if spec.kind == "table"]
        self.width = 0
        for m in self.tables:
            spec = task.modalities[m]
            column = [(a, code) for a, n in enumerate(spec.n_codes) for code in range(n)]
            member = torch.tensor(spec.attribute)[:, None] == torch.arange(spec.n_attributes)
            index = torch.tensor(column, dtype=torch.long).reshape(-1, 2).T  # (2, F)
            self.register_buffer(f"index_{m}", index, persistent=False)
            self.register_buffer(f"member_{m}", member.float(), persistent=False)  # (T, A)
            self.width += len(column)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return (B, width) of zeros and ones."""
        blocks = [self._block(m, tokens[m], available[:, m, None]) for m in self.tables]
        return torch.cat(blocks, dim=1)

    def _block(self, m: int, table: Tokens, available: Tensor) -> Tensor:
        attribute, code = self.get_buffer(f"index_{m}")
        member = self.get_buffer(f"member_{m}")
        # The slots say what is observed: codes of what is not may hold anything.
        seen = ((table.valid & available).to(member.dtype) @ member) > 0  # (B, A)
        return ((table.codes[:, attribute] == code) & seen[:, attribute]).double()
