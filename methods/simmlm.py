"""SimMLM: one expert per modality, a gate that mixes them, and a rank loss on nested subsets.

Each expert maps its modality alone to logits. A small gate looks at all that is available and gives
one score per modality; a softmax over the available ones weighs the experts' logits (DMoME). First
every expert is trained alone, then all of it together on pairs of nested subsets of the same case,
where having more may not raise the loss (More-vs-Fewer ranking, MoFe).

Source: Li et al., "SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality", ICCV
2025 (arXiv 2507.19264), and its official code for segmentation (pair sampling, mixing); no code for
classification is public.

Departures:
- Experts stand on the study's encoders, one per modality (preset `shared_encoder`: like pictures
  share one, and every expert's stage trains it on): projection, pooling, then two linear layers. So
  does the gate, which sees the experts' pooled vectors; `gate_input: own` gives it the two-layer
  networks to 128 features of the paper's supplement, on the encoders' tokens, not on pictures.
- One weight per modality, as in the paper; the official code has one per class too.
- Rank loss: per case, in the paper's normalisation; the official code halves the task loss.
- Both subsets of a pair see one view: encoders and experts run once, gate and mixing twice.
- Missing is known from the availability, not from zeros; the gate sees zeros in its place.
- Cases with gaps: both subsets lie inside the observed; with one modality there is no pair, and the
  cross-entropy counts once. A law given by the study draws `more`, then `fewer` inside it.
- Mixing features instead of logits means one last layer for all experts: weights sum to 1 and the
  layer is linear, so both are the same. It trains in every stage (official: only in the last).
- One learning rate for both stages, which share the epochs equally (official code: 500 and 300).
- `expert_lr_factor` slows the experts against the gate by raising the gate's rate.
"""

# B batch, M modalities, D model width, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import check_available
from bench.blocks import Projection, masked_mean, mean_where
from bench.data import Task, Tokens
from bench.layers.experts import Gate, GateKind, mix_by_case
from bench.layers.nested_pairs import Hinge, more_vs_fewer, nested_pair
from bench.method import (
    Capabilities,
    Config,
    Method,
    ParameterGroup,
    Prediction,
    Progress,
    Reference,
    Stage,
)

if TYPE_CHECKING:
    import optuna


class SimMLMConfig(Config):
    """Settings; what the paper leaves open for classification is ours."""

    p_drop: float = Field(0.5, ge=0, lt=1, description="dropout of the experts; ours")
    lambda_rank: float = Field(0.1, ge=0, description="weight of the rank loss; the paper's lambda")
    hinge: Hinge = Field("sample", description="`batch`: zero once the average is in order")
    expert_share: float = Field(0.5, ge=0, lt=1, description="of the epochs, all experts; ours")
    expert_lr_factor: float = Field(1.0, gt=0, description="over the gate's, in the joint stage")
    gate: GateKind = "learned"
    gate_input: Literal["shared", "own"] = Field("shared", description="`own`: supplement, A1")
    gate_factor: float = Field(1.0, gt=0, description="hidden width of the gate over D; ours")
    mixing: Literal["logits", "features"] = "logits"
    shared_encoder: bool = Field(False, description="against the paper's independent experts")
    cmml_compat: bool = Field(
        False, description="a picture projection per table that nothing uses, as CMML counted"
    )


