"""Fusion on attribute tokens: what AlignedFusion and the self-attention baseline have in common.

Every modality gives a set of tokens; a table gives one per attribute, and an attribute that is not
observed is a learned unknown token. The unknown ones may be reconstructed from what surrounds them.
`AttributeFusion` is the method around any fusion of such sets; with `JointAttention` it is both the
baseline Self-Attention and "AlignedFusion without intermediate token": the paper prints the same
numbers for the two. Equation numbers are those of AlignedFusion (MIDL 2026, under review).
"""

# B batch, M modalities, S sets (modalities that are used), T tokens, N tokens of a set,
# A attributes, V values of an attribute, C token width, D model width, K classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from einops import einsum
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, masked_mean
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BadConfig
from bench.method import Config, Method, Prediction, Progress

STD_TOKEN = 0.02  # of learned tokens at the start; ours


class AttributeFusionConfig(Config):
    """Settings of the attention and of the reconstruction; those without [P] are ours."""

    n_layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    mlp_ratio: int = Field(4, ge=1)
    p_drop: float = Field(0.1, ge=0, lt=1, description="dropout of the attention layers")
    reconstruct: bool = Field(True, description="mask attributes in training, predict them [P]")
    mask_p: float = Field(0.3, ge=0, le=1, description="share of attributes masked [P]")
    lambda_rec: float = Field(1.0, ge=0, description="weight of the reconstruction [P]")
    rec_target: Literal["soft_label", "mse", "cosine"] = "soft_label"
    second_pass: bool = Field(True, description="classify with the reconstructions filled in")
    dropout: DropoutLaw = Field("none", description="modalities dropped in training")


def attention_layer(d_model: int, config: AttributeFusionConfig) -> nn.TransformerEncoderLayer:
    """Build one pre-norm self-attention layer: 12 D^2 + 13 D parameters at an MLP of 4 D.

    Raises:
        BadConfig: the number of heads does not divide the width.
    """
    if d_model % config.heads:
        raise BadConfig(
            f"heads must divide the width {d_model}, got {config.heads}; "
            "choose another number of heads or another d_model"
        )
    return nn.TransformerEncoderLayer(
        d_model,
        config.heads,
        config.mlp_ratio * d_model,
        config.p_drop,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )


class TokenSet(nn.Module):
    """Bring one modality to width D: Linear and LayerNorm (eq. 3 and 5).

    A table gives one token per attribute, the mean of the attribute's valid slots; with
    `by_attribute` off, one for the whole table.
    """

    member: Tensor

    def __init__(self, spec: TokenSpec, d_model: int, *, by_attribute: bool = True):
        super().__init__()
        self.is_report = spec.kind == "table"
        self.linear = nn.Linear(spec.d_token, d_model)
        self.norm = nn.LayerNorm(d_model)
        if self.is_report:
            slot = torch.tensor(spec.attribute)  # (T,)
            attribute = torch.arange(spec.n_attributes)
            member = (slot[:, None] == attribute) if by_attribute else (slot >= 0)[:, None]
            self.register_buffer("member", member.float(), persistent=False)  # (T, A)

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Gather and project.

        Args:
            values: (B, T, C); what is not valid is never read.
            valid: (B, T) bool.

        Returns:
            tokens (B, N, D), and which of them are observed (B, N) bool.
        """
        values = torch.where(valid[..., None], values, 0.0)
        if self.is_report:
            count = valid.to(values.dtype) @ self.member  # (B, A)
            values = einsum(values, self.member, "b t c, t a -> b a c")
            values = values / count.clamp(min=1)[..., None]
            valid = count > 0
        return self.project(values), valid

    def project(self, features: Tensor) -> Tensor:
        """Map (..., C) to (..., D)."""
        return self.norm(self.linear(features))


class Reconstruction(nn.Module):
    """Predict every attribute of a table at its own position, which holds no trace of it (eq. 10).

    One linear head per attribute: logits over its values, or for `mse` and `cosine` its token.
    """

    index: Tensor
    padding: Tensor

    def __init__(self, spec: TokenSpec, d_model: int, config: AttributeFusionConfig):
        super().__init__()
        self.target = config.rec_target
        n_values = [max(1, n) for n in spec.n_codes]
        sizes = n_values if self.target == "soft_label" else [d_model] * spec.n_attributes
        self.linear = nn.Linear(d_model, sum(sizes))  # the heads, one below the other
        size, column = torch.tensor(sizes), torch.arange(max(sizes))
        padding = column >= size[:, None]  # (A, V)
        index = ((size.cumsum(0) - size)[:, None] + column).masked_fill(padding, 0)
        self.register_buffer("padding", padding, persistent=False)
        self.register_buffer("index", index, persistent=False)
        if self.target == "soft_label" and config.second_pass:
            self.values = _value_features(spec, sum(n_values))  # (all V, C)

    def forward(self, x: Tensor) -> Tensor:
        """Map fused tokens (B, A, D) to guesses (B, A, V), -inf beyond an attribute's values."""
        weight = self.linear.weight[self.index]  # (A, V, D)
        guess = einsum(x, weight, "b a d, a v d -> b a v") + self.linear.bias[self.index]
        return guess.masked_fill(self.padding, float("-inf"))

    def tokens(self, guess: Tensor, token_set: TokenSet) -> Tensor:
        """Return the reconstructed tokens (B, A, D), of soft labels the mean of the values'."""
        if self.target != "soft_label":
            return guess
        embedding = token_set.project(self.values)[self.index]  # (A, V, D), e_{i,v}
        return einsum(guess.softmax(-1), embedding, "b a v, a v d -> b a d")

    def error(self, guess: Tensor, codes: Tensor, tokens: Tensor) -> Tensor:
        """Return the error of each guess.

        Args:
            guess: (B, A, V).
            codes: (B, A) long, the true values.
            tokens: (B, A, D), the true tokens; they are not trained to be guessed easily.

        Returns:
            (B, A).
        """
        if self.target == "soft_label":
            return F.cross_entropy(guess.mT, codes, reduction="none")
        if self.target == "mse":
            return (guess - tokens.detach()).square().mean(-1)
        return 1 - F.cosine_similarity(guess, tokens.detach(), dim=-1)


