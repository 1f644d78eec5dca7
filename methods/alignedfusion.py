"""AlignedFusion: attribute tokens, masked reconstruction, fusion through one intermediate token.

A report becomes one token per attribute. An attribute that is not mentioned is a learned unknown
token and is reconstructed from the rest, so that "not mentioned" is not read as "absent". The sets
of tokens never attend to each other: they exchange information only through one shared intermediate
token, which keeps the dense picture from overwhelming the sparse report.

Source: Li et al., "AlignedFusion: Handling Missing Information in Reports and Inter-Modality
Information Imbalance", MIDL 2026, under review; no code is public. The paper gives no widths,
depths or recipe: they are the study's or ours.

Departures:
- Tables stand in for reports: the columns are the attributes, a missing cell is "not mentioned". An
  attribute's token is the mean of its valid slots (the paper: the [CLS] of a sentence, frozen).
- The intermediate token is written back after every layer; the paper shows one. With a single layer
  it would arrive too late for any token to read it (preset `paper_literal`).
- Equation 10, a cross-entropy between embeddings, is read as soft labels over the values of an
  attribute; the reconstructed token is their mean of the values' tokens e_{i,v}. With learned
  attribute tokens a value has no frozen vector: e_{i,v} is then a learned one, projected like the
  tokens. A numeric attribute's values are its quartiles.
- "Reconstruct their tokens for subsequent training" is read as a second pass in which they replace
  the unknown tokens.
- One set per modality, so several pictures or tables; an absent picture is left out of the mean
  intermediate token, and a learned vector takes its place before the classifier. An absent table is
  all unknown. Without a table nothing is reconstructed.
- Modalities are not dropped in training (the paper masks attributes alone); `dropout` can. A table
  dropped so is a target of the reconstruction like masked attributes.
- `intermediate_token: false` is the self-attention baseline with reconstruction, of one class.
"""

# B batch, S sets (modalities that are used), N tokens of a set, D model width

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bench.attribute_fusion import AttributeFusion, AttributeFusionConfig
from bench.blocks import learned_tokens, masked_mean
from bench.data import Task
from bench.errors import NotApplicable
from bench.layers.set_fusion import Fusion, JointAttention

if TYPE_CHECKING:
    import optuna


class AlignedFusionConfig(AttributeFusionConfig):
    """Settings; [P] in a description marks the paper's own, the rest is ours."""

    intermediate_token: bool = Field(True, description="False: table 4a of the paper")
    it_update: Literal["every_layer", "last"] = Field(
        "every_layer", description="`last` averages its copies when nothing reads them any more"
    )
    attribute_tokens: bool = Field(True, description="False: one vector for the whole report")
    image_only: bool = Field(False, description="leave the tables out")

    @model_validator(mode="after")
    def _can_be_built(self) -> AlignedFusionConfig:
        if self.reconstruct and not self.attribute_tokens:
            raise ValueError(
                "attribute_tokens false leaves nothing to reconstruct; set reconstruct"
            )
        if self.image_only and not self.intermediate_token:
            raise ValueError("image_only needs the intermediate token: cases may have no picture")
        return self


