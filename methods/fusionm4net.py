"""FusionM4Net: a branch per picture and one for their sum, then a support vector machine.

Stage 1: every picture has a classifier of its own, and the sum of the pictures' features has one
more. Their logits are weighted by a search on the validation cases (scheme 1, P1). Stage 2: a
support vector machine reads those probabilities with the patient's data, one-hot (P2). One share
for all cases, searched on the validation cases too, mixes both (scheme 2, P3).

Source: Tang et al., "FusionM4Net: A multi-stage multi-modal learning algorithm for multi-label skin
lesion classification", Medical Image Analysis 76, 2022, and its official code.

Departures:
- Diagnosis alone: the source trains eight tasks at once (diagnosis and seven criteria) and searches
  for their mean accuracy. Here the label of the dataset is the one task.
- Every table is patient data, every other modality a picture, so there are M_pictures + 1 branches.
  Without a table there is no stage 2. Numbers enter the one-hot code as quartiles.
- Encoders, optimiser, schedule, budget and choice of weights are the study's (official: ResNet-50,
  Adam 3e-5, cosine, averaged weights, test-time flips). A branch reads the mean of the valid
  tokens; pictures whose tokens differ in width are brought to D by a linear layer and ReLU first.
- A missing picture: its branch has weight 0, the others are renormalised (if they are 0, they count
  alike), and the sum is over what is there. No picture: P2 with zeros in place of P1. An attribute
  that is not observed is a block of zeros. Case by case, in training and test.
- Weights are searched on a grid of step 0.1; of equally good ones the nearest to equal is taken, of
  equally good shares the nearest to one half.
- The source trains a second network on the first half of the training cases, whose probabilities
  for the other half feed the machine. Here the one network gives them, although it was trained on
  these cases, and the halves are cut within each class.
- `SVC(probability=True)` goes from scikit-learn; Platt's sigmoid is fitted per class on decision
  values from 5 folds of the half instead of on pairs of classes. The fitted machine is a set of
  arrays, saved with the weights.
- Until the end of training, validation sees the branches weighted alike, and a case without a
  picture gets equal probabilities.
"""

# B batch, I images, N branches, D model width, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.availability import DropoutLaw, check_available
from bench.blocks import masked_mean, mean_where
from bench.data import Task, Tokens
from bench.layers.classifiers import branch
from bench.layers.late_fusion import best_share, best_weights, fuse
from bench.layers.one_hot import ReportCode
from bench.layers.support_vector import SupportVectorMachine
from bench.method import Capabilities, Config, EncodedPart, Method, Prediction, Progress, Reference

if TYPE_CHECKING:
    import optuna

LEAST_PROBABILITY = 1e-12  # a method returns logarithms, which must be finite


class FusionM4NetConfig(Config):
    """Settings; the defaults are the official code's unless said otherwise."""

    widths: tuple[int, int] = Field((512, 128), description="hidden layers of a branch")
    p_drop: float = Field(0.3, ge=0, lt=1, description="of both hidden layers")
    w_branch: float = Field(0.33, gt=0, description="weight of each branch's cross-entropy")
    grid: int = Field(10, ge=1, description="steps of the branch weights from 0 to 1; ours")
    n_shares: int = Field(100, ge=2, description="candidates for the share of P1, from 0 to 1")
    penalty: float = Field(1.0, gt=0, description="C of the support vector machine")
    svm: bool = Field(True, description="False: P1 alone")
    branches: bool = Field(True, description="False: the branch of the sum alone")
    dropout: DropoutLaw = Field("none", description="modalities dropped in training; ours")


