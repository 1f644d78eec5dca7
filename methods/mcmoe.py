"""MCMoE: generate the tokens of missing modalities, then mix the experts of all modalities.

A gated cross-attention generator per modality fills in its tokens from those available. Every
modality's tokens pass through the experts of all modalities, mixed by a soft router per token. In
training, what was hidden guides the generated tokens (squared error) and the mixed ones (KL).

Source: Xu et al., "MCMoE: Completing Missing Modalities with Mixture of Experts for Incomplete
Multimodal Action Quality Assessment", AAAI 2026 (arXiv 2511.17397); the official code is followed.

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
  They look only at what a case truly has, see `guidance`.
- Decoder positions are indexed by query; the official code indexes by place in the batch, which
  `official_pe_bug` reproduces.
- As in the official code the generator's query is zero, see `TokenGenerator` for what follows.
"""

# B batch, M modalities, T tokens of a modality, resampled, D model width, Q queries, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import AttentionStack, Head, Projection, check_heads
from bench.data import Task, Tokens
from bench.errors import BadConfig
from bench.layers.attention import query_decoder
from bench.layers.completion import guidance
from bench.layers.contrastive import batch_hard_triplet
from bench.layers.convolution import Resample, conv_block
from bench.layers.experts import mix_by_token
from bench.layers.generator import TokenGenerator, generate_missing
from bench.layers.initialisation import xavier_start
from bench.layers.pooling import to_shortest
from bench.layers.positions import sinusoidal_table
from bench.method import Capabilities, Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna

N_QUERIES = 4  # of the official decoder


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


