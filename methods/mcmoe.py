"""MCMoE: generate the tokens of missing modalities, then mix the experts of all modalities.

A gated cross-attention generator per modality fills in its tokens from those available. Every
modality's tokens pass through the experts of all modalities, mixed by a soft router per token. In
training, what was hidden guides the generated tokens (squared error) and the mixed ones (KL).

Source: "MCMoE: completing missing modalities with a mixture of experts", AAAI 2026
(arXiv 2511.17397), for action quality assessment; the official code is followed.

Departures (the source regresses one score from equally long sequences of features):
- Classification: one query per class, read out on the diagonal, and cross-entropy instead of the
  squared error on a score. `read_out: weighted` keeps the official 4 queries and their normalised
  weights, which here average the query features before a small head.
- Tokens are projected as for every method (official: two convolutions with batch normalisation),
  then each modality is resampled to T tokens by a convolution whose channels are its token slots.
  Invalid tokens enter it as zeros and none is invalid after it. Streams of unequal length are
  averaged to the shortest before the fusion.
- The official batch shares one proper subset; here each row draws its own. Reconstruction terms are
  summed over a row's modalities and averaged over the batch: the official value if all rows agree.
  They look only at what a case truly has; in the complete branch a natural gap keeps its generated
  tokens, as batch normalisation takes all rows, and its term is left out.
- Decoder positions are indexed by query; the official code indexes by place in the batch, which
  `official_pe_bug` reproduces.
- As in the official code the generator's query is zero, so all the tokens it generates are equal:
  one is computed and repeated. The query rows of its first attention's weights never learn.
"""

# B batch, M modalities, T tokens of a modality after resampling, S context tokens, D model width,
# Q queries, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench.availability import DropoutLaw, check_available
from bench.blocks import Head, Projection, masked_mean
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BadConfig
from bench.method import Capabilities, Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna

N_QUERIES = 4  # of the official decoder
MARGIN = 1.0  # of the triplet term


class MCMoEConfig(Config):
    """Settings; the defaults are the official code's unless said otherwise."""

    enc_layers: int = Field(3, ge=1)
    dec_layers: int = Field(3, ge=1)
    ff_factor: int = Field(3, ge=1, description="feed-forward width over D")
    heads: int = Field(2, ge=1, description="of encoder and decoder")
    generator_heads: int = Field(4, ge=1)
    p_drop: float = Field(0.3, ge=0, lt=1)
    n_tokens: int = Field(32, ge=1, description="T; ours, nearest to CMML's Table 4")
    n_tokens_table: int | None = Field(None, ge=1, description="T of tables, if another")
    shared_encoder: bool = Field(True, description="one encoder for all modalities")
    encoder: bool = True
    generator: bool = Field(True, description="False: zeros stand in for missing tokens")
    learned_query: bool = Field(False, description="learned generator queries instead of zeros")
    moe: bool = Field(True, description="False: each modality has its own expert only")
    read_out: Literal["diagonal", "weighted"] = "diagonal"  # ours: the source has no classes
    w_triplet: float = Field(1.0, ge=0, description="alpha: 1, or 0.5 on one of its data sets")
    w_rec: float = Field(1.0, ge=0, description="of both reconstruction terms")
    gen_mse: bool = True
    kl: bool = True
    detach_targets: bool = Field(False, description="keep gradients from the complete branch")
    official_pe_bug: bool = Field(False, description="decoder positions by place in the batch")
    dropout: DropoutLaw = Field("proper", description="modalities dropped in training")


class TokenConv(nn.Sequential):
    """Layers over (B, C, T), applied to tokens (B, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C')."""
        return super().forward(x.mT).mT