def later_half(label: Tensor) -> Tensor:
    """Return, in order, the rows of the later half of each class, the larger one if it is odd."""
    rows = [(label == k).nonzero().flatten() for k in label.unique()]
    return torch.cat([each[len(each) // 2 :] for each in rows]).sort().values


class FusionM4Net(Method):
    """Branches on pictures, and a support vector machine on their verdict with the tables."""

    name = "fusionm4net"
    display_name = "FusionM4Net"
    reference = Reference(
        title="FusionM4Net: A multi-stage multi-modal learning algorithm for multi-label skin "
        "lesion classification",
        authors="Tang et al.",
        year=2022,
        venue="Medical Image Analysis 76",
        code="pixixiaonaogou/MLSDR",
    )
    config_class = FusionM4NetConfig
    capabilities = Capabilities(
        kinds=("image", "volume", "vector"),
        reason="its networks read pictures; tables only feed the machine behind them",
    )
    presets: ClassVar = {
        "default": {},
        "no_svm": {"svm": False},
        "no_branches": {"branches": False},
    }
    ablations: ClassVar = {"w/o SVM": {"svm": False}, "w/o branches": {"branches": False}}
    config: FusionM4NetConfig
    weights: Tensor
    share: Tensor

    def __init__(self, task: Task, config: FusionM4NetConfig):
        super().__init__(task, config)
        self.images = [m for m, spec in enumerate(task.modalities) if spec.kind != "table"]
        widths = [task.modalities[m].d_token for m in self.images]
        alike = len(set(widths)) == 1
        self.align = nn.ModuleList(
            nn.Identity() if alike else nn.Sequential(nn.Linear(width, task.d_model), nn.ReLU())
            for width in widths
        )
        n_branches = len(self.images) + 1 if config.branches else 1
        d_in = widths[0] if alike else task.d_model
        self.branches = nn.ModuleList(
            branch(d_in, task.n_classes, widths=config.widths, p_drop=config.p_drop)
            for _ in range(n_branches)
        )
        self.report = ReportCode(task)
        has_report = config.svm and bool(self.report.tables)
        self.svm = SupportVectorMachine(task.n_classes) if has_report else None
        self.register_buffer("weights", torch.full((n_branches,), 1 / n_branches))  # scheme 1
        self.register_buffer("share", torch.tensor(1.0, dtype=torch.float64))  # scheme 2, of P1
        self.shift_invariant = {
            f"branches.{n}.{layer}.bias": "the batch normalisation behind it takes it out"
            for n in range(n_branches)
            for layer in (0, 4)
        }

    def features(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return (B, I, width), the pictures' features; zeros where absent."""
        each = []
        for m, align in zip(self.images, self.align, strict=True):
            there = available[:, m, None]
            x = align(masked_mean(tokens[m].values, tokens[m].valid & there))
            each.append(torch.where(there, x, 0.0))
        return torch.stack(each, dim=1)

    def branch_logits(
        self, tokens: Sequence[Tokens], available: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run every branch on the rows that have its picture.

        Returns:
            logits (B, N, K), zeros where absent; which are there (B, N) bool; the sum of the
            features (B, width). The last branch is that of the sum.
        """
        features = self.features(tokens, available)  # (B, I, width)
        total = features.sum(1)
        there = available[:, self.images]  # (B, I)
        inputs, there = [*features.unbind(1), total], torch.cat([there, there.any(1)[:, None]], 1)
        n_branches = len(self.branches)
        inputs, there = inputs[-n_branches:], there[:, -n_branches:]
        logits = []
        for n, network in enumerate(self.branches):
            rows = there[:, n].nonzero().flatten()
            blank = total.new_zeros(len(total), self.task.n_classes)
            logits.append(blank.index_copy(0, rows, network(inputs[n][rows])))
        return torch.stack(logits, dim=1), there, total

    def machine_proba(self, first: Tensor, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return P2 (B, K) from P1 (B, K), float64 both, and the tables."""
        assert self.svm is not None
        return self.svm(torch.cat([first, self.report(tokens, available)], dim=1))

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Prediction:
        """Return the logarithm of P3, or of P2 where there is no picture; see `Method.forward`."""
        check_available(available, self.task.n_modalities)
        logits, there, total = self.branch_logits(tokens, available)
        proba = fuse(logits, there, self.weights).double()
        pictured = there.any(1, keepdim=True)
        if self.svm is not None:
            second = self.machine_proba(proba, tokens, available)
            share = torch.where(pictured, self.share, 0.0)
            proba = share * proba + (1 - share) * second
        else:
            proba = torch.where(pictured, proba, 1 / self.task.n_classes)
        log_proba = proba.clamp(min=LEAST_PROBABILITY).log().float()
        return Prediction(log_proba, {"fused": total})

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the weighted cross-entropy of each branch over the rows that have its picture."""
        kept = progress.drop(observed, self.config.dropout)
        logits, there, _ = self.branch_logits(tokens, kept)
        names = [f"ce_{self.task.modalities[m].name}" for m in self.images] + ["ce_fusion"]
        terms = {}
        for n, name in enumerate(names[-len(self.branches) :]):
            each = progress.cross_entropy(logits[:, n], label, reduction="none")
            terms[name] = self.config.w_branch * mean_where(each, there[:, n])
        return terms

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        """Search the branch weights, fit the machine on half of the training, search the share."""
        logits, there, _ = self.branch_logits(valid.tokens, valid.observed)
        pictured = there.any(1)
        seen, label = logits[pictured], valid.label[pictured]
        self.weights.copy_(best_weights(seen, there[pictured], label, n_steps=self.config.grid))
        if self.svm is None:
            return
        self.fit_machine(train)
        if not self.svm.is_fitted:
            return
        first = fuse(logits, there, self.weights).double()
        second = self.machine_proba(first, valid.tokens, valid.observed)
        first, second = first[pictured], second[pictured]
        self.share.copy_(best_share(first, second, label, n_shares=self.config.n_shares))

    def fit_machine(self, train: EncodedPart) -> None:
        """Fit the machine on the later half of the training cases."""
        assert self.svm is not None
        rows = later_half(train.label)
        tokens, observed = [each.rows(rows) for each in train.tokens], train.observed[rows]
        logits, there, _ = self.branch_logits(tokens, observed)
        first = fuse(logits, there, self.weights).double()
        features = torch.cat([first, self.report(tokens, observed)], dim=1)
        self.svm.fit(features.cpu().numpy(), train.label[rows].cpu().numpy(), self.config.penalty)

    @classmethod
    def search_space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest the dropout of the branches and the machine's C."""
        return {
            "p_drop": trial.suggest_float("p_drop", 0.1, 0.5),
            "penalty": trial.suggest_float("penalty", 0.1, 10.0, log=True),
        }

    @classmethod
    def dropout_law(cls, config: Config) -> str:
        """Name the law by which modalities are dropped in training."""
        assert isinstance(config, FusionM4NetConfig)
        return "none" if config.dropout == "none" else f"{config.dropout}, anew at each step"


PLUGIN = FusionM4Net
