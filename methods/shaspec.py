"""ShaSpec: lend a missing modality what the others share.

One encoder that all modalities share gives a shared feature r_m, an own encoder per modality a
specific feature s_m; the embedding is f_m = r_m + W_p [r_m ; s_m]. Shared features are pulled
together across modalities (distribution alignment, DAO), specific ones must tell their modality
(domain classification, DCO). r knows no modality, so the mean of the available r stands in for a
missing embedding, and the classifier always gets M of them.

Source: Wang et al., "Multi-modal Learning with Missing Modality via Shared-Specific Feature
Modelling", CVPR 2023. "The code" is the authors', which is for segmentation, none other is public.

Departures:
- Pooled vectors, not maps: an encoder is one Linear with LeakyReLU on the mean of the valid tokens
  (paper: whole backbones, which lie upstream here), and DCO reads the vector that fusion reads.
- Classifier: the paper's two layers with dropout; width D, rate 0.5 and ReLU are ours.
- Missing embedding: mean of the available r (paper, eq. 4). The code takes one of them
  (`missing_fill: first`: a random one in training, the lowest index at test).
- DAO and DCO leave out what is missing, case by case (paper). The code counts the features of blank
  images (`masked_losses: false`).
- DAO runs over the ring (0,1), (1,2), ..., (M-1,0) (code; option `all`); the one pair of M = 2,
  which a ring has twice, counts once.
- `dao: kl` compares softmaxes of a learned projection to D/4, the paper's low dimension being
  unknown; `dao: ce` asks the domain classifier, not a second one, to be undecided on r.
- Each case draws its own subset from the run's generator (code: one for the batch, unseeded), after
  5 epochs on all that is observed, as the author advises in place of two long stages.
- Optimiser, schedule and budget are the study's.
- `table4` rebuilds the parameter count of CMML's Table 4 alone: without encoders r and s coincide.
"""

# B batch, M modalities, P pairs of modalities, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, Projection, masked_mean
from bench.data import Task, Tokens
from bench.layers.completion import named_codes
from bench.layers.shared_features import (
    MissingFill,
    PairRule,
    alignment,
    domain_classification,
    donor_weights,
    modality_pairs,
)
from bench.method import Capabilities, Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna


class ShaSpecConfig(Config):
    """Settings of ShaSpec."""

    alpha: float = Field(0.1, ge=0, description="weight of DAO; 0 leaves it out (paper, code)")
    beta: float = Field(0.02, ge=0, description="weight of DCO; 0 leaves it out (paper, code)")
    dao: Literal["l1", "mse", "kl", "ce"] = "l1"  # the paper's choice among its four
    pairs: PairRule = "ring"  # code
    missing_fill: MissingFill = "mean"  # paper, eq. 4
    masked_losses: bool = True  # paper
    n_layers: Literal[0, 1, 2] = 1  # ours
    specific: bool = True
    residual: bool = True
    composition_bias: bool = False  # code
    joint: Literal["concat", "mean"] = "concat"  # code
    d_hidden: int = Field(0, ge=0, description="width of the classifier; 0: D (ours)")
    p_drop: float = Field(0.5, ge=0, lt=1, description="of the classifier (ours)")
    dropout: DropoutLaw = "size-uniform"  # code
    warmup_full_epochs: int = Field(5, ge=0, description="epochs without dropout (author's advice)")


def feature_encoder(d_model: int, n_layers: int) -> nn.Sequential:
    """Build the encoder that shared and specific features have alike; 0 layers: the identity."""
    linear = [nn.Linear(d_model, d_model) for _ in range(n_layers)]
    for layer in linear:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.zeros_(layer.bias)
    if n_layers == 2:
        return nn.Sequential(linear[0], nn.LayerNorm(d_model), nn.LeakyReLU(0.01), linear[1])
    return nn.Sequential(*linear, *[nn.LeakyReLU(0.01)] * n_layers)


class Composition(nn.Module):
    """f = r + W_p [r ; s], the same for all modalities."""

    def __init__(self, d_model: int, *, residual: bool = True, bias: bool = False):
        super().__init__()
        self.residual = residual
        self.linear = nn.Linear(2 * d_model, d_model, bias=bias)

    def forward(self, shared: Tensor, specific: Tensor) -> Tensor:
        """Compose features of the same shape (..., D)."""
        projected = self.linear(torch.cat([shared, specific], -1))
        return shared + projected if self.residual else projected


