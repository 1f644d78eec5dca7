"""Fusion on attribute tokens: what AlignedFusion and the self-attention baseline have in common.

Every modality gives a set of tokens; a table gives one per attribute, and an attribute that is not
observed is a learned unknown token. The unknown ones may be reconstructed from what surrounds them.
`AttributeFusion` is the method around any fusion of such sets; with `JointAttention` it is both the
baseline Self-Attention and "AlignedFusion without intermediate token": the paper prints the same
numbers for the two. Equation numbers are those of AlignedFusion (MIDL 2026, under review).
"""

# B batch, M modalities, S sets (modalities that are used), N tokens of a set, A attributes, V
# values of an attribute, D model width

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import AttentionStack, learned_tokens
from bench.data import Task, Tokens
from bench.layers.attribute_tokens import TokenSet
from bench.layers.reconstruction import Reconstruction, Target
from bench.layers.set_fusion import Fusion
from bench.method import Config, Method, Prediction, Progress, Reference


class AttributeFusionConfig(Config):
    """Settings of the attention and of the reconstruction; those without [P] are ours."""

    n_layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    mlp_ratio: int = Field(4, ge=1)
    p_drop: float = Field(0.1, ge=0, lt=1, description="dropout of the attention layers")
    reconstruct: bool = Field(True, description="mask attributes in training, predict them [P]")
    mask_p: float = Field(0.3, ge=0, le=1, description="share of attributes masked [P]")
    lambda_rec: float = Field(1.0, ge=0, description="weight of the reconstruction [P]")
    rec_target: Target = "soft_label"
    second_pass: bool = Field(True, description="classify with the reconstructions filled in")
    dropout: DropoutLaw = Field("none", description="modalities dropped in training")

    @property
    def stack(self) -> AttentionStack:
        """Every stack of attention layers."""
        shape = self.n_layers, self.heads, self.mlp_ratio, self.p_drop
        return AttentionStack(*shape, pre_norm=True, activation="gelu")


