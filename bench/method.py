"""What a method is: a torch module on tokens, or a scikit-learn model on features.

A plugin file ends with `PLUGIN = TheClass`. The engine trains a `Method`; a `ShallowMethod` fits
itself. Both get the same cases, gaps and splits, and end in the same run folder.
"""

# B batch, M modalities, T tokens, C token width, D model width, K classes, W feature width

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from bench.availability import DropoutLaw, Subset, random_subset
from bench.data import Task, Tokens

if TYPE_CHECKING:
    import optuna


class Config(BaseModel):
    """Base of every configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Reference:
    """Where a method comes from."""

    title: str
    authors: str
    year: int
    venue: str = ""
    arxiv: str = ""
    code: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a method can take; a cell outside is skipped with the reason."""

    min_modalities: int = 1
    max_modalities: int | None = None
    needs_complete_training: bool = False
    attribute_level: bool = True
    separate_encoders: bool = False  # asks for one encoder per modality, like pictures included
    smaller_batch: bool = True  # may be tried with half a batch once, if memory runs out; False
    # where the loss compares the cases of a batch, which another size would change
    kinds: tuple[str, ...] = ()  # kinds of which at least one modality is needed; empty: any
    reason: str = ""  # why the limits above hold

    def refusal(self, kinds: Sequence[str]) -> str:
        """Say why data with modalities of these kinds cannot be taken; empty if it can."""
        because = f" ({self.reason})" if self.reason else ""
        if len(kinds) < self.min_modalities:
            return f"needs at least {self.min_modalities} modalities, not {len(kinds)}{because}"
        if self.max_modalities is not None and len(kinds) > self.max_modalities:
            return f"takes at most {self.max_modalities} modalities, not {len(kinds)}{because}"
        if self.kinds and not set(kinds) & set(self.kinds):
            wanted, came = " or ".join(self.kinds), ", ".join(sorted(set(kinds)))
            return f"needs a modality of kind {wanted}, not {came} alone{because}"
        return ""


@dataclass(frozen=True)
class Progress:
    """Where training stands, and the generator for what a method draws by itself.

    `generator` is a CPU generator keyed by run and purpose. `dropout` is the law that the study
    gives to every method; None leaves each its own. `class_weight` is the study's balance.
    """

    stage: str
    epoch: int  # from 0, within the stage
    step: int  # from 0, over all stages
    n_epochs: int  # of the stage
    generator: torch.Generator
    dropout: DropoutLaw | None = None
    class_weight: Tensor | None = None  # (K,)

    def cross_entropy(
        self, logits: Tensor, label: Tensor, reduction: Literal["mean", "none"] = "mean"
    ) -> Tensor:
        """Return the cross-entropy under the study's balance, the same for all methods.

        Args:
            logits: (B, K).
            label: (B,) long.
            reduction: `mean` over the batch (weighted by class, if the study balances), or `none`.
        """
        return F.cross_entropy(logits, label, weight=self.class_weight, reduction=reduction)

    def drop(self, observed: Tensor, law: DropoutLaw) -> Tensor:
        """Draw the modalities kept in this step, by the study's law or else the method's own.

        Args:
            observed: (B, M) bool.
            law: the method's own law.
        """
        return random_subset(observed, self.generator, self.dropout or law)


@dataclass(frozen=True)
class Stage:
    """One stage of training: own optimiser and early stopping, best weights kept at its end.

    `parameters` are prefixes of the names that train (`method.experts.0`, `encoders.view`), empty
    for all; `{m}` style work is the plugin's. `cases` picks rows by what they have. `subset` makes
    validation look at this subset alone. `fresh` trains a new copy of encoders and method, which
    then answers for `subset` at test.
    """

    name: str
    share_of_epochs: float = 1.0
    parameters: tuple[str, ...] = ()
    cases: Callable[[np.ndarray], np.ndarray] | None = None  # (N, M) bool -> (N,) bool
    subset: Subset | None = None
    fresh: bool = False


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with settings of their own."""

    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0
    weight_decay: float | None = None
    max_grad_norm: float | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a forward pass gives.

    `representations` are for figures and analyses, by name: `completed.<m>` and `tokens.<m>`
    (B, T, D), `fused` (B, D).
    """

    logits: Tensor  # (B, K)
    representations: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """All cases of one part, encoded, for what is fitted after the last stage."""

    tokens: tuple[Tokens, ...]
    observed: Tensor  # (N, M) bool
    label: Tensor  # (N,) long