class MCMoE(Method):
    """Encode, complete, mix, fuse, decode the queries, read out the classes."""

    name = "mcmoe"
    display_name = "MCMoE"
    reference = Reference(
        title="MCMoE: Completing Missing Modalities with Mixture of Experts for Incomplete "
        "Multimodal Action Quality Assessment",
        authors="Xu et al.",
        year=2026,
        venue="AAAI",
        arxiv="2511.17397",
        code="XuHuangbiao/MCMoE",
    )
    config_class = MCMoEConfig
    capabilities = Capabilities(
        min_modalities=2, smaller_batch=False, reason="a generator needs another modality"
    )
    presets: ClassVar = {
        "default": {},
        # At D = 256; for four modalities T = 48, and 16 for the table.
        "table4": {"enc_layers": 2, "ff_factor": 1, "shared_encoder": False}
        | {"n_tokens_table": 24, "read_out": "weighted"},
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
        D, M, K = task.d_model, task.n_modalities, task.n_classes
        check_heads(config.heads, D, "mcmoe: heads")
        check_heads(config.generator_heads, D, "mcmoe: generator_heads")
        if D % 2:
            raise BadConfig(f"mcmoe: d_model must be even, got {D}; choose an even width")
        shape = config.heads, config.ff_factor, config.p_drop
        encoder = AttentionStack(config.enc_layers, *shape)
        n_tables = config.n_tokens_table or config.n_tokens
        kinds = [spec.kind for spec in task.modalities]
        n_tokens = [n_tables if kind == "table" else config.n_tokens for kind in kinds]
        self.projection = Projection(task)
        self.resample = Resample([spec.n_tokens for spec in task.modalities], n_tokens)
        n_encoders = 0 if not config.encoder else 1 if config.shared_encoder else M
        self.encoders = nn.ModuleList(encoder.encoder(D, last_norm=True) for _ in range(n_encoders))
        self.generators = nn.ModuleList(
            TokenGenerator(D, n, n_heads=config.generator_heads, learned_query=config.learned_query)
            for n in n_tokens
            if config.generator
        )
        self.experts = nn.ModuleList(
            conv_block(D, D // 2, D, nn.GELU(), kernel=3) for _ in range(M)
        )
        self.router: nn.Sequential | None = None
        if config.moe:
            self.router = nn.Sequential(nn.Linear(D, D // 2), nn.GELU(), nn.Linear(D // 2, M))
        self.fusion = conv_block(M * D, 2 * D, D, nn.ReLU())
        self.decoder = query_decoder(D, AttentionStack(config.dec_layers, *shape))
        n_queries = K if config.read_out == "diagonal" else N_QUERIES
        self.prototype = nn.Embedding(n_queries, D)
        self.score = nn.Linear(D, n_queries)
        weighted = config.read_out == "weighted"
        self.head = Head(D, D // 2, K, p_drop=config.p_drop) if weighted else None
        xavier_start([*self.encoders.parameters(), *self.decoder.parameters()])
        blocks = [*(f"experts.{m}" for m in range(M)), "fusion"]
        names = [f"{block}.{layer}.bias" for block in blocks for layer in (0, 3)]
        reason = "batch normalisation follows and takes the mean away"
        self.shift_invariant = dict.fromkeys(names, reason)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; see `Method.forward`."""
        encoded = self.encode(tokens, available)
        completed = generate_missing(encoded, available, self.generators)
        fused = self.fuse([self.mix(m, h) for m, h in enumerate(completed)])
        named = {f"tokens.{m}": h for m, h in enumerate(encoded)}
        named |= {f"completed.{m}": h for m, h in enumerate(completed)}
        return Prediction(self.classify(self.decode(fused)), {**named, "fused": fused.mean(1)})

    def encode(self, tokens: Sequence[Tokens], available: Tensor) -> list[Tensor]:
        """Project, resample and encode each modality: M times (B, T, D), zero where absent."""
        check_available(available, self.task.n_modalities)
        projected, _ = self.projection(tokens, available)
        encoded = self.resample(projected)
        if self.encoders:
            last = len(self.encoders) - 1
            encoded = [self.encoders[min(m, last)](x) for m, x in enumerate(encoded)]
        return [torch.where(available[:, m, None, None], x, 0.0) for m, x in enumerate(encoded)]

    def mix(self, m: int, h: Tensor) -> Tensor:
        """Mix what all experts make of the tokens (B, T, D) of modality m, token by token."""
        if self.router is None:
            return self.experts[m](h)
        return mix_by_token(h, self.experts, self.router)

    def fuse(self, mixed: Sequence[Tensor]) -> Tensor:
        """Fuse M times (B, T, D) to (B, T, D), at the shortest length."""
        return self.fusion(torch.cat(to_shortest(mixed), dim=-1))

    def decode(self, fused: Tensor) -> Tensor:
        """Let the learned queries look at the fused tokens: (B, Q, D)."""
        n_rows, (n_queries, d_model) = len(fused), self.prototype.weight.shape
        bug = self.config.official_pe_bug
        n_positions = n_rows if bug else n_queries
        table = sinusoidal_table(n_positions, d_model, dtype=torch.float32).to(fused)
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
        config, kept = self.config, progress.drop(observed, self.config.dropout)
        encoded = self.encode(tokens, observed)
        completed = generate_missing(encoded, kept, self.generators)
        mixed = [self.mix(m, h) for m, h in enumerate(completed)]
        features = self.decode(self.fuse(mixed))
        terms = {"ce": progress.cross_entropy(self.classify(features), label)}
        if config.w_triplet:
            terms["triplet"] = config.w_triplet * batch_hard_triplet(features)
        experts = self.experts if config.kl else None
        error, divergence = guidance(
            encoded, completed, mixed, observed, kept, experts=experts, detach=config.detach_targets
        )
        if config.gen_mse and config.generator:
            terms["gen_mse"] = config.w_rec * error
        if config.kl:
            terms["kl"] = config.w_rec * divergence
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
    def dropout_law(cls, config: MCMoEConfig) -> str:
        """Name the law by which modalities are dropped in training."""
        return "none" if config.dropout == "none" else f"{config.dropout}, anew at each step"


PLUGIN = MCMoE
