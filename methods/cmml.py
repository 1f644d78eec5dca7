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
  L_sim is taken where a token was dropped and observed; the paper needs complete training data.
- Memory: one averaged EMA step per batch (`mem_update="sequential"`: token by token, as written in
  the paper, slow). How a bank starts is ours, see `MemoryBank`.
- A slot is there, missing or padding, see `bench.layers.slots`: missing ones, unobserved attributes
  too, retrieve and attend among themselves; padding is no key and in no mean, loss or memory.
- Ablations: what a switch removes has no parameters. `baseline` pools the available tokens;
  `no_cmc` has constant seeds, no cascade, memory or L_sim; its reference reads embedded tokens.
"""

# B batch, M modalities, T tokens of a modality, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import check_available
from bench.blocks import Head, Projection, check_heads
from bench.data import Task, Tokens
from bench.layers.attention import AttentionKind
from bench.layers.autoencoder import Cascade
from bench.layers.completion import similarity_loss
from bench.layers.context import ContextAlignment, ContextCompletion
from bench.layers.contrastive import Reduction, prototype_losses
from bench.layers.memory_bank import Memory, MemoryUpdate
from bench.layers.pooling import PoolRule, pool_sets
from bench.method import Capabilities, Config, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna

Width = Annotated[int, Field(ge=1)]
Count = Literal["mean"] | Annotated[float, Field(gt=0, le=1)]


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
    n_context: Count = Field("mean", description="mean token count, or a share of all")  # paper
    init_attn: AttentionKind = "plain"  # silent (Eq. 3)
    ref_attn: AttentionKind = "plain"  # silent (Eq. 9)
    pool: PoolRule = "tokens"  # paper: global average
    memory_size: int = Field(128, ge=1, description="slots of each bank")  # paper, Derm7pt and MEN
    memory_epochs: int = Field(25, ge=0, description="banks freeze after these")  # paper, Fig. 6
    eta: float = Field(0.9, ge=0, le=1, description="share of a slot kept by an update")  # silent
    mem_update: MemoryUpdate = "batched"
    warmup_full_epochs: int = Field(5, ge=0, description="epochs without modality dropout")  # paper
    tau: float = Field(0.07, gt=0, description="temperature of the contrastive losses")  # CFCML
    pos_reduction: Reduction = "mean"
    sim_loss: Literal["cosine", "l1", "mse"] = "cosine"  # silent
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
    capabilities = Capabilities(smaller_batch=False)  # it contrasts the cases of a batch
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

    def __init__(self, task: Task, config: CMMLConfig):
        """Build only what the ablation switches leave; the heads have to divide D and D'."""
        super().__init__(task, config)
        D, K, heads = task.d_model, task.n_classes, config.n_heads
        for width in (D, config.d_bottleneck):
            check_heads(heads, width, "cmml: n_heads")
        self.completes = not (config.baseline or config.no_cmc)  # CMC
        aligns = not (config.no_context or config.no_icma or config.no_icar)  # ICMA
        self.aligns = aligns and not config.baseline
        self.contrasts = not (config.baseline or config.no_cdr or config.no_icar)  # CDR
        self.projection = Projection(task)  # Eq. 1-2
        self.completion = None if config.baseline else self._completion()
        self.alignment: ContextAlignment | None = None
        if self.aligns:
            kind = None if config.static_context else config.ref_attn
            self.alignment = ContextAlignment(task.n_modalities, D, n_heads=heads, reference=kind)
        hidden, p_drop = config.classifier_hidden, config.classifier_dropout
        self.classifier = (
            nn.Sequential(nn.Dropout(p_drop), nn.Linear(D, K))
            if hidden is None
            else Head(D, hidden, K, p_drop=p_drop)
        )
        self._pending: tuple[list[Tensor], list[Tensor]] | None = None  # for the banks

    def _completion(self) -> ContextCompletion:
        config = self.config
        has_context = not config.no_context and (self.completes or self.aligns)
        widths = config.d_bottleneck, config.enc_mlp, config.dec_mlp
        cascade = Cascade(config.n_stages, *widths, config.out_projection, config.dropout)
        memory = Memory(config.memory_size, config.eta, config.mem_update)
        return ContextCompletion(
            self.task.modalities,
            self.task.d_model,
            n_heads=config.n_heads,
            n_context=config.n_context if has_context else None,
            start=config.init_attn,
            cascade=cascade if self.completes else None,
            memory=memory if self.completes and not config.no_memory else None,
        )

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available; representations are those of the contract."""
        check_available(available, self.task.n_modalities)
        x, there = self.projection(tokens, available)
        return self._predict(x, there, available)

    def _predict(self, x: list[Tensor], there: list[Tensor], available: Tensor) -> Prediction:
        """Complete, align, pool and classify projected tokens (B, T_m, D); absent ones are 0."""
        completed, aligned, used = x, x, there
        if self.completion is not None:
            case = self.completion(x, there, available)  # Eq. 3-7
            completed, used = case.tokens, case.used
            aligned = completed if self.alignment is None else self.alignment(case)  # Eq. 9-10
        fused = pool_sets(aligned, used, self.config.pool)  # Eq. 11
        representations = {"fused": fused}
        for m, spec in enumerate(self.task.modalities):
            representations |= {f"tokens.{spec.name}": x[m], f"completed.{spec.name}": completed[m]}
        return Prediction(self.classifier(fused), representations)

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return ce, sim, scl and pcl; dropped tokens that are observed are the targets of sim."""
        check_available(observed, self.task.n_modalities)
        config, warm = self.config, progress.epoch < self.config.warmup_full_epochs
        kept = observed if warm else progress.drop(observed, "uniform")
        target, seen = self.projection(tokens, observed)
        there = [each & kept[:, m, None] for m, each in enumerate(seen)]
        shown = [torch.where(t[..., None], x, 0.0) for t, x in zip(there, target, strict=True)]
        prediction = self._predict(shown, there, kept)
        if self.training:
            self._pending = [x.detach() for x in shown], there
        terms = {"ce": progress.cross_entropy(prediction.logits.float(), label)}
        made = prediction.representations
        if self.completes:
            completed = [made[f"completed.{spec.name}"] for spec in self.task.modalities]
            dropped = [s & ~t for s, t in zip(seen, there, strict=True)]
            sim = similarity_loss(completed, target, dropped, config.sim_loss)  # Eq. 8
            terms["sim"] = config.w_sim * sim
        if self.contrasts:  # Eq. 12-13
            fused = made["fused"].float()
            scl, pcl = prototype_losses(fused, label, config.tau, config.pos_reduction)
            terms |= {"scl": config.w_scl * scl, "pcl": config.w_pcl * pcl}
        return terms

    def after_step(self, progress: Progress) -> None:
        """Feed the banks with the tokens that the step saw (Eq. 6), until they are frozen."""
        if self.completion and self._pending and progress.epoch < self.config.memory_epochs:
            self.completion.remember(*self._pending, progress.generator)
        self._pending = None

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


PLUGIN = CMML