class Plugin:
    """What both kinds of method declare about themselves."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    reference: ClassVar[Reference | None] = None
    config_class: ClassVar[type[Config]] = Config
    capabilities: ClassVar[Capabilities] = Capabilities()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    default_rows: ClassVar[tuple[str, ...]] = ("",)  # presets that a comparison shows; "": none

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest one configuration of the method's own settings."""
        return {}

    @classmethod
    def separate_encoders(cls, config: Any) -> bool:
        """Say whether each modality gets an encoder of its own, like pictures included."""
        return cls.capabilities.separate_encoders

    @classmethod
    def dropout_law(cls, config: Any) -> str:
        """Say in a few words which modalities the method drops in training; printed in tables."""
        return "none"


class Method(Plugin, nn.Module, ABC):
    """A method trained by the engine on the tokens of the shared encoders."""

    shift_invariant: Mapping[str, str] = {}  # parameter whose gradient is 0 -> why; may be per size

    config: Any  # an instance of config_class

    def __init__(self, task: Task, config: Any):
        nn.Module.__init__(self)
        self.task = task
        self.config = config

    @abstractmethod
    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Predict from what is available.

        Args:
            tokens: one per modality, (B, T_m, C_m) each.
            available: (B, M) bool, at least one True per row.
        """

    @abstractmethod
    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the named, weighted loss terms of one training step; the engine sums them.

        Args:
            tokens: one per modality, (B, T_m, C_m) each.
            observed: (B, M) bool, what each case has; the method may drop more.
            label: (B,) long.
            progress: where training stands.
        """

    def stages(self) -> list[Stage]:
        """List the stages of training; their shares sum to 1 of the one budget."""
        return [Stage("train")]

    def on_epoch_start(self, progress: Progress) -> None:
        """Prepare an epoch."""

    def after_step(self, progress: Progress) -> None:
        """Act once after each optimiser step."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Give parameters settings of their own; the rest takes the recipe's."""
        return []

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        """Fit what needs no gradient, once, after the last stage."""


@dataclass(frozen=True)
class Features:
    """What a scikit-learn method gets: one matrix per modality, NaN where absent.

    `column_attribute` says which attribute of its table a column stands for, -1 for others.
    """

    values: tuple[np.ndarray, ...]  # (N, W_m) float64 each
    available: np.ndarray  # (N, M) bool
    attributes: Mapping[int, np.ndarray]  # table index -> (N, A) bool
    column_attribute: tuple[np.ndarray, ...]  # (W_m,) int each

    def rows(self, index: np.ndarray) -> Features:
        """Return the features of these cases."""
        return Features(
            tuple(values[index] for values in self.values),
            self.available[index],
            {m: seen[index] for m, seen in self.attributes.items()},
            self.column_attribute,
        )

    def visible(self) -> tuple[np.ndarray, ...]:
        """Return the values, NaN wherever the availability says absent, whatever stands there."""
        seen = []
        for m, values in enumerate(self.values):
            there = np.broadcast_to(self.available[:, m, None], values.shape)
            columns = self.column_attribute[m]
            if m in self.attributes and (columns >= 0).any():
                there = there & np.where(columns >= 0, self.attributes[m][:, columns], True)
            seen.append(np.where(there, values, np.nan))
        return tuple(seen)


class ShallowMethod(Plugin, ABC):
    """A method fitted with scikit-learn; saved as plain arrays."""

    config: Any  # an instance of config_class

    def __init__(self, n_classes: int, config: Any):
        self.n_classes = n_classes
        self.config = config

    @abstractmethod
    def fit(self, features: Features, label: np.ndarray, weight: np.ndarray) -> None:
        """Fit on the training part.

        Args:
            features: N cases.
            label: (N,) int.
            weight: (N,) of each case, 1 unless the study balances its classes.
        """

    @abstractmethod
    def predict_proba(self, features: Features) -> np.ndarray:
        """Return (N, K) probabilities from what is available."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return all that was fitted, as plain arrays."""

    @abstractmethod
    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` gave."""
