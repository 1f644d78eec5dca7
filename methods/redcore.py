"""RedCore: impute missing codes, and give most weight to the modality that is hardest to impute.

Each modality becomes a Gaussian code (variational information bottleneck). A generator per modality
imputes its code from all others; it takes the place of a missing one. A joint classifier sees all
codes, an auxiliary one per modality each of them, so that labels teach generated codes too. The
generators' regression losses are weighted by beta: most counts the modality that lags behind.

Source: Sun et al., "RedCore: Relative Advantage Aware Cross-modal Representation Learning for
Missing Modalities with Imbalanced Missing Rates", AAAI 2024. The paper's equations were not
consulted: every formula and default is that of the official code, unless said otherwise.

Departures:
- The encoder's Linear(W -> D) reads tokens that the harness has projected to D already, as every
  method's (`projection: false`: it reads the raw tokens, as officially).
- Invalid tokens are masked in the attention and in the mean (officially zeros that count).
- A missing modality has no tokens, so that its own code, a source for the other generators, comes
  from a pooled vector of zeros; officially the encoder runs on zeros. Same code for all cases.
- z = mu outside training (officially drawn at random at test too: `sample_at_test`).
- Generators read the other codes in ascending order of modality (official order: by hand).
- A modality missing from a whole batch has REC = 0 and keeps its smoothed loss (officially 0/0: NaN
  for ever). Smoothed losses are detached (officially they keep the graph of every step), eta stops
  at 1e6, a mean of 0 gives ra = 0. None of these faults can be switched back on.
- What the official code holds without using it is left out; `unused_modules` puts it back for the
  parameter count of CMML's Table 4 (`table4-like`). These parameters get no gradient.
- Each step draws one of the non-empty subsets of what a case has, all equally likely (officially a
  rate per modality, and empty rows, which are refused here). `dropout: none`: the protocol's gaps.
- Without relative advantage every beta is 1/sqrt(M), of norm 1 like the moving ones.
- Optimiser, schedule and budget are the study's; clipping per sub-network stays. Width D is the
  study's, AE widths 2D, D, D/2 and classifier width D follow it (officially 256, 128, 64 for 128).
"""

# B batch, M modalities, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import Projection, blank, check_heads
from bench.data import Task, Tokens
from bench.layers.classifiers import Classifier
from bench.layers.completion import named_codes, regression
from bench.layers.generator import CodeGenerator, generate_from_others
from bench.layers.initialisation import kaiming_start
from bench.layers.relative_advantage import RelativeAdvantage
from bench.layers.variational import TokenEncoder, divergence, draw
from bench.method import (
    Capabilities,
    Config,
    Method,
    ParameterGroup,
    Prediction,
    Progress,
    Reference,
)

if TYPE_CHECKING:
    import optuna


class RedCoreConfig(Config):
    """Settings; the defaults are what the official IEMOCAP run used, unless said otherwise."""

    n_heads: int = Field(8, ge=1)
    n_layers: int = Field(3, ge=0, description="attention blocks of a token encoder")
    widths: tuple[int, int, int] | None = Field(None, description="of an AE; None: 2D, D, D/2")
    n_autoencoders: int = Field(5, ge=1, description="in the cascade of a generator")
    d_hidden: int = Field(0, ge=0, description="width of the classifiers; 0: D")
    p_drop: float = Field(0.5, ge=0, lt=1, description="of the classifiers")
    lambda_kl: float = Field(8e-4, ge=0)
    lambda_rec: float = Field(0.15, ge=0, description="0 leaves the regression out")
    smoothing: float = Field(0.7, gt=0, le=1, description="c; a comment says 0.95, the code 0.7")
    interval: int = Field(3, ge=1, description="steps between updates of beta")
    eta: float = Field(0.1, gt=0, description="step of beta, before the growth at step 0")
    max_grad_norm: float = Field(1.0, gt=0, description="of each sub-network")
    variational: bool = True
    auxiliary: bool = True
    generate: bool = True
    relative_advantage: bool = True
    detach_target: bool = False
    sample_at_test: bool = False  # ours
    projection: bool = True  # ours
    unused_modules: bool = False  # ours
    dropout: DropoutLaw = "uniform"  # ours


