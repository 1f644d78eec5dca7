"""CMML: complete what is missing from learned seeds, context and memory, then align and classify.

Tokens of a missing modality start from the available ones (dynamic seeds), are refined by a cascade
of residual transformer autoencoders over [context | all modalities] and enriched from a memory of
real tokens. Every modality then attends to a reference made for the case, and prototypes of the
classes shape the pooled feature.

Source: Liu, Yu, Han, Wan, "CMML", arXiv 2605.25968 (2026); equation numbers are that paper's. It
has no public code and its formulas are rebuilt from the prose; what it leaves open follows CFCML
(arXiv 2603.20016), the first author's earlier method. Departures and choices of ours:
- The encoders and the width D are the study's; the paper's tabular tokens come from a language
  model. Preset `table4` has the paper's parameter counts, the default keeps the paper's MLPs.
- Open in the paper: pre-norm blocks, seed and reference attention without projections, residuals
  around every MHCA, available tokens stay as projected (not refined), banks hold projected tokens,
  cosine form of L_sim, dropout 0.1 in the blocks and 0.5 (CFCML) in the classifier.
- L_pcl averages over positives outside the logarithm (`pos_reduction="sum"`: inside, as CFCML);
  classes without a case in the batch are left out, and below two classes both terms are 0.
- Modality dropout is uniform over the non-empty subsets of the observed ones, off in the warm-up.
  The paper needs complete training data; here L_sim is taken where a token was dropped and
  observed, so that training data with gaps serve too.
- Memory: one averaged EMA step per batch (`mem_update="sequential"`: token by token, as written in
  the paper, slow). A bank starts with tokens drawn at random from the first training steps that
  show its modality; slots not drawn yet take no part. Before that, retrieval sees small noise.
- A slot has one of three states. *There*: valid, in an available modality. *Missing*, so completed:
  every slot of an absent modality (padding exists only inside a present one), and all slots of an
  attribute without any valid slot in a present table; these retrieve and attend among themselves.
  *Padding*: any other invalid slot, such as the rest of a short sentence; masked as key everywhere
  and left out of pooling, losses and memory.
- Ablations: what a switch removes has no parameters. `baseline` pools the available tokens;
  `no_cmc` has constant seeds and neither cascade, memory nor L_sim, and the reference then reads
  the embedded tokens.
"""

# B batch, M modalities, T tokens of a modality, L tokens of all modalities, D model width,
# C context tokens, S memory slots, n rows or tokens picked out, A attributes, K classes

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from bench.availability import check_available
from bench.blocks import Head, Projection, masked_mean
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BadConfig
from bench.method import Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna

