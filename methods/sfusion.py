"""SFusion: fuse what is there by self-attention and a softmax across the modalities.

Self-attention over the joined tokens of the available modalities finds how they relate; a softmax
over the modalities, at every position and channel, turns that into weights for the original tokens.
Nothing stands in for what is missing; with one modality the block is the identity.

Source: Liu et al., "SFusion: Self-attention based N-to-One Multimodal Fusion Block", MICCAI 2023
(arXiv 2208.12776), and its official code for segmentation, which differs from the paper: the code
is the default here, the preset `paper` is the paper.

Departures:
- Classification, not segmentation: tokens are projected to the study's width and pooled to P
  positions per modality (the block needs positions that correspond, which pictures and tables lack;
  P = 1 by default); the fused ones are averaged and classified by a head like the other methods'.
  The official pooling to 8 x 8 x 8 and its voxel shuffle have no counterpart; the 1 x 1 x 1
  convolution before the softmax is a linear map.
- A pooling bin without a valid token takes the mean of its modality's valid tokens.
- The official batch shares one subset; here each row has its own, with equal results.
- Official training gives every case one fixed subset; here subsets are drawn anew at every step.
  With `dropout: none` and gaps made by the protocol it is the official way.
- Loss: cross-entropy alone; the block has none of its own.
"""

# B batch, M modalities, T tokens of a modality, P positions after pooling, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from einops import rearrange, repeat
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import AttentionStack, Head, Projection, check_heads, learned_tokens
from bench.data import Task, Tokens
from bench.layers.pooling import pool_positions
from bench.layers.positions import sinusoidal_table
from bench.method import Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna


class SFusionConfig(Config):
    """Settings; the defaults are the official code's unless said otherwise."""

    n_layers: int = Field(8, ge=1)
    heads: int = Field(4, ge=1)
    ffn_factor: int = Field(4, ge=1, description="feed-forward width over D")
    p_drop: float = Field(0.1, ge=0, lt=1)
    n_positions: int = Field(1, ge=1, description="P; ours, the official block has 8 x 8 x 8")
    head_factor: float = Field(1.0, gt=0, description="hidden width of the head over D; ours")
    pre_ln: bool = Field(False, description="True: as in the paper")
    attention: bool = True
    conv: bool = Field(True, description="linear map before the softmax; False: as in the paper")
    position: Literal["rank", "slot", "none"] = "rank"  # the paper does not mention positions
    mean_fusion: bool = Field(False, description="weigh all available modalities alike")
    modality_embedding: bool = Field(False, description="tell modalities apart; not the method's")
    dropout: DropoutLaw = Field("uniform", description="modalities dropped in training; ours")