class Generator(nn.Module):
    """Generate the tokens of one modality from the available ones of the others."""

    query: Tensor

    def __init__(self, d_model: int, n_tokens: int, config: MCMoEConfig):
        super().__init__()
        self.n_tokens = n_tokens
        self.cross_attn = nn.ModuleList(
            nn.MultiheadAttention(d_model, config.generator_heads, batch_first=True)
            for _ in range(2)
        )
        self.gate = nn.Linear(2 * d_model, d_model)
        if config.learned_query:
            self.query = nn.Parameter(torch.randn(n_tokens, d_model) * 0.02)
        else:
            self.register_buffer("query", torch.zeros(1, d_model), persistent=False)

    def forward(self, context: Tensor, present: Tensor) -> Tensor:
        """Return tokens (B, T, D) from context tokens (B, S, D) that are present (B, S)."""
        generated = self.attend(self.query.expand(len(context), -1, -1), context, present)
        return generated.expand(-1, self.n_tokens, -1)

    def attend(self, query: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Attend twice, without residual, norm or dropout; gate by the means of both.

        Queries (B, T, D) give tokens (B, T, D); every row needs a present context token.
        """
        for attention in self.cross_attn:
            query, _ = attention(
                query, context, context, key_padding_mask=~present, need_weights=False
            )
        means = torch.cat([query.mean(1), masked_mean(context, present)], dim=-1)
        return self.gate(means).sigmoid()[:, None] * query


def conv_block(
    d_in: int, d_hidden: int, d_out: int, activation: nn.Module, *, kernel: int = 1
) -> TokenConv:
    """Build two normalised convolutions over the tokens; only the first sees neighbours."""
    return TokenConv(
        nn.Conv1d(d_in, d_hidden, kernel, padding=kernel // 2),
        nn.BatchNorm1d(d_hidden),
        activation,
        nn.Conv1d(d_hidden, d_out, 1),
        nn.BatchNorm1d(d_out),
    )


def make_encoder(d_model: int, config: MCMoEConfig) -> nn.TransformerEncoder:
    """Build the token encoder: post-norm layers and a last norm, no positions."""
    shape = d_model, config.heads, config.ff_factor * d_model, config.p_drop
    layer = nn.TransformerEncoderLayer(*shape, batch_first=True)
    norm = nn.LayerNorm(d_model)
    return nn.TransformerEncoder(layer, config.enc_layers, norm, enable_nested_tensor=False)


def make_decoder(d_model: int, config: MCMoEConfig) -> nn.TransformerDecoder:
    """Build the decoder of the queries: post-norm layers and a last norm."""
    shape = d_model, config.heads, config.ff_factor * d_model, config.p_drop
    layer = nn.TransformerDecoderLayer(*shape, batch_first=True)
    return nn.TransformerDecoder(layer, config.dec_layers, nn.LayerNorm(d_model))


def position_table(n_positions: int, d_model: int) -> Tensor:
    """Return the sinusoidal table (n_positions, D): sin at even and cos at odd channels."""
    position = torch.arange(n_positions)[:, None]
    channel = torch.arange(d_model)
    angle = position / 10000 ** (2 * (channel // 2) / d_model)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


def batch_hard_triplet(features: Tensor) -> Tensor:
    """Return the batch-hard triplet loss of query features (B, Q, D), by cosine distance.

    The label is the query: mean of relu(hardest positive - hardest negative + margin).
    """
    n_rows, n_queries, _ = features.shape
    flat = F.normalize(rearrange(features, "b q d -> (b q) d"), dim=-1)
    distance = 1.0 - flat @ flat.T
    label = torch.arange(n_queries, device=flat.device).repeat(n_rows)
    same = label[:, None] == label
    itself = torch.eye(len(label), dtype=torch.bool, device=flat.device)
    positive = distance.masked_fill(~same | itself, float("-inf")).amax(1)
    negative = distance.masked_fill(same, float("inf")).amin(1)
    return (positive - negative + MARGIN).relu().mean()


def kl_per_row(mixed: Tensor, expert: Tensor) -> Tensor:
    """Return (B,) means over T and D of p (log p - log q), p of `expert` and q of `mixed`."""
    log_q, log_p = mixed.log_softmax(-1), expert.log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).mean((1, 2))


class MCMoE(Method):
    """Encode, complete, mix, fuse, decode the queries, read out the classes."""

    name = "mcmoe"
    display_name = "MCMoE"
    reference = Reference(
        title="MCMoE: completing missing modalities with a mixture of experts",
        authors="Xu et al.",
        year=2026,
        venue="AAAI",
        arxiv="2511.17397",
        code="XuHuangbiao/MCMoE",
    )
    config_class = MCMoEConfig
    capabilities = Capabilities(
        min_modalities=2, reason="a generator needs another modality to generate from"
    )
    presets: ClassVar = {
        "default": {},
        "table4": {  # at D = 256; for four modalities T = 48, and 16 for the table
            "enc_layers": 2,
            "ff_factor": 1,
            "shared_encoder": False,
            "n_tokens_table": 24,
            "read_out": "weighted",
        },
        "quick": {"n_tokens": 8},  # for CPUs
        "tiny": {"enc_layers": 1, "dec_layers": 1, "n_tokens": 4},
    }
    ablations: ClassVar = {
        "w/o generator": {"generator": False},
        "w/o mixture": {"moe": False},
        "w/o KL": {"kl": False},
        "w/o generation error": {"gen_mse": False},
        "w/o triplet": {"w_triplet": 0.0},
        "w/o encoder": {"encoder": False},
        "learned query": {"learned_query": True},
    }

    def __init__(self, task: Task, config: MCMoEConfig):
        super().__init__(task, config)
        self.config: MCMoEConfig = config
        _check_width(task.d_model, config)
        D, M = task.d_model, task.n_modalities
        self.n_tokens = [_n_tokens(spec, config) for spec in task.modalities]
        self.projection = Projection(task)
        self.resample = nn.ModuleList(
            nn.Conv1d(spec.n_tokens, n_tokens, 3, padding=1)
            for spec, n_tokens in zip(task.modalities, self.n_tokens, strict=True)
        )
        n_encoders = 0 if not config.encoder else 1 if config.shared_encoder else M
        self.encoders = nn.ModuleList(make_encoder(D, config) for _ in range(n_encoders))
        self.generators = nn.ModuleList(
            Generator(D, n_tokens, config) for n_tokens in self.n_tokens if config.generator
        )
        self.experts = nn.ModuleList(
            conv_block(D, D // 2, D, nn.GELU(), kernel=3) for _ in range(M)
        )
        self.router: nn.Sequential | None = None
        if config.moe:
            self.router = nn.Sequential(nn.Linear(D, D // 2), nn.GELU(), nn.Linear(D // 2, M))
        self.fusion = conv_block(M * D, 2 * D, D, nn.ReLU())
        self.decoder = make_decoder(D, config)
        n_queries = task.n_classes if config.read_out == "diagonal" else N_QUERIES
        self.prototype = nn.Embedding(n_queries, D)
        self.score = nn.Linear(D, n_queries)
        self.head: Head | None = None
        if config.read_out == "weighted":
            self.head = Head(D, D // 2, task.n_classes, p_drop=config.p_drop)
        self._initialise()

    def _initialise(self) -> None:
        for parameter in [*self.encoders.parameters(), *self.decoder.parameters()]:
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        blocks = [*(f"experts.{m}" for m in range(len(self.experts))), "fusion"]
        names = [f"{block}.{layer}.bias" for block in blocks for layer in (0, 3)]
        reason = "batch normalisation follows and takes the mean away"
        self.shift_invariant = dict.fromkeys(names, reason)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; see `Method.forward`."""
        encoded = self.encode(tokens, available)
        completed = self.complete(encoded, available)
        fused = self.fuse([self.mix(m, h) for m, h in enumerate(completed)])
        named = {f"tokens.{m}": h for m, h in enumerate(encoded)}
        named |= {f"completed.{m}": h for m, h in enumerate(completed)}
        return Prediction(self.classify(self.decode(fused)), {**named, "fused": fused.mean(1)})

    def encode(self, tokens: Sequence[Tokens], available: Tensor) -> list[Tensor]:
        """Project, resample and encode each modality: M times (B, T, D), zero where absent."""
        check_available(available, self.task.n_modalities)
        projected, _ = self.projection(tokens, available)
        encoded = [resample(x) for resample, x in zip(self.resample, projected, strict=True)]
        if self.encoders:
            last = len(self.encoders) - 1
            encoded = [self.encoders[min(m, last)](x) for m, x in enumerate(encoded)]
        return [torch.where(available[:, m, None, None], x, 0.0) for m, x in enumerate(encoded)]

    def complete(self, encoded: Sequence[Tensor], available: Tensor) -> list[Tensor]:
        """Fill in the missing modalities from the available ones, never from filled ones.

        Content of `encoded` (M times (B, T, D), finite) is not read where it is not available.
        """
        if not self.config.generator:
            return [torch.where(available[:, m, None, None], h, 0.0) for m, h in enumerate(encoded)]
        context = torch.cat(list(encoded), dim=1)  # (B, S, D)
        slots = [available[:, m, None].expand(-1, n) for m, n in enumerate(self.n_tokens)]
        generated = [generate(context, torch.cat(slots, dim=1)) for generate in self.generators]
        return [
            torch.where(available[:, m, None, None], encoded[m], generated[m])
            for m in range(len(generated))
        ]

    def mix(self, m: int, h: Tensor) -> Tensor:
        """Mix what all experts make of the tokens (B, T, D) of modality m, token by token."""
        if self.router is None:
            return self.experts[m](h)
        weights = self.router(h).softmax(-1)  # (B, T, M)
        made = torch.stack([expert(h) for expert in self.experts], dim=2)  # (B, T, M, D)
        return (weights[..., None] * made).sum(2)

    def fuse(self, mixed: Sequence[Tensor]) -> Tensor:
        """Fuse M times (B, T, D) to (B, T, D), at the shortest length."""
        shortest = min(self.n_tokens)
        level = [F.adaptive_avg_pool1d(x.mT, shortest).mT for x in mixed]
        return self.fusion(torch.cat(level, dim=-1))

    def decode(self, fused: Tensor) -> Tensor:
        """Let the learned queries look at the fused tokens: (B, Q, D)."""
        n_rows, (n_queries, d_model) = len(fused), self.prototype.weight.shape
        bug = self.config.official_pe_bug
        table = position_table(n_rows if bug else n_queries, d_model).to(fused)
        queries = self.prototype.weight + (table[:, None] if bug else table)  # ([B,] Q, D)
        return self.decoder(queries.expand(n_rows, -1, -1), fused)

    def classify(self, features: Tensor) -> Tensor:
        """Read logits (B, K) from the query features (B, Q, D)."""
        scores = self.score(features).diagonal(dim1=1, dim2=2)  # (B, Q)
        if self.head is None:
            return scores
        weights = scores.sigmoid() / scores.sigmoid().sum(1, keepdim=True)
        return self.head((weights[..., None] * features).sum(1))

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return cross-entropy, triplet and reconstruction terms; see `Method.losses`."""
        kept = progress.drop(observed, self.config.dropout)
        encoded = self.encode(tokens, observed)
        completed = self.complete(encoded, kept)
        mixed = [self.mix(m, h) for m, h in enumerate(completed)]
        features = self.decode(self.fuse(mixed))
        terms = {"ce": progress.cross_entropy(self.classify(features), label)}
        if self.config.w_triplet:
            terms["triplet"] = self.config.w_triplet * batch_hard_triplet(features)
        return terms | self.reconstruction(encoded, completed, mixed, observed, kept)

    def reconstruction(
        self,
        encoded: Sequence[Tensor],
        completed: Sequence[Tensor],
        mixed: Sequence[Tensor],
        observed: Tensor,
        kept: Tensor,
    ) -> dict[str, Tensor]:
        """Compare generated tokens, and all mixtures, with what the true tokens give.

        The tokens of M modalities are (B, T, D) each; `observed` and `kept` (B, M).
        """
        config, errors, divergences = self.config, [], []
        for m, expert in enumerate(self.experts):
            true = torch.where(observed[:, m, None, None], encoded[m], completed[m])
            true = true.detach() if config.detach_targets else true
            errors.append((completed[m] - true).square().mean((1, 2)))
            if config.kl:
                own = expert(true)
                own = own.detach() if config.detach_targets else own
                divergences.append(kl_per_row(mixed[m], own))
        terms = {}
        if config.gen_mse and config.generator:
            hidden = observed & ~kept
            terms["gen_mse"] = config.w_rec * (torch.stack(errors, 1) * hidden).sum(1).mean()
        if config.kl:
            terms["kl"] = config.w_rec * (torch.stack(divergences, 1) * observed).sum(1).mean()
        return terms

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest depths, widths, number of tokens and loss weights."""
        triplet = trial.suggest_categorical("triplet", [False, True])
        return {
            "enc_layers": trial.suggest_int("enc_layers", 1, 3),
            "dec_layers": trial.suggest_int("dec_layers", 1, 3),
            "ff_factor": trial.suggest_categorical("ff_factor", [1, 2, 3]),
            "heads": trial.suggest_categorical("heads", [2, 4]),
            "n_tokens": trial.suggest_categorical("n_tokens", [1, 8, 16, 32]),
            "w_triplet": trial.suggest_float("w_triplet", 0.05, 2.0, log=True) if triplet else 0.0,
            "w_rec": trial.suggest_float("w_rec", 0.05, 5.0, log=True),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
        }

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Name the law by which modalities are dropped in training."""
        assert isinstance(config, MCMoEConfig)
        return "none" if config.dropout == "none" else f"{config.dropout}, anew at each step"


def _n_tokens(spec: TokenSpec, config: MCMoEConfig) -> int:
    return (spec.kind == "table" and config.n_tokens_table) or config.n_tokens


def _check_width(d_model: int, config: MCMoEConfig) -> None:
    for field, divisor in (("heads", config.heads), ("generator_heads", config.generator_heads)):
        if d_model % divisor:
            raise BadConfig(
                f"mcmoe: {field} must divide the width {d_model}, got {divisor}; "
                "choose another number of heads or another d_model"
            )
    if d_model % 2:
        raise BadConfig(f"mcmoe: d_model must be even, got {d_model}; choose an even width")


PLUGIN = MCMoE