AttentionKind = Literal["plain", "mhca"]
Distance = Literal["cosine", "l1", "mse"]
Reduction = Literal["mean", "sum"]
Width = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class CMMLConfig(Config):
    """Settings of CMML. "Silent": the paper (or the text of it at hand) gives no value."""

    n_stages: int = Field(5, ge=1, description="residual autoencoders R")  # paper
    n_heads: int = Field(4, ge=1)  # paper, everywhere
    d_bottleneck: int = Field(32, ge=1, description="width D' inside the autoencoders")  # silent
    enc_mlp: Width | None = Field(32, description="hidden width, None: no MLP")  # silent
    dec_mlp: Width | None = Field(32, description="hidden width, None: no MLP")  # silent
    out_projection: bool = Field(True, description="after the blocks' attention")  # silent
    classifier_hidden: Width | None = Field(32, description="None: linear")  # D / 8 in CFCML
    dropout: float = Field(0.1, ge=0, lt=1, description="in the blocks' MLPs")  # silent
    classifier_dropout: float = Field(0.5, ge=0, lt=1)  # CFCML
    n_context: Literal["mean"] | Share = Field(
        "mean", description="mean token count of the modalities, or a share of all tokens"
    )  # paper
    init_attn: AttentionKind = "plain"  # silent (Eq. 3)
    ref_attn: AttentionKind = "plain"  # silent (Eq. 9)
    pool: Literal["tokens", "modalities"] = "tokens"  # paper: global average
    memory_size: int = Field(128, ge=1, description="slots of each bank")  # paper, Derm7pt and MEN
    memory_epochs: int = Field(25, ge=0, description="banks freeze after these")  # paper, Fig. 6
    eta: float = Field(0.9, ge=0, le=1, description="share of a slot kept by an update")  # silent
    mem_update: Literal["batched", "sequential"] = "batched"
    warmup_full_epochs: int = Field(5, ge=0, description="epochs without modality dropout")  # paper
    tau: float = Field(0.07, gt=0, description="temperature of the contrastive losses")  # CFCML
    pos_reduction: Reduction = "mean"
    sim_loss: Distance = "cosine"  # silent
    w_sim: float = Field(1.0, ge=0)  # paper, as the next two
    w_scl: float = Field(1.0, ge=0)
    w_pcl: float = Field(1.0, ge=0)
    baseline: bool = Field(False, description="no CMC, no ICAR: pool what is available")
    no_memory: bool = False
    no_context: bool = Field(False, description="no context tokens, hence no alignment")
    no_icma: bool = Field(False, description="no alignment")
    static_context: bool = Field(False, description="align to the learned context itself")
    no_cdr: bool = Field(False, description="no contrastive losses")
    no_cmc: bool = Field(False, description="learned constants for missing tokens")
    no_icar: bool = Field(False, description="no alignment, no contrastive losses")

    @property
    def completes(self) -> bool:
        """Whether missing tokens are completed from the case (CMC)."""
        return not (self.baseline or self.no_cmc)

    @property
    def remembers(self) -> bool:
        """Whether banks enrich what is completed."""
        return self.completes and not self.no_memory

    @property
    def aligns(self) -> bool:
        """Whether modalities attend to the reference (ICMA)."""
        return not (self.baseline or self.no_context or self.no_icma or self.no_icar)

    @property
    def contrasts(self) -> bool:
        """Whether the prototype losses are on (CDR)."""
        return not (self.baseline or self.no_cdr or self.no_icar)


@dataclass(frozen=True, eq=False)
class Slots:
    """State of one modality's slots in a batch; a slot that is neither is padding."""

    there: Tensor  # (B, T) bool
    missing: Tensor  # (B, T) bool, to be completed
    rows: Tensor  # (n,) long, the rows with a missing slot

    @classmethod
    def of(cls, there: Tensor, available: Tensor, owner: Tensor) -> Slots:
        """Tell missing slots from padding.

        Args:
            there: (B, T) bool, valid slots of an available modality.
            available: (B,) bool.
            owner: (T, A) float, see `owner_of_slots`.
        """
        unobserved = there.to(owner.dtype) @ owner == 0  # (B, A)
        missing = (unobserved.to(owner.dtype) @ owner.T > 0) | ~available[:, None]
        return cls(there, missing, missing.any(1).nonzero()[:, 0])

    def fill(self, x: Tensor, new: Tensor) -> Tensor:
        """Put new tokens (n, T, D) of the rows with gaps into the missing slots of x (B, T, D)."""
        gaps = self.missing[self.rows][..., None]
        return x.index_copy(0, self.rows, torch.where(gaps, new.to(x.dtype), x[self.rows]))


def owner_of_slots(spec: TokenSpec) -> Tensor:
    """Return (T, A) float: 1 where a slot belongs to an attribute."""
    attribute = torch.tensor(spec.attribute or (-1,) * spec.n_tokens)
    n_attributes = max(spec.attribute, default=-1) + 1
    return (attribute[:, None] == torch.arange(n_attributes)).float()


def n_context_tokens(setting: str | float, n_tokens: Sequence[int]) -> int:
    """Count the context tokens: the mean of the modalities' counts, or a share of their sum."""
    share = 1 / len(n_tokens) if isinstance(setting, str) else setting
    return max(1, math.floor(share * sum(n_tokens) + 0.5))


class CrossAttention(nn.Module):
    """Cross-attention: `mhca` has heads and projections, `plain` is softmax(Q X^T / sqrt(D)) X."""

    def __init__(self, d_model: int, n_heads: int, kind: AttentionKind = "mhca"):
        super().__init__()
        self.mhca: nn.Module | None = None
        if kind == "mhca":
            self.mhca = nn.MultiheadAttention(d_model, n_heads, batch_first=True)

    def forward(self, query: Tensor, x: Tensor, available: Tensor | None = None) -> Tensor:
        """Attend from (B, Q, D) to (B, L, D), to those tokens that are available, (B, L) bool."""
        if self.mhca is not None:
            ignored = None if available is None else ~available
            return self.mhca(query, x, x, key_padding_mask=ignored, need_weights=False)[0]
        allowed = None if available is None else available[:, None, None]
        keys = x[:, None]  # one head
        return F.scaled_dot_product_attention(query[:, None], keys, keys, attn_mask=allowed)[:, 0]