class RedCore(Method):
    """Relative-advantage aware cross-modal representation learning."""

    name = "redcore"
    display_name = "RedCore"
    reference = Reference(
        title="RedCore: Relative Advantage Aware Cross-modal Representation Learning for "
        "Missing Modalities with Imbalanced Missing Rates",
        authors="Sun et al.",
        year=2024,
        venue="AAAI",
        arxiv="2312.10386",
        code="sunjunaimer/RedCore",
    )
    config_class = RedCoreConfig
    capabilities = Capabilities(
        min_modalities=2, reason="a code is imputed from the codes of other modalities"
    )
    presets: ClassVar = {
        "iemocap": {"widths": (256, 128, 64), "d_hidden": 128},  # published with D = 128
        "mosei": {"widths": (160, 80, 32), "d_hidden": 96, "lambda_rec": 4.0},  # with D = 96
        "table4-like": {"widths": (128, 64, 32), "n_autoencoders": 3, "d_hidden": 128}
        | {"projection": False, "unused_modules": True},
    }
    ablations: ClassVar = {
        "w/o variational bottleneck": {"variational": False},
        "w/o auxiliary classifiers": {"auxiliary": False},
        "w/o relative advantage": {"relative_advantage": False},
        "w/o regression": {"lambda_rec": 0.0},
        "detached target": {"detach_target": True},
        "w/o generators": {"generate": False},
    }
    config: RedCoreConfig

    def __init__(self, task: Task, config: RedCoreConfig):
        super().__init__(task, config)
        M, D = task.n_modalities, task.d_model
        check_heads(config.n_heads, D, "redcore: n_heads")
        self.widths = config.widths or (2 * D, D, D // 2)
        self.regresses = config.generate and config.lambda_rec > 0
        self.encoders = nn.ModuleList(
            self._encoder(D if config.projection else spec.d_token) for spec in task.modalities
        )
        self.generators = nn.ModuleList(
            self._generator((M - 1) * D, D) for _ in range(M * config.generate)
        )
        self.classifier = self._classifier(M * D)
        self.auxiliary = nn.ModuleList(self._classifier(D) for _ in range(M * config.auxiliary))
        self.advantage: RelativeAdvantage | None = None
        if self.regresses and config.relative_advantage:
            self.advantage = RelativeAdvantage(
                M, smoothing=config.smoothing, interval=config.interval, eta=config.eta
            )
        self.unused = self._unused_modules(M, D) if config.unused_modules else None
        self.apply(kaiming_start)
        self.projection = Projection(task) if config.projection else None  # keeps its own start
        idle = [name for name, _ in self.named_parameters() if name.startswith("unused.")]
        self.shift_invariant = dict.fromkeys(idle, "in no loss")

    def _encoder(self, d_in: int) -> TokenEncoder:
        D, (heads, n_layers) = self.task.d_model, (self.config.n_heads, self.config.n_layers)
        variational = self.config.variational
        return TokenEncoder(d_in, D, n_heads=heads, n_layers=n_layers, variational=variational)

    def _generator(self, d_in: int, d_out: int) -> CodeGenerator:
        return CodeGenerator(d_in, d_out, self.widths, self.config.n_autoencoders)

    def _classifier(self, d_in: int) -> Classifier:
        d_hidden = self.config.d_hidden or self.task.d_model
        return Classifier(d_in, d_hidden, self.task.n_classes, p_drop=self.config.p_drop)

    def _unused_modules(self, M: int, D: int) -> nn.ModuleList:
        """Build what the official code holds, and partly runs, without any effect on the loss."""
        autoencoders = [self._generator(M * D, M * D) for _ in range(2)]  # plain and "cycle"
        classifier = self._classifier(self.config.n_autoencoders * self.widths[-1])  # of latents
        pooling = [
            nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 1, bias=False)) for _ in range(M)
        ]
        return nn.ModuleList([*autoencoders, classifier, *pooling])

    def encode(self, tokens: Sequence[Tokens], available: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return mean and log-variance of every code, (B, M, D) each."""
        x, there = (self.projection or blank)(tokens, available)
        triples = zip(self.encoders, x, there, strict=True)
        codes = torch.stack([encode(values, seen) for encode, values, seen in triples], 1)
        if not self.config.variational:
            return codes, None
        mean, log_variance = codes.chunk(2, -1)  # (B, M, 2 D) to (B, M, D) each
        return mean, log_variance

    def complete(
        self, mean: Tensor, log_variance: Tensor | None, available: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes (means outside training), generated and completed ones, (B, M, D) each."""
        drawn = self.training or self.config.sample_at_test
        z = draw(mean, log_variance) if drawn and log_variance is not None else mean
        generated = torch.zeros_like(z)
        if self.config.generate:
            generated = generate_from_others(self.generators, z)
        return z, generated, torch.where(available[..., None], z, generated)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available, by the joint classifier."""
        check_available(available, self.task.n_modalities)
        _, _, completed = self.complete(*self.encode(tokens, available), available)
        fused = self.classifier.hidden(completed.flatten(1))
        representations = named_codes(self.task, completed) | {"fused": fused}
        return Prediction(self.classifier.out(fused), representations)

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return both kinds of classification, the divergence and the weighted regression."""
        available = progress.drop(observed, self.config.dropout)
        mean, log_variance = self.encode(tokens, available)
        z, generated, completed = self.complete(mean, log_variance, available)
        logits = self.classifier(completed.flatten(1))
        terms = {"classification": progress.cross_entropy(logits, label)}
        if self.config.auxiliary:
            heads = zip(self.auxiliary, completed.unbind(1), strict=True)
            each = [progress.cross_entropy(head(code), label) for head, code in heads]
            terms["auxiliary"] = torch.stack(each).sum()
        if log_variance is not None:
            terms["divergence"] = self.config.lambda_kl * divergence(mean, log_variance, available)
        if self.regresses:
            target = z.detach() if self.config.detach_target else z
            error, weight = regression(generated, target, available), self.config.lambda_rec
            if self.advantage is None:
                terms["regression"] = weight * error.sum() / len(error) ** 0.5
            else:
                terms["regression"] = weight * self.advantage(error, available.any(0))
        return terms

    def parameter_groups(self) -> list[ParameterGroup]:
        """Clip each sub-network by itself, as officially."""
        networks = [*self.encoders, *self.generators, self.classifier, *self.auxiliary]
        limit = self.config.max_grad_norm
        return [ParameterGroup(list(each.parameters()), max_grad_norm=limit) for each in networks]

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest weights, the steps of beta and sizes."""
        return {
            "lambda_rec": trial.suggest_float("lambda_rec", 0.05, 4.0, log=True),
            "lambda_kl": trial.suggest_float("lambda_kl", 1e-4, 1e-2, log=True),
            "eta": trial.suggest_float("eta", 1e-3, 0.3, log=True),
            "smoothing": trial.suggest_float("smoothing", 0.5, 0.99),
            "interval": trial.suggest_categorical("interval", [1, 2, 3, 5]),
            "n_autoencoders": trial.suggest_categorical("n_autoencoders", [1, 3, 5]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
        }

    @classmethod
    def dropout_law(cls, config: RedCoreConfig) -> str:
        """Say which modalities are dropped in training."""
        return config.dropout


PLUGIN = RedCore