class AttributeFusion(Method):
    """Fuse the sets of tokens; reconstruct unknown attributes, fill them in and fuse again.

    Args:
        fusion: how the sets meet.
        modalities: indices of those used; all by default.
        by_attribute: whether a table gives one token per attribute or one in all.
    """

    reference = Reference(
        title="AlignedFusion: Handling Missing Information in Reports and Inter-Modality "
        "Information Imbalance",
        authors="Li, Liu, Xu, Schüffler, Navab, Zhou",
        year=2026,
        venue="MIDL, under review",
    )
    fusion: Fusion

    def __init__(
        self,
        task: Task,
        config: AttributeFusionConfig,
        fusion: Fusion,
        *,
        modalities: Sequence[int] | None = None,
        by_attribute: bool = True,
    ):
        super().__init__(task, config)
        self.config: AttributeFusionConfig = config
        self.modalities = range(task.n_modalities) if modalities is None else modalities
        specs = [task.modalities[m] for m in self.modalities]
        self.sets = nn.ModuleList(
            TokenSet(spec, task.d_model, by_attribute=by_attribute) for spec in specs
        )
        self.reports = [s for s, each in enumerate(self.sets) if each.is_report]
        if self.reports:
            self.unknown = learned_tokens(task.d_model)  # t_UN
        self.reconstructions = nn.ModuleDict()
        for s in self.reports if config.reconstruct else ():
            self.reconstructions[str(s)] = Reconstruction(
                specs[s], task.d_model, target=config.rec_target, gives_tokens=config.second_pass
            )
        self.keeps_unknown = config.reconstruct or fusion.keeps_unknown
        self.fusion = fusion

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; see `Method.forward`."""
        check_available(available, self.task.n_modalities)
        x, observed = self.read(tokens, available)
        return self.fuse(x, observed, available)[0]

    def read(
        self, tokens: Sequence[Tokens], available: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tokens of each set (B, N, D), and which of them are observed (B, N) bool."""
        x, observed = [], []
        for m, token_set in zip(self.modalities, self.sets, strict=True):
            projected, seen = token_set(tokens[m].values, tokens[m].valid & available[:, m, None])
            x.append(projected)
            observed.append(seen)
        return x, observed

    def fuse(
        self, x: Sequence[Tensor], visible: Sequence[Tensor], available: Tensor
    ) -> tuple[Prediction, dict[int, Tensor]]:
        """Fuse, reconstruct, fuse again and classify.

        Args:
            x: S entries, (B, N_s, D).
            visible: S entries, (B, N_s) bool, which of them may be read.
            available: (B, M) bool.

        Returns:
            The prediction, and the guesses (B, A, V) of each report set.
        """
        there, sets = list(visible), list(x)
        for s in self.reports:
            present = available[:, self.modalities[s], None] | self.keeps_unknown
            there[s] = present.expand_as(visible[s])
            sets[s] = torch.where(visible[s][..., None], x[s], self.unknown)
        fused = self.fusion(sets, there)
        guesses = {int(s): heads(fused[int(s)]) for s, heads in self.reconstructions.items()}
        completed = list(sets)
        if guesses and self.config.second_pass:
            completed = self.complete(sets, visible, guesses)
            fused = self.fusion(completed, there)
        logits, vector = self.fusion.classify(fused, there)
        return Prediction(logits, self._representations(sets, completed, vector)), guesses

    def reconstruction(self, s: int) -> Reconstruction:
        """Return the heads of a report set."""
        heads = self.reconstructions[str(s)]
        assert isinstance(heads, Reconstruction)
        return heads

    def complete(
        self, sets: Sequence[Tensor], visible: Sequence[Tensor], guesses: dict[int, Tensor]
    ) -> list[Tensor]:
        """Put the reconstructed token in the place of every unknown one."""
        completed = list(sets)
        for s, guess in guesses.items():
            token_set = self.sets[s]
            assert isinstance(token_set, TokenSet)
            made = self.reconstruction(s).tokens(guess, token_set)
            completed[s] = torch.where(visible[s][..., None], sets[s], made)
        return completed

    def _representations(
        self, sets: Sequence[Tensor], completed: Sequence[Tensor], vector: Tensor
    ) -> dict[str, Tensor]:
        found = {"fused": vector}
        for s, m in enumerate(self.modalities):
            found |= {f"tokens.{m}": sets[s], f"completed.{m}": completed[s]}
        return found

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the classification loss and the reconstruction of masked attributes (eq. 11)."""
        check_available(observed, self.task.n_modalities)
        kept = progress.drop(observed, self.config.dropout) if self.training else observed
        x, seen = self.read(tokens, observed)
        visible = self.hide(seen, kept, progress)
        prediction, guesses = self.fuse(x, visible, kept)
        losses = {"task": progress.cross_entropy(prediction.logits, label)}
        if guesses:
            hidden = {s: seen[s] & ~visible[s] for s in guesses}
            error = self.reconstruction_error(tokens, x, hidden, guesses)
            losses["reconstruction"] = self.config.lambda_rec * error
        return losses

    def hide(self, seen: Sequence[Tensor], kept: Tensor, progress: Progress) -> list[Tensor]:
        """Hide dropped modalities, and in training attributes at random (eq. 9).

        Args:
            seen: S entries, (B, N_s) bool.
            kept: (B, M) bool.
            progress: holds the generator.

        Returns:
            S entries, (B, N_s) bool, what is still visible.
        """
        visible = [each & kept[:, m, None] for m, each in zip(self.modalities, seen, strict=True)]
        if self.training and self.reconstructions:
            for s in self.reports:
                draw = torch.rand(visible[s].shape, generator=progress.generator)
                visible[s] = visible[s] & (draw >= self.config.mask_p).to(visible[s].device)
        return visible

    def reconstruction_error(
        self,
        tokens: Sequence[Tokens],
        x: Sequence[Tensor],
        hidden: dict[int, Tensor],
        guesses: dict[int, Tensor],
    ) -> Tensor:
        """Average the error over the attributes that were hidden and whose value is known."""
        total, count = [], []
        for s, guess in guesses.items():
            codes = tokens[self.modalities[s]].codes
            known = hidden[s] & (codes >= 0)  # (B, A)
            true = torch.where(known, codes, 0)
            error = self.reconstruction(s).error(guess, true, x[s])
            total.append(torch.where(known, error, 0.0).sum())
            count.append(known.sum())
        return torch.stack(total).sum() / torch.stack(count).sum().clamp(min=1)

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Name the laws by which modalities are dropped and attributes masked in training."""
        assert isinstance(config, AttributeFusionConfig)
        masked = f", attributes masked at {config.mask_p:g}" if config.reconstruct else ""
        return config.dropout + masked