class Block(nn.Module):
    """Transformer block whose query, key and value projection changes the width.

    The skip starts from the values, as input and output differ in width.
    """

    def __init__(self, d_in: int, d_out: int, d_mlp: int | None, config: CMMLConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.norm = nn.LayerNorm(d_in)
        self.qkv = nn.Linear(d_in, 3 * d_out)
        self.out = nn.Linear(d_out, d_out) if config.out_projection else nn.Identity()
        self.mlp: nn.Module | None = None
        if d_mlp is not None:
            self.mlp = nn.Sequential(
                nn.LayerNorm(d_out),
                nn.Linear(d_out, d_mlp),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(d_mlp, d_out),
                nn.Dropout(config.dropout),
            )

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """Map (B, L, d_in) to (B, L, d_out); allowed keys (B, 1, 1, L) bool, None: all."""
        qkv = self.qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.n_heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        u = self.out(rearrange(attended, "b h l d -> b l (h d)")) + qkv.chunk(3, -1)[2]
        return u if self.mlp is None else u + self.mlp(u)


class CRTA(nn.Module):
    """Cascade of residual transformer autoencoders: Z_k = Z_(k-1) + Dec(Enc(Z_(k-1))) (Eq. 5)."""

    def __init__(self, d_model: int, config: CMMLConfig):
        super().__init__()
        narrow = config.d_bottleneck
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for _ in range(config.n_stages):
            self.encoders.append(Block(d_model, narrow, config.enc_mlp, config))
            self.decoders.append(Block(narrow, d_model, config.dec_mlp, config))

    def forward(self, z: Tensor, used: Tensor | None) -> Tensor:
        """Refine (B, L, D); `used` (B, L) bool is False for padding, None: there is none."""
        allowed = None if used is None else used[:, None, None]
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            z = z + decode(encode(z, allowed), allowed)
        return z


def nearest_slot(tokens: Tensor, bank: Tensor) -> Tensor:
    """Return for each token (..., D) the index of the slot of (S, D) with the largest cosine."""
    return (tokens @ F.normalize(bank, dim=-1).T).argmax(-1)


def move_slots(bank: Tensor, tokens: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Move each slot one EMA step toward the mean of the tokens nearest to it (Eq. 6, batched).

    Args:
        bank: (S, D).
        tokens: (n, D).
        eta: share of a slot that is kept.

    Returns:
        The moved bank, and the slot (n,) that each token was given to.
    """
    slot = nearest_slot(tokens, bank)
    assigned = F.one_hot(slot, len(bank)).to(bank.dtype)  # (n, S)
    count = assigned.sum(0)[:, None]
    mean = assigned.T @ tokens / count.clamp(min=1)  # a product: index_add has no order on a GPU
    return torch.where(count > 0, eta * bank + (1 - eta) * mean, bank), slot


def move_slots_in_turn(bank: Tensor, tokens: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Move the nearest slot toward one token after the other (Eq. 6 as written); see move_slots."""
    bank, slot = bank.clone(), []
    for token in tokens:
        j = nearest_slot(token, bank)
        bank[j] = eta * bank[j] + (1 - eta) * token
        slot.append(j)
    return bank, torch.stack(slot)


def retrieve(query: Tensor, bank: Tensor) -> Tensor:
    """Read for each query (..., D) a mixture of the slots (S, D): softmax(Q B^T / sqrt(D)) B."""
    return (query @ bank.T / math.sqrt(bank.shape[-1])).softmax(-1) @ bank


class MemoryBank(nn.Module):
    """Memory of one modality's projected tokens; all of it is buffers, no gradient enters."""

    bank: Tensor  # (S, D); the first n_filled slots hold tokens
    hits: Tensor  # (S,) long, how many tokens moved each slot
    n_filled: Tensor  # () long

    def __init__(self, d_model: int, config: CMMLConfig):
        super().__init__()
        self.eta = config.eta
        self.move = move_slots if config.mem_update == "batched" else move_slots_in_turn
        self.register_buffer("bank", 0.02 * torch.randn(config.memory_size, d_model))
        self.register_buffer("hits", torch.zeros(config.memory_size, dtype=torch.long))
        self.register_buffer("n_filled", torch.tensor(0))

    def forward(self, query: Tensor) -> Tensor:
        """Retrieve for (n, T, D) from the filled slots; from the noise in all while none is."""
        return retrieve(query, self.bank[: int(self.n_filled) or None])

    @torch.no_grad()
    def update(self, tokens: Tensor, generator: torch.Generator) -> None:
        """Fill free slots with tokens drawn from (n, D), then move the filled ones (Eq. 6)."""
        if not len(tokens):
            return
        tokens, start = tokens.to(self.bank.dtype), int(self.n_filled)
        drawn = torch.randperm(len(tokens), generator=generator)[: len(self.bank) - start]
        end = start + len(drawn)
        self.bank[start:end] = tokens[drawn.to(tokens.device)]
        self.n_filled.fill_(end)
        self.bank[:end], slot = self.move(self.bank[:end], tokens, self.eta)
        self.hits += slot.bincount(minlength=len(self.hits))


def similarity_loss(
    completed: Sequence[Tensor],
    target: Sequence[Tensor],
    chosen: Sequence[Tensor],
    distance: Distance = "cosine",
) -> Tensor:
    """Average the distance of completed tokens to the true ones (Eq. 8).

    The mean runs over the chosen tokens of a modality in a case, then over such pairs; 0 if there
    are none. No gradient reaches the target.

    Args:
        completed: M tensors (B, T_m, D).
        target: M tensors (B, T_m, D).
        chosen: M tensors (B, T_m) bool, tokens that were dropped and are observed.
        distance: `cosine` is 1 - cos; `l1` and `mse` average over D.
    """
    totals, n_pairs = [], []
    for x, y, pick in zip(completed, target, chosen, strict=True):
        each = token_distance(x.float(), y.detach().float(), distance)  # (B, T)
        mean = torch.where(pick, each, 0.0).sum(1) / pick.sum(1).clamp(min=1)
        totals.append(mean.sum())
        n_pairs.append(pick.any(1).sum())
    return torch.stack(totals).sum() / torch.stack(n_pairs).sum().clamp(min=1)


def token_distance(x: Tensor, y: Tensor, distance: Distance) -> Tensor:
    """Return the distance (...) of tokens (..., D) to tokens (..., D)."""
    if distance == "cosine":
        return 1 - F.cosine_similarity(x, y, dim=-1)
    return (x - y).abs().mean(-1) if distance == "l1" else (x - y).square().mean(-1)


def contrastive_losses(
    feature: Tensor, label: Tensor, tau: float, pos_reduction: Reduction = "mean"
) -> tuple[Tensor, Tensor]:
    """Contrast cases with class prototypes, and prototypes with cases (Eq. 12 and 13).

    A prototype is the mean feature of a class in the batch; gradients flow through it.

    Args:
        feature: (B, D).
        label: (B,) long.
        tau: temperature of the cosines.
        pos_reduction: the positives of a prototype are averaged outside the logarithm (`mean`) or
            summed inside it (`sum`).

    Returns:
        L_scl and L_pcl; both 0 with fewer than two classes in the batch.
    """
    present, label = label.unique(return_inverse=True)
    if len(present) < 2:
        return feature.new_zeros(()), feature.new_zeros(())
    member = F.one_hot(label).to(feature.dtype)  # (B, K)
    count = member.sum(0)  # (K,)
    prototype = F.normalize(member.T @ feature / count[:, None], dim=-1)  # (K, D)
    similarity = F.normalize(feature, dim=-1) @ prototype.T / tau  # (B, K)
    own = torch.eye(len(present), dtype=torch.bool, device=feature.device)
    negative = (prototype @ prototype.T / tau).masked_fill(own, -torch.inf).logsumexp(1)  # (K,)
    if pos_reduction == "sum":
        positive = similarity.masked_fill(member == 0, -torch.inf).logsumexp(0)  # (K,)
        prototype_anchor = F.softplus(negative - positive).mean()
    else:
        each = F.softplus(negative - similarity) * member  # (B, K)
        prototype_anchor = (each.sum(0) / count).mean()
    return F.cross_entropy(similarity, label), prototype_anchor


_BARE = {"dec_mlp": None, "out_projection": False, "classifier_hidden": None}


class CMML(Method):
    """Complete missing modalities from context, then align all to a reference of the case."""

    name = "cmml"
    display_name = "CMML"
    reference = Reference(
        title="CMML: Context-driven Missing-Modality Learning",
        authors="Tianling Liu, Lequan Yu, Tong Han, Liang Wan",
        year=2026,
        arxiv="2605.25968",
    )
    config_class = CMMLConfig
    presets: ClassVar = {
        "standard": {"d_bottleneck": 32, "enc_mlp": 32, "dec_mlp": 32, "classifier_hidden": 32},
        "table4": {"d_bottleneck": 64, "enc_mlp": 256} | _BARE,
        "table4-a": {"d_bottleneck": 32, "enc_mlp": 128, "dec_mlp": None, "classifier_hidden": 128},
        "fit": {"d_bottleneck": 16, "enc_mlp": 16, "init_attn": "mhca", "ref_attn": "mhca"} | _BARE,
        "quick": {"d_bottleneck": 16, "enc_mlp": 16, "dec_mlp": 16, "memory_epochs": 15},
    }
    ablations: ClassVar = {
        "Baseline": {"baseline": True},
        "w/o memory bank": {"no_memory": True},
        "w/o context": {"no_context": True},
        "w/o ICMA": {"no_icma": True},
        "w/o adaptive context": {"static_context": True},
        "w/o CDR": {"no_cdr": True},
        "w/o CMC": {"no_cmc": True},
        "w/o ICAR": {"no_icar": True},
    }
    config: CMMLConfig
    context: nn.Parameter | None

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest what the paper leaves open or sweeps; width, heads and stages stay."""
        choose, real = trial.suggest_categorical, trial.suggest_float
        d_bottleneck = choose("d_bottleneck", [16, 32, 64])
        d_mlp = d_bottleneck * choose("mlp_ratio", [1, 4])
        return {
            "d_bottleneck": d_bottleneck,
            "enc_mlp": d_mlp,
            "dec_mlp": d_mlp,
            "dropout": real("dropout", 0.0, 0.5),
            "classifier_dropout": real("classifier_dropout", 0.0, 0.5),
            "memory_size": choose("memory_size", [32, 64, 128, 256, 512]),
            "memory_epochs": trial.suggest_int("memory_epochs", 5, 50),
            "eta": choose("eta", [0.9, 0.99]),
            "tau": real("tau", 0.03, 0.5, log=True),
            "n_context": choose("n_context", ["mean", 0.1, 0.2, 0.3, 0.4, 0.5]),
            "init_attn": choose("init_attn", ["plain", "mhca"]),
            "ref_attn": choose("ref_attn", ["plain", "mhca"]),
            "pool": choose("pool", ["tokens", "modalities"]),
        } | {name: real(name, 0.05, 2.0, log=True) for name in ("w_sim", "w_scl", "w_pcl")}

    @classmethod
    def dropout_law(cls, config: CMMLConfig) -> str:
        """Say which modalities are dropped in training."""
        return f"uniform over non-empty subsets, from epoch {config.warmup_full_epochs + 1}"

    def __init__(self, task: Task, config: CMMLConfig):
        """Build only what the ablation switches leave.

        Raises:
            BadConfig: D or D' is not divisible by the number of heads.
        """
        super().__init__(task, config)
        for name, width in (("d_model", task.d_model), ("d_bottleneck", config.d_bottleneck)):
            if width % config.n_heads:
                raise BadConfig(
                    f"cmml: {name} {width} is not divisible by n_heads {config.n_heads}; "
                    "change one of them"
                )
        self.projection = Projection(task)  # Eq. 1-2
        if not config.baseline:
            self._build_tables()
            self._build_attention()
        self.classifier = self._build_classifier()
        self._pending: list[tuple[Tensor, Tensor]] = []  # tokens of this step, for the banks

    def _build_tables(self) -> None:
        """Make the learned tables, each N(0, 0.02^2), and say whose slot a token is."""
        config, d_model = self.config, self.task.d_model
        n_tokens = [spec.n_tokens for spec in self.task.modalities]

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.02 * torch.randn(*shape))

        self.seeds = nn.ParameterList(table(n, d_model) for n in n_tokens)  # S_m
        self.position = nn.ParameterList(table(n, d_model) for n in n_tokens)  # P_m
        self.modal_type = table(len(n_tokens), d_model)  # T_m
        self.state = nn.ParameterList(table(2, n, d_model) for n in n_tokens)  # V_m
        self.context = None  # G
        if not config.no_context and (config.completes or config.aligns):
            self.context = table(n_context_tokens(config.n_context, n_tokens), d_model)
        for m, spec in enumerate(self.task.modalities):
            self.register_buffer(f"owner_{m}", owner_of_slots(spec), persistent=False)

    def _build_attention(self) -> None:
        config, d_model, heads = self.config, self.task.d_model, self.config.n_heads

        def one_per_modality() -> nn.ModuleList:
            return nn.ModuleList(CrossAttention(d_model, heads) for _ in self.task.modalities)

        if config.completes:
            self.initial_attention = CrossAttention(d_model, heads, config.init_attn)
            self.crta = CRTA(d_model, config)
        if config.remembers:
            self.banks = nn.ModuleList(MemoryBank(d_model, config) for _ in self.task.modalities)
            self.memory_attention = one_per_modality()
        if config.aligns:
            self.alignment = one_per_modality()
            if not config.static_context:
                self.reference_attention = CrossAttention(d_model, heads, config.ref_attn)

    def _build_classifier(self) -> nn.Module:
        d_model, n_classes = self.task.d_model, self.task.n_classes
        hidden, p_drop = self.config.classifier_hidden, self.config.classifier_dropout
        if hidden is None:
            return nn.Sequential(nn.Dropout(p_drop), nn.Linear(d_model, n_classes))
        return Head(d_model, hidden, n_classes, p_drop=p_drop)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; representations are those of the contract."""
        check_available(available, self.task.n_modalities)
        projected, there = self.projection(tokens, available)
        return self._predict(projected, there, available)

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return ce, sim, scl and pcl; dropped tokens that are observed are the targets of sim."""
        check_available(observed, self.task.n_modalities)
        kept = self._keep(observed, progress)
        target, seen = self.projection(tokens, observed)
        there = [each & kept[:, m, None] for m, each in enumerate(seen)]
        shown = [torch.where(t[..., None], x, 0.0) for t, x in zip(there, target, strict=True)]
        prediction = self._predict(shown, there, kept)
        if self.training and self.config.remembers:
            self._pending = [(x.detach(), t) for x, t in zip(shown, there, strict=True)]
        terms = {"ce": progress.cross_entropy(prediction.logits.float(), label)}
        if self.config.completes:
            dropped = [s & ~t for s, t in zip(seen, there, strict=True)]
            terms["sim"] = self._similarity(prediction, target, dropped)
        return terms | self._contrast(prediction.representations["fused"], label)

    def after_step(self, progress: Progress) -> None:
        """Feed the banks with the tokens that the step saw, until they are frozen."""
        if self._pending and progress.epoch < self.config.memory_epochs:
            for bank, (x, there) in zip(self.banks, self._pending, strict=True):
                bank.update(x[there], progress.generator)  # type: ignore[operator]
        self._pending = []

    def _keep(self, observed: Tensor, progress: Progress) -> Tensor:
        """Drop modalities, but not in the warm-up, in which the banks fill."""
        if progress.epoch < self.config.warmup_full_epochs:
            return observed
        return progress.drop(observed, "uniform")

    def _similarity(
        self, prediction: Prediction, target: list[Tensor], dropped: list[Tensor]
    ) -> Tensor:
        names = [spec.name for spec in self.task.modalities]
        completed = [prediction.representations[f"completed.{name}"] for name in names]
        loss = similarity_loss(completed, target, dropped, self.config.sim_loss)
        return self.config.w_sim * loss

    def _contrast(self, fused: Tensor, label: Tensor) -> dict[str, Tensor]:
        config = self.config
        if not config.contrasts:
            return {}
        scl, pcl = contrastive_losses(fused.float(), label, config.tau, config.pos_reduction)
        return {"scl": config.w_scl * scl, "pcl": config.w_pcl * pcl}

    def _predict(self, x: list[Tensor], there: list[Tensor], available: Tensor) -> Prediction:
        """Complete, align, pool and classify projected tokens (B, T_m, D); absent ones are 0."""
        completed, aligned, used = x, x, there
        if not self.config.baseline:
            owners = [self.get_buffer(f"owner_{m}") for m in range(len(x))]
            slots = [Slots.of(t, available[:, m], owners[m]) for m, t in enumerate(there)]
            used = [each.there | each.missing for each in slots]
            completed, aligned = self._complete_and_align(x, slots, torch.cat(used, 1))
        fused = self._pool(aligned, used)
        representations = {"fused": fused}
        for spec, projected, whole in zip(self.task.modalities, x, completed, strict=True):
            representations[f"tokens.{spec.name}"] = projected
            representations[f"completed.{spec.name}"] = whole
        return Prediction(self.classifier(fused), representations)

    def _complete_and_align(
        self, x: list[Tensor], slots: list[Slots], used: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the completed tokens and the aligned ones; used (B, L) is False for padding."""
        keys = None if bool(used.all()) else used
        embedded = self._embed(self._initialise(x, slots), slots)
        context, refined = self._refine(embedded, keys)
        completed = self._complete(x, refined, slots)
        if not self.config.aligns:
            return completed, completed
        reference = self._reference(context, refined, keys)
        pairs = zip(self.alignment, completed, strict=True)
        return completed, [f + align(f, reference) for align, f in pairs]  # Eq. 10

    def _initialise(self, x: list[Tensor], slots: list[Slots]) -> list[Tensor]:
        """Start missing tokens from the available ones of the case (dynamic seeds, Eq. 3)."""
        everything, there = torch.cat(x, 1), torch.cat([each.there for each in slots], 1)
        started = []
        for x_m, each, seeds in zip(x, slots, self.seeds, strict=True):
            new = seeds.expand(len(each.rows), -1, -1)  # (n, T, D)
            if len(new) and self.config.completes:
                new = self.initial_attention(new, everything[each.rows], there[each.rows])
            started.append(each.fill(x_m, new))
        return started

    def _embed(self, x: list[Tensor], slots: list[Slots]) -> list[Tensor]:
        """Add position, modal type, and whether a token is there or missing (Eq. 4)."""
        embedded = []
        for m, each in enumerate(slots):
            there, missing = self.state[m]
            state = torch.where(each.there[..., None], there, missing)  # (B, T, D)
            embedded.append(x[m] + (self.position[m] + self.modal_type[m]) + state)
        return embedded

    def _refine(self, h: list[Tensor], keys: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Run the cascade over [context | all modalities] (Eq. 5) and split what comes out."""
        sizes = [0, *(spec.n_tokens for spec in self.task.modalities)]
        if self.context is not None:
            sizes[0] = len(self.context)
            h = [self.context.expand(len(h[0]), -1, -1), *h]
            keys = None if keys is None else F.pad(keys, (sizes[0], 0), value=True)
        z = torch.cat(h, 1)  # (B, C + L, D)
        if self.config.completes:
            z = self.crta(z, keys)
        context, *refined = z.split(sizes, 1)
        return context, refined

    def _complete(self, x: list[Tensor], refined: list[Tensor], slots: list[Slots]) -> list[Tensor]:
        """Put refined tokens, enriched from the memory, where tokens are missing (Eq. 7)."""
        completed = []
        for m, each in enumerate(slots):
            new = refined[m][each.rows]  # (n, T, D)
            if len(new) and self.config.remembers:
                remembered = self.banks[m](new)
                new = new + self.memory_attention[m](new, remembered, each.missing[each.rows])
            completed.append(each.fill(x[m], new))
        return completed

    def _reference(self, context: Tensor, refined: list[Tensor], keys: Tensor | None) -> Tensor:
        """Adapt the context to the case (Eq. 9); the ablation keeps the learned tokens."""
        if self.config.static_context and self.context is not None:
            return self.context.expand_as(context)
        return context + self.reference_attention(context, torch.cat(refined, 1), keys)

    def _pool(self, aligned: list[Tensor], used: list[Tensor]) -> Tensor:
        """Average all tokens, or the means of the modalities that have any (Eq. 11)."""
        if self.config.pool == "tokens":
            return masked_mean(torch.cat(aligned, 1), torch.cat(used, 1))
        means = [masked_mean(a, u) for a, u in zip(aligned, used, strict=True)]
        there = torch.stack([u.any(1) for u in used], 1)  # (B, M)
        return masked_mean(torch.stack(means, 1), there)


PLUGIN = CMML
