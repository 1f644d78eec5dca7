"""RedCore: impute missing codes, and give most weight to the modality that is hardest to impute.

Each modality becomes a Gaussian code (variational information bottleneck). A generator per modality
imputes its code from the codes of all others; where the modality is missing, the generated code
takes its place. A joint classifier sees all codes, and one auxiliary classifier per modality sees
each of them, so that labels teach generated codes too. The generators' regression losses are
weighted by beta: a modality whose smoothed loss is below the average has a relative advantage and
loses weight, one that lags behind gains. An explicit step moves beta, no gradient of gradients.

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
  for ever). The smoothed losses are detached (officially they keep the graph of every step), eta
  stops growing at 1e6, a mean of 0 gives ra = 0. None of these faults can be switched back on.
- What the official code holds without using it is left out; `unused_modules` puts it back for the
  parameter count of CMML's Table 4 (`table4-like`). These parameters get no gradient.
- Modality dropout: each step draws one of the non-empty subsets of what a case has, all equally
  likely. Officially each modality has a rate of its own, and a row may end up with none; such rows
  are refused here. `dropout: none` trains on the protocol's fixed gaps alone.
- Without relative advantage every beta is 1/sqrt(M), of norm 1 like the moving ones.
- Optimiser, schedule and budget are the study's; clipping per sub-network stays. Width D is the
  study's, AE widths 2D, D, D/2 and classifier width D follow it (officially 256, 128, 64 for 128).
"""

# B batch, M modalities, T tokens, W token width, D model width, I = (M - 1) D, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import Projection, masked_mean
from bench.data import Task, Tokens
from bench.errors import BadConfig
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

ETA_GROWTH, ETA_EVERY, ETA_MAX = 1.5, 500, 1e6  # official; the last is ours, against overflow
BETA_FLOOR = 0.1  # official, before beta is normalised


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


class AttentionBlock(nn.Module):
    """Residual attention and feed-forward, each normalised before and after."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.norm_a, self.norm_b, self.norm_c, self.norm_d = (
            nn.LayerNorm(d_model) for _ in range(4)
        )
        self.attention = nn.MultiheadAttention(d_model, n_heads, dropout=0.2, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, D), (B, T) bool to (B, T, D)."""
        x = self.norm_a(h)
        x, _ = self.attention(x, x, x, key_padding_mask=~valid, need_weights=False)
        h = h + self.norm_b(x)
        return h + self.norm_d(self.feed_forward(self.norm_c(h)))


class TokenEncoder(nn.Module):
    """Tokens -> mean and log-variance of a Gaussian code; not variational: the mean alone."""

    def __init__(self, d_in: int, d_model: int, config: RedCoreConfig):
        super().__init__()
        self.embed = nn.Linear(d_in, d_model)
        self.blocks = nn.ModuleList(
            AttentionBlock(d_model, config.n_heads) for _ in range(config.n_layers)
        )
        self.code = nn.Linear(d_model, 2 * d_model if config.variational else d_model)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, T, W), (B, T) bool to [mu | logvar], (B, 2 D); rows without tokens are alike."""
        pooled = x.new_zeros(len(x), self.embed.out_features)
        rows = valid.any(1).nonzero()[:, 0]
        if len(rows):  # attention refuses an empty batch, and nobody reads absent rows
            pooled = pooled.index_put((rows,), self._pool(x[rows], valid[rows]).to(pooled.dtype))
        return self.code(pooled.sigmoid())

    def _pool(self, x: Tensor, valid: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, valid)
        return masked_mean(h, valid)


class Generator(nn.Module):
    """A cascade of residual autoencoders, separate weights each, and a transition."""

    def __init__(self, d_in: int, d_out: int, widths: tuple[int, int, int], n_autoencoders: int):
        super().__init__()
        self.autoencoders = nn.ModuleList(
            self._autoencoder(d_in, *widths) for _ in range(n_autoencoders)
        )
        self.transition = nn.Sequential(nn.Linear(d_in, d_in), nn.ReLU(), nn.Linear(d_in, d_out))

    @staticmethod
    def _autoencoder(d_in: int, first: int, second: int, latent: int) -> nn.Sequential:
        encoder = [nn.Linear(d_in, first), nn.LeakyReLU(0.01), nn.Linear(first, second)]
        encoder += [nn.LeakyReLU(0.01), nn.Linear(second, latent)]
        decoder = [nn.Linear(latent, second), nn.ReLU(), nn.Linear(second, first)]
        return nn.Sequential(*encoder, *decoder, nn.ReLU(), nn.Linear(first, d_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_in) to (B, d_out)."""
        out = torch.zeros_like(x)
        for autoencoder in self.autoencoders:
            x = x + out
            out = autoencoder(x)
        return self.transition(x + out)