class IntermediateToken(Fusion):
    """Self-attention inside each set; the sets meet in one token alone (eq. 6-8, 11)."""

    keeps_unknown = True

    def __init__(self, is_report: Sequence[bool], task: Task, config: AlignedFusionConfig):
        super().__init__()
        D, n_sets = task.d_model, len(is_report)
        self.it_update = config.it_update
        self.token = learned_tokens(D)  # t_int
        self.stacks = nn.ModuleList(config.stack.layers(D) for _ in range(n_sets))
        self.absent = nn.ParameterDict(
            {str(s): learned_tokens(D) for s in range(n_sets) if not is_report[s]}
        )
        self.hidden = nn.Linear(n_sets * D, D)
        self.dropout = nn.Dropout(config.p_drop)
        self.out = nn.Linear(D, task.n_classes)

    def forward(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
        """Fuse; see `Fusion.forward`."""
        present = torch.stack([each.any(1) for each in there], dim=1)  # (B, S)
        fused = list(sets)
        copies = [self.token.expand(len(present), 1, -1)] * len(fused)
        padding = [F.pad(~each, (1, 0), value=False) for each in there]  # the token is there
        for layers in zip(*self.stacks, strict=True):
            for s, layer in enumerate(layers):
                x = torch.cat([copies[s], fused[s]], dim=1)  # (B, 1 + N, D)
                x = layer(x, src_key_padding_mask=padding[s])
                copies[s], fused[s] = x[:, :1], x[:, 1:]
            if self.it_update == "every_layer":
                copies = [self.exchange(copies, present)] * len(fused)
        return fused

    def exchange(self, copies: Sequence[Tensor], present: Tensor) -> Tensor:
        """Average the copies of the token over the present sets (eq. 8).

        Args:
            copies: S entries, (B, 1, D).
            present: (B, S) bool.

        Returns:
            (B, 1, D); zeros in a row where no set is present.
        """
        return masked_mean(torch.cat(list(copies), dim=1), present)[:, None]

    def classify(self, sets: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify the means of the sets side by side (eq. 11); see `Fusion.classify`."""
        pooled = []
        for s, (x, taken) in enumerate(zip(sets, there, strict=True)):
            mean = masked_mean(x, taken)
            if str(s) in self.absent:
                mean = torch.where(taken.any(1, keepdim=True), mean, self.absent[str(s)])
            pooled.append(mean)
        fused = F.gelu(self.hidden(torch.cat(pooled, dim=1)))
        return self.out(self.dropout(fused)), fused


class AlignedFusion(AttributeFusion):
    """Reconstruct unknown attributes, fuse picture and report through the intermediate token."""

    name = "alignedfusion"
    display_name = "AlignedFusion"
    config_class = AlignedFusionConfig
    presets: ClassVar = {
        "default": {},
        "paper_literal": {"n_layers": 1, "it_update": "last", "second_pass": False},
        "fullreport": {"attribute_tokens": False, "reconstruct": False},
        "dropout": {"dropout": "uniform"},
    }
    ablations: ClassVar = {
        "w/o intermediate token": {"intermediate_token": False},  # table 4a
        **{f"mask p = {p:g}": {"mask_p": p} for p in (0.0, 0.1, 0.2, 0.4, 0.5)},  # table 4b
        "image only": {"image_only": True},
        "whole-report vector": {"attribute_tokens": False, "reconstruct": False},  # table 2
        "w/o reconstruction": {"reconstruct": False},
        "w/o second pass": {"second_pass": False},
    }

    def __init__(self, task: Task, config: AlignedFusionConfig):
        used = [
            m
            for m, spec in enumerate(task.modalities)
            if not (config.image_only and spec.kind == "table")
        ]
        if not used:
            raise NotApplicable("alignedfusion: image_only leaves nothing of tables alone")
        is_report = [task.modalities[m].kind == "table" for m in used]
        fusion: Fusion = (
            IntermediateToken(is_report, task, config)
            if config.intermediate_token
            else JointAttention(len(used), task.d_model, task.n_classes, config.stack)
        )
        super().__init__(
            task, config, fusion, modalities=used, by_attribute=config.attribute_tokens
        )

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest depth, heads, dropout, masking and the form of the reconstruction."""
        targets = ["soft_label", "mse", "cosine"]
        return {
            "n_layers": trial.suggest_int("n_layers", 2, 4),
            "heads": trial.suggest_categorical("heads", [2, 4, 8]),
            "mlp_ratio": trial.suggest_categorical("mlp_ratio", [2, 4]),
            "p_drop": trial.suggest_float("p_drop", 0.0, 0.5),
            "mask_p": trial.suggest_float("mask_p", 0.0, 0.6),
            "lambda_rec": trial.suggest_float("lambda_rec", 0.1, 10.0, log=True),
            "it_update": trial.suggest_categorical("it_update", ["every_layer", "last"]),
            "rec_target": trial.suggest_categorical("rec_target", targets),
            "second_pass": trial.suggest_categorical("second_pass", [False, True]),
        }


PLUGIN = AlignedFusion