class SimMLM(Method):
    """Train experts alone, then mix them by a gate under the rank loss."""

    name = "simmlm"
    display_name = "SimMLM"
    reference = Reference(
        title="SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality",
        authors="Li et al.",
        year=2025,
        venue="ICCV",
        arxiv="2507.19264",
        code="LezJ/SimMLM",
    )
    config_class = SimMLMConfig
    capabilities = Capabilities(
        min_modalities=2, separate_encoders=True, reason="one expert alone leaves nothing to mix"
    )
    presets: ClassVar = {
        "default": {},
        "table4": {"cmml_compat": True},  # at D = 256, three Swin-T counted
        "shared_encoder": {"shared_encoder": True},
        "own_gate": {"gate_input": "own"},
    }
    ablations: ClassVar = {
        "w/o MoFe": {"lambda_rank": 0.0},
        "static gate": {"gate": "static"},
        "uniform gate": {"gate": "uniform"},
        "w/o expert stages": {"expert_share": 0.0},
        "own gate input": {"gate_input": "own"},
        "batch-level hinge": {"hinge": "batch"},
        "feature-level mixing": {"mixing": "features"},
    }
    shift_invariant = {
        f"unused_projection.{part}": "never executed; counted as CMML did"
        for part in ("weight", "bias")
    }

    def __init__(self, task: Task, config: SimMLMConfig):
        super().__init__(task, config)
        self.config: SimMLMConfig = config
        M, D, K = task.n_modalities, task.d_model, task.n_classes
        self.projection = Projection(task)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D // 2), nn.ReLU(), nn.Dropout(config.p_drop))
            for _ in range(M)
        )
        n_heads = 1 if config.mixing == "features" else M
        self.heads = nn.ModuleList(nn.Linear(D // 2, K) for _ in range(n_heads))
        own = config.gate_input == "own"
        self.gate = Gate(task, kind=config.gate, own_input=own, factor=config.gate_factor)
        images = [spec for spec in task.modalities if spec.kind == "image"]
        n_tables = sum(spec.kind == "table" for spec in task.modalities)
        if config.cmml_compat and images and n_tables:
            self.unused_projection = nn.Linear(images[0].d_token, n_tables * D)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; see `Method.forward`.

        The representations hold `expert_logits` (B, M, K) and `weights` (B, M) too.
        """
        check_available(available, self.task.n_modalities)
        projected, pooled, expert_logits = self.run_experts(tokens, available)
        features = self.gate.features(tokens, pooled, available)
        logits, weights = mix_by_case(self.gate(features, available), expert_logits, available)
        representations = {f"tokens.{m}": x for m, x in enumerate(projected)}
        representations["fused"] = (weights[..., None] * pooled).sum(1)
        representations |= {"expert_logits": expert_logits, "weights": weights}
        return Prediction(logits, representations)

    def run_experts(
        self, tokens: Sequence[Tokens], available: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Run all experts on the whole batch; no batch statistics, so absent rows do no harm.

        Returns:
            projected tokens, M of (B, T, D); pooled (B, M, D), zero where absent; expert logits
            (B, M, K), meaningless where absent.
        """
        projected, there = self.projection(tokens, available)
        each = [masked_mean(x, valid) for x, valid in zip(projected, there, strict=True)]
        expert_logits = [self.run_expert(m, x) for m, x in enumerate(each)]
        return projected, torch.stack(each, dim=1), torch.stack(expert_logits, dim=1)

    def run_expert(self, m: int, pooled: Tensor) -> Tensor:
        """Map the pooled tokens (B, D) of one modality to logits (B, K)."""
        return self.heads[m % len(self.heads)](self.experts[m](pooled))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the loss of one expert in its stage, of pairs in the joint one."""
        check_available(observed, self.task.n_modalities)
        _, pooled, expert_logits = self.run_experts(tokens, observed)
        names = self.expert_stages()
        if progress.stage in names:
            m = names.index(progress.stage)
            ce = progress.cross_entropy(expert_logits[:, m], label, reduction="none")
            return {"expert": mean_where(ce, observed[:, m])}
        features = self.gate.features(tokens, pooled, observed)
        pair = self.draw_pair(observed, progress)
        mixed = [mix_by_case(self.gate(features, each), expert_logits, each)[0] for each in pair]
        ce_more, ce_fewer = (progress.cross_entropy(x, label, reduction="none") for x in mixed)
        paired = (pair[0] != pair[1]).any(1)
        task, ranking = more_vs_fewer(ce_more, ce_fewer, paired, hinge=self.config.hinge)
        return {"task": task, "ranking": self.config.lambda_rank * ranking}

    def draw_pair(self, observed: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """Draw (more, fewer) by the method's law, or twice by the study's; none in evaluation."""
        if not self.training:
            return observed, observed
        if progress.dropout is None:
            return nested_pair(observed, progress.generator)
        more = progress.drop(observed, progress.dropout)
        return more, progress.drop(more, progress.dropout)

    def expert_stages(self) -> list[str]:
        """Name the stage of each expert."""
        return [f"expert {spec.name}" for spec in self.task.modalities]

    def stages(self) -> list[Stage]:
        """List one stage per expert, on the cases that have its modality, and the joint stage."""
        if self.config.expert_share == 0:
            return [Stage("joint")]
        share = self.config.expert_share / self.task.n_modalities
        experts = [
            Stage(name, share, self.expert_parameters(m), _cases_with(m), (m,))
            for m, name in enumerate(self.expert_stages())
        ]
        return [*experts, Stage("joint", 1 - self.config.expert_share)]

    def expert_parameters(self, m: int) -> tuple[str, ...]:
        """List the prefixes of what one expert trains; a shared encoder has no name of its own."""
        spec = self.task.modalities[m]
        encoder = "encoders." if self.config.shared_encoder else spec.encoder
        own = (f"projection.linear.{m}.", f"experts.{m}.", f"heads.{m % len(self.heads)}.")
        return (*filter(None, [encoder]), *(f"method.{prefix}" for prefix in own))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Set the gate's rate so that the experts' is `expert_lr_factor` times it."""
        gate = list(self.gate.parameters())
        return [ParameterGroup(gate, lr_factor=1 / self.config.expert_lr_factor)] if gate else []

    @classmethod
    def separate_encoders(cls, config: Config) -> bool:
        """Give each expert its own encoder unless told otherwise."""
        assert isinstance(config, SimMLMConfig)
        return not config.shared_encoder

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest rank weight, length of the experts' stages, rates, dropout and gate width."""
        return {
            "lambda_rank": trial.suggest_float("lambda_rank", 0.01, 0.5, log=True),
            "expert_share": trial.suggest_float("expert_share", 0.0, 0.7),
            "expert_lr_factor": trial.suggest_categorical("expert_lr_factor", [0.1, 1.0]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
            "gate_factor": trial.suggest_categorical("gate_factor", [0.5, 1.0]),
        }

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Name the law by which modalities are dropped in training."""
        return "nested pairs (more, fewer), anew at each step"


def _cases_with(m: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda observed: observed[:, m]


PLUGIN = SimMLM