class FusionBlock(nn.Module):
    """Weigh the modalities at every position and channel by what self-attention finds."""

    position_table: Tensor

    def __init__(self, n_modalities: int, d_model: int, config: SFusionConfig):
        super().__init__()
        self.config = config
        self.encoder: nn.TransformerEncoder | None = None
        self.to_logits: nn.Module = nn.Identity()
        if config.mean_fusion:
            return
        if config.conv:
            self.to_logits = nn.Linear(d_model, d_model, bias=False)
        if not config.attention:
            return
        shape = config.n_layers, config.heads, config.ffn_factor, config.p_drop
        # Its layers are copies of one and start alike, as in the official code.
        self.encoder = AttentionStack(*shape, pre_norm=config.pre_ln).encoder(d_model)
        self.dropout = nn.Dropout(config.p_drop)
        table = sinusoidal_table(n_modalities * config.n_positions, d_model)
        self.register_buffer("position_table", table, persistent=False)
        if config.modality_embedding:
            self.modality_embedding = learned_tokens(n_modalities, 1, d_model)

    def forward(self, tokens: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse tokens (B, M, P, D), zero where absent, to (B, P, D); also return the weights.

        The weights (B, M, P, D) sum to 1 over the available modalities, at least one per row.
        """
        absent = ~available[:, :, None, None]
        logits = self.correlate(tokens, available).masked_fill(absent, float("-inf"))
        weights = logits.softmax(1)
        return (weights * tokens).sum(1), weights

    def correlate(self, tokens: Tensor, available: Tensor) -> Tensor:
        """Return the logits of the weights (B, M, P, D), meaningless where absent."""
        if self.config.mean_fusion:
            return torch.zeros_like(tokens)
        if self.encoder is None:
            return self.to_logits(tokens)
        n_modalities, n_positions = tokens.shape[1:3]
        sequence = rearrange(self.dropout(self.mark(tokens, available)), "b m p d -> b (m p) d")
        absent = repeat(~available, "b m -> b (m p)", p=n_positions)
        encoded = self.encoder(sequence, src_key_padding_mask=absent)
        return self.to_logits(rearrange(encoded, "b (m p) d -> b m p d", m=n_modalities))

    def mark(self, tokens: Tensor, available: Tensor) -> Tensor:
        """Add the positions; `rank` counts over the available alone, as the official list does."""
        if self.config.modality_embedding:
            tokens = tokens + self.modality_embedding
        if self.config.position == "none":
            return tokens
        counted = available if self.config.position == "rank" else torch.ones_like(available)
        rank = (counted.long().cumsum(1) - 1).clamp(min=0)  # (B, M)
        within = torch.arange(tokens.shape[2], device=tokens.device)
        return tokens + self.position_table[rank[:, :, None] * tokens.shape[2] + within]


class SFusion(Method):
    """Pool every modality to P positions, fuse those available, classify their mean."""

    name = "sfusion"
    display_name = "SFusion"
    reference = Reference(
        title="SFusion: Self-attention based N-to-One Multimodal Fusion Block",
        authors="Liu et al.",
        year=2023,
        venue="MICCAI, LNCS 14221, p. 159-169",
        arxiv="2208.12776",
        code="scut-cszcl/SFusion",
    )
    config_class = SFusionConfig
    presets: ClassVar = {
        "default": {},
        "paper": {"pre_ln": True, "conv": False},
        "table4": {"head_factor": 0.5},  # at D = 256: the head 256-128-K of CMML's Table 4
        "tiny": {"n_layers": 2},
    }
    ablations: ClassVar = {
        "w/o attention": {"attention": False},
        "w/o convolution": {"conv": False},
        "w/o positions": {"position": "none"},
        "positions by slot": {"position": "slot"},
        "mean fusion": {"mean_fusion": True},
        "pre-LN": {"pre_ln": True},
        "with modality embedding": {"modality_embedding": True},
    }

    def __init__(self, task: Task, config: SFusionConfig):
        super().__init__(task, config)
        self.config: SFusionConfig = config
        check_heads(config.heads, task.d_model, "sfusion: heads")
        self.projection = Projection(task)
        self.block = FusionBlock(task.n_modalities, task.d_model, config)
        d_hidden = max(1, round(config.head_factor * task.d_model))
        self.head = Head(task.d_model, d_hidden, task.n_classes, p_drop=config.p_drop)
        if self.block.encoder is not None:
            last = "linear2.bias" if config.pre_ln else "norm2.bias"
            name = f"block.encoder.layers.{config.n_layers - 1}.{last}"
            reason = "shifts the logits of all modalities alike, which the softmax cancels"
            self.shift_invariant = {name: reason}

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; see `Method.forward`."""
        check_available(available, self.task.n_modalities)
        pooled = self.pool(tokens, available)
        fused, _ = self.block(pooled, available)
        fused = fused.mean(1)  # (B, D)
        each = {f"tokens.{m}": pooled[:, m] for m in range(self.task.n_modalities)}
        return Prediction(self.head(fused), {**each, "fused": fused})

    def pool(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Project and pool the tokens of all modalities: (B, M, P, D), zero where absent."""
        projected, there = self.projection(tokens, available)
        pairs = zip(projected, there, strict=True)
        return torch.stack([pool_positions(*pair, self.config.n_positions) for pair in pairs], 1)

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of what is left of the observed; see `Method.losses`."""
        kept = progress.drop(observed, self.config.dropout)
        return {"ce": progress.cross_entropy(self(tokens, kept).logits, label)}

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest depth, heads, positions, order of the norms and dropout."""
        return {
            "n_layers": trial.suggest_categorical("n_layers", [1, 2, 4, 8]),
            "heads": trial.suggest_categorical("heads", [2, 4, 8]),
            "n_positions": trial.suggest_categorical("n_positions", [1, 4, 16]),
            "pre_ln": trial.suggest_categorical("pre_ln", [False, True]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
        }

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Name the law by which modalities are dropped in training."""
        assert isinstance(config, SFusionConfig)
        return "none" if config.dropout == "none" else f"{config.dropout}, anew at each step"


PLUGIN = SFusion