class ShaSpec(Method):
    """Shared-specific feature modelling."""

    name = "shaspec"
    display_name = "ShaSpec"
    reference = Reference(
        title="Multi-modal Learning with Missing Modality via Shared-Specific Feature Modelling",
        authors="Wang et al.",
        year=2023,
        venue="CVPR",
        arxiv="2307.14126",
        code="billhhh/ShaSpec",
    )
    config_class = ShaSpecConfig
    capabilities = Capabilities(
        min_modalities=2, reason="its features are shared between, or specific to, modalities"
    )
    presets: ClassVar = {
        "official": {"missing_fill": "first", "masked_losses": False},
        "table4": {"n_layers": 0, "composition_bias": True, "joint": "mean", "d_hidden": 128},
    }
    ablations: ClassVar = {
        "w/o alignment": {"alpha": 0.0},
        "w/o domain classification": {"beta": 0.0},
        "w/o residual": {"residual": False},
        "w/o specific features": {"specific": False},
        "zeros for missing": {"missing_fill": "zero"},
    }
    config: ShaSpecConfig
    pairs: Tensor

    def __init__(self, task: Task, config: ShaSpecConfig):
        super().__init__(task, config)
        M, D = task.n_modalities, task.d_model
        aligns = config.alpha > 0
        self.tells_domains = config.specific and config.beta > 0
        self.projection = Projection(task)
        self.shared_encoder = feature_encoder(D, config.n_layers)
        if config.specific:
            self.specific_encoders = nn.ModuleList(
                feature_encoder(D, config.n_layers) for _ in range(M)
            )
            self.composition = Composition(
                D, residual=config.residual, bias=config.composition_bias
            )
        if self.tells_domains or (aligns and config.dao == "ce"):
            self.domain_classifier = nn.Linear(D, M)
        if aligns and config.dao == "kl":
            self.low_dimensional = nn.Linear(D, max(2, D // 4))
        d_joint = M * D if config.joint == "concat" else D
        self.head = Head(d_joint, config.d_hidden or D, task.n_classes, p_drop=config.p_drop)
        pairs = torch.tensor(modality_pairs(M, config.pairs)).T  # (2, P)
        self.register_buffer("pairs", pairs, persistent=False)

    def embed(
        self, tokens: Sequence[Tokens], available: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return shared, specific and composed features, (B, M, D) each."""
        projected, valid = self.projection(tokens, available)
        pooled = [masked_mean(x, there) for x, there in zip(projected, valid, strict=True)]
        shared = self.shared_encoder(torch.stack(pooled, 1))  # (B, M, D)
        if not self.config.specific:
            return shared, None, shared
        encoded = [encoder(x) for encoder, x in zip(self.specific_encoders, pooled, strict=True)]
        specific = torch.stack(encoded, 1)  # (B, M, D)
        return shared, specific, self.composition(shared, specific)

    def classify(
        self, shared: Tensor, composed: Tensor, available: Tensor, donors: Tensor
    ) -> Prediction:
        """Lend the missing embeddings the donors' shared features, then classify."""
        loan = (donors[..., None] * shared).sum(1, keepdim=True)  # (B, 1, D)
        completed = torch.where(available[..., None], composed, loan)  # (B, M, D)
        joint = completed.flatten(1) if self.config.joint == "concat" else completed.mean(1)
        fused = self.head.hidden(joint).relu()
        logits = self.head.out(self.head.dropout(fused))
        return Prediction(logits, named_codes(self.task, completed) | {"fused": fused})

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available."""
        check_available(available, self.task.n_modalities)
        shared, _, composed = self.embed(tokens, available)
        donors = donor_weights(available, self.config.missing_fill)
        return self.classify(shared, composed, available, donors)

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return L_task, alpha L_dao and beta L_dco."""
        warm = progress.epoch < self.config.warmup_full_epochs
        available = progress.drop(observed, "none" if warm else self.config.dropout)
        shared, specific, composed = self.embed(tokens, available)
        donors = donor_weights(available, self.config.missing_fill, progress.generator)
        logits = self.classify(shared, composed, available, donors).logits
        terms = {"classification": progress.cross_entropy(logits, label)}
        counted = available if self.config.masked_losses else torch.ones_like(available)
        if self.config.alpha > 0:
            terms["alignment"] = self.config.alpha * self._align(shared, counted)
        if self.tells_domains:
            guess = self.domain_classifier(specific)  # (B, M, M)
            truth = torch.eye(guess.shape[-1], device=guess.device)
            terms["domain"] = self.config.beta * domain_classification(guess, counted, truth)
        return terms

    def _align(self, shared: Tensor, available: Tensor) -> Tensor:
        if self.config.dao == "ce":
            guess = self.domain_classifier(shared)  # (B, M, M)
            undecided = torch.full_like(guess[0], 1 / guess.shape[-1])
            return domain_classification(guess, available, undecided)
        if self.config.dao == "kl":
            shared = self.low_dimensional(shared)
        return alignment(shared, available, self.pairs, self.config.dao)

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest weights, sizes and rules; the paper's grid is {0, .02, .1, .5, .7, 1}."""
        return {
            "alpha": trial.suggest_float("alpha", 0.01, 1.0, log=True),
            "beta": trial.suggest_float("beta", 0.005, 0.5, log=True),
            "n_layers": trial.suggest_categorical("n_layers", [1, 2]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
            "missing_fill": trial.suggest_categorical("missing_fill", ["mean", "first"]),
            "pairs": trial.suggest_categorical("pairs", ["ring", "all"]),
        }

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Say which modalities are dropped in training."""
        assert isinstance(config, ShaSpecConfig)
        return f"none for {config.warmup_full_epochs} epochs, then {config.dropout}"


PLUGIN = ShaSpec