class Classifier(nn.Module):
    """Two hidden layers with dropout, then logits."""

    def __init__(self, d_in: int, d_hidden: int, n_classes: int, *, p_drop: float):
        super().__init__()
        first, second = nn.Linear(d_in, d_hidden), nn.Linear(d_hidden, d_hidden)
        self.hidden = nn.Sequential(
            first, nn.ReLU(), nn.Dropout(p_drop), second, nn.ReLU(), nn.Dropout(p_drop)
        )
        self.out = nn.Linear(d_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, d_in) to logits (B, K)."""
        return self.out(self.hidden(x))


class RelativeAdvantage(nn.Module):
    """The weights beta of the regression losses, and what moves them."""

    error: Tensor
    beta: Tensor
    eta: Tensor
    step: Tensor

    def __init__(self, n_modalities: int, config: RedCoreConfig):
        super().__init__()
        self.smoothing = config.smoothing
        self.interval = config.interval
        self.register_buffer("error", torch.zeros(n_modalities))
        self.register_buffer("beta", torch.ones(n_modalities))
        self.register_buffer("eta", torch.tensor(config.eta))
        self.register_buffer("step", torch.tensor(0))

    def advantage(self) -> Tensor:
        """Return how far each smoothed loss lies below their mean, relative to it; sums to 0."""
        mean = self.error.mean()
        return (mean - self.error) / torch.where(mean > 0, mean, 1.0)

    @torch.no_grad()
    def update(self, reconstruction: Tensor, present: Tensor) -> None:
        """Smooth the losses, let eta grow when due, move beta when due, in this order.

        Args:
            reconstruction: (M,) regression losses of this step.
            present: (M,) bool; a modality that no case had keeps its smoothed loss.
        """
        error = self.error.lerp(reconstruction.to(self.error.dtype), self.smoothing)
        self.error = torch.where(present, error, self.error)
        grown = (self.eta * ETA_GROWTH).clamp(max=ETA_MAX)
        self.eta = torch.where(self.step % ETA_EVERY == 0, grown, self.eta)
        moved = (self.beta - self.eta * self.advantage()).clamp(min=BETA_FLOOR)
        self.beta = torch.where(self.step % self.interval == 0, moved / moved.norm(), self.beta)
        self.step = self.step + 1


def divergence(mean: Tensor, log_variance: Tensor, available: Tensor) -> Tensor:
    """Return 2 KL(code || N(0, I)), summed over what is available, divided by B.

    Args:
        mean: (B, M, D).
        log_variance: (B, M, D).
        available: (B, M) bool.
    """
    twice = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)  # (B, M)
    return torch.where(available, twice, 0.0).sum() / len(mean)


def regression(generated: Tensor, target: Tensor, available: Tensor) -> Tensor:
    """Return REC_m, (M,): squared error summed over D, mean over the cases that have m, or 0.

    Args:
        generated: (B, M, D).
        target: (B, M, D).
        available: (B, M) bool.
    """
    apart = (generated - target).square().sum(-1)  # (B, M)
    return torch.where(available, apart, 0.0).sum(0) / available.sum(0).clamp(min=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=module.embed_dim**-0.5)


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
        "table4-like": {
            "widths": (128, 64, 32),
            "n_autoencoders": 3,
            "d_hidden": 128,
            "projection": False,
            "unused_modules": True,
        },
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
        if D % config.n_heads:
            raise BadConfig(
                f"redcore: the width {D} is not a multiple of n_heads {config.n_heads}; "
                "change n_heads or the study's d_model"
            )
        self.widths = config.widths or (2 * D, D, D // 2)
        self.regresses = config.generate and config.lambda_rec > 0
        moves = self.regresses and config.relative_advantage
        self.encoders = nn.ModuleList(
            TokenEncoder(D if config.projection else spec.d_token, D, config)
            for spec in task.modalities
        )
        self.generators = nn.ModuleList(
            self._generator((M - 1) * D, D) for _ in range(M * config.generate)
        )
        self.classifier = self._classifier(M * D)
        self.auxiliary = nn.ModuleList(self._classifier(D) for _ in range(M * config.auxiliary))
        self.advantage = RelativeAdvantage(M, config) if moves else None
        self.unused = self._unused_modules(M, D) if config.unused_modules else None
        self.apply(_initialise)
        self.projection = Projection(task) if config.projection else None  # keeps its own start
        idle = [name for name, _ in self.named_parameters() if name.startswith("unused.")]
        self.shift_invariant = dict.fromkeys(idle, "in no loss")

    def _generator(self, d_in: int, d_out: int) -> Generator:
        return Generator(d_in, d_out, self.widths, self.config.n_autoencoders)

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
        if self.projection is None:
            valid = [each.valid & available[:, m, None] for m, each in enumerate(tokens)]
            x = [
                each.values.where(v[..., None], 0.0) for each, v in zip(tokens, valid, strict=True)
            ]
        else:
            x, valid = self.projection(tokens, available)
        triples = zip(self.encoders, x, valid, strict=True)
        codes = torch.stack([encoder(values, there) for encoder, values, there in triples], 1)
        if not self.config.variational:
            return codes, None
        mean, log_variance = codes.chunk(2, -1)  # (B, M, 2 D) to (B, M, D) each
        return mean, log_variance

    def draw(self, mean: Tensor, log_variance: Tensor | None) -> Tensor:
        """Draw the codes in training, take their means otherwise."""
        if log_variance is None or not (self.training or self.config.sample_at_test):
            return mean
        return mean + torch.randn_like(mean) * (log_variance / 2).exp()

    def generate(self, z: Tensor) -> Tensor:
        """Generate each code from all others, (B, M, D); without generators: zeros."""
        if not self.config.generate:
            return torch.zeros_like(z)
        others = [torch.cat([z[:, :m], z[:, m + 1 :]], 1) for m in range(z.shape[1])]
        made = [g(x.flatten(1)) for g, x in zip(self.generators, others, strict=True)]
        return torch.stack(made, 1)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available, by the joint classifier."""
        check_available(available, self.task.n_modalities)
        z = self.draw(*self.encode(tokens, available))
        completed = torch.where(available[..., None], z, self.generate(z))  # (B, M, D)
        fused = self.classifier.hidden(completed.flatten(1))
        representations = {
            f"completed.{spec.name}": completed[:, m, None]  # (B, 1, D)
            for m, spec in enumerate(self.task.modalities)
        }
        return Prediction(self.classifier.out(fused), representations | {"fused": fused})

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return both kinds of classification, the divergence and the weighted regression."""
        available = progress.drop(observed, self.config.dropout)
        mean, log_variance = self.encode(tokens, available)
        z = self.draw(mean, log_variance)
        generated = self.generate(z)
        completed = torch.where(available[..., None], z, generated)  # (B, M, D)
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
            terms["regression"] = self._regress(generated, target, available)
        return terms

    def _regress(self, generated: Tensor, target: Tensor, available: Tensor) -> Tensor:
        error = regression(generated, target, available)  # (M,)
        if self.advantage is None:
            return self.config.lambda_rec * error.sum() / len(error) ** 0.5
        if self.training:  # before the loss is formed: the fresh beta weighs it
            self.advantage.update(error, available.any(0))
        return self.config.lambda_rec * (self.advantage.beta * error).sum()

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
    def dropout_law(cls, config: Config) -> str:
        """Say which modalities are dropped in training."""
        assert isinstance(config, RedCoreConfig)
        return config.dropout


PLUGIN = RedCore