def _value_features(spec: TokenSpec, n_values: int) -> Tensor:
    """Return the frozen features of all values (all V, C), or learned ones where there are none."""
    if spec.value_tokens is None:
        return nn.Parameter(torch.randn(n_values, spec.d_token))
    if spec.value_tokens.shape != (n_values, spec.d_token):
        raise ValueError(
            f"value_tokens of {spec.name} must be ({n_values}, {spec.d_token}), one row per "
            f"attribute and value in order, got {tuple(spec.value_tokens.shape)}"
        )
    return nn.Buffer(spec.value_tokens.detach().float(), persistent=False)


class Fusion(nn.Module, ABC):
    """Let the sets exchange information, then classify what they hold.

    `keeps_unknown` says whether an absent table takes part with all its attributes unknown, or is
    left out.
    """

    keeps_unknown: ClassVar[bool]

    @abstractmethod
    def forward(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
        """Fuse.

        Args:
            sets: S entries, (B, N_s, D).
            there: S entries, (B, N_s) bool, which tokens take part.

        Returns:
            S entries, (B, N_s, D).
        """

    @abstractmethod
    def classify(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the fused vector (B, D) that they come from."""


class JointAttention(Fusion):
    """One stack of self-attention over the tokens of all sets; what is absent is masked out."""

    keeps_unknown = False

    def __init__(self, n_sets: int, task: Task, config: AttributeFusionConfig):
        super().__init__()
        D = task.d_model
        self.modality = nn.Parameter(torch.randn(n_sets, D) * STD_TOKEN)
        self.layers = nn.ModuleList(attention_layer(D, config) for _ in range(config.n_layers))
        self.head = Head(D, D, task.n_classes)

    def forward(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
        """Fuse; see `Fusion.forward`."""
        x = torch.cat([x + self.modality[s] for s, x in enumerate(sets)], dim=1)
        padding = ~torch.cat(list(there), dim=1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return list(x.split([each.shape[1] for each in sets], dim=1))

    def classify(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify the mean token; see `Fusion.classify`."""
        fused = masked_mean(torch.cat(list(sets), dim=1), torch.cat(list(there), dim=1))
        return self.head(fused), fused


class AttributeFusion(Method):
    """Fuse the sets of tokens; reconstruct unknown attributes, fill them in and fuse again.

    Args:
        fusion: how the sets meet.
        modalities: indices of those used; all by default.
        by_attribute: whether a table gives one token per attribute or one in all.
    """

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
            self.unknown = nn.Parameter(torch.randn(task.d_model) * STD_TOKEN)  # t_UN
        self.reconstructions = nn.ModuleDict(
            {str(s): Reconstruction(specs[s], task.d_model, config) for s in self.reports}
            if config.reconstruct
            else {}
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
