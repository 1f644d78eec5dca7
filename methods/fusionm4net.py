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

# B batch, I images, N branches, F features of the machine, S support vectors, P pairs of classes,
# K classes, D model width

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench.availability import DropoutLaw, check_available
from bench.blocks import masked_mean
from bench.data import Task, Tokens
from bench.method import (
    Capabilities,
    Config,
    EncodedPart,
    Method,
    Prediction,
    Progress,
    Reference,
)

if TYPE_CHECKING:
    import optuna
    from sklearn.svm import SVC

N_FOLDS = 5  # behind Platt's sigmoid; fewer if a class has fewer cases
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


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation; fewer than two rows take the running statistics and leave no trace."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, width); B may be 0."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


def branch(d_in: int, n_classes: int, config: FusionM4NetConfig) -> nn.Sequential:
    """Build a branch: two hidden layers with normalisation, Swish and dropout, then the logits."""
    layers: list[nn.Module] = []
    for d_out in config.widths:
        layers += [nn.Linear(d_in, d_out), RowNorm(d_out), nn.SiLU(), nn.Dropout(config.p_drop)]
        d_in = d_out
    return nn.Sequential(*layers, nn.Linear(d_in, n_classes))


def fuse(logits: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """Return P1: the softmax of the weighted logits of the branches that are there.

    Args:
        logits: (B, N, K); those of absent branches are never read.
        there: (B, N) bool.
        weights: (N,), not negative.

    Returns:
        (B, K) probabilities; zeros in a row without any branch.
    """
    share = renormalised(there, weights)
    mixed = (share[..., None] * torch.where(there[..., None], logits, 0.0)).sum(1)
    return torch.where(there.any(1, keepdim=True), mixed.softmax(1), 0.0)


def renormalised(there: Tensor, weights: Tensor) -> Tensor:
    """Return each row's branch weights (B, N): 0 where absent, sum 1 where any branch is there."""
    kept = there * weights
    kept = torch.where(kept.sum(1, keepdim=True) > 0, kept, there.to(kept.dtype))
    return kept / kept.sum(1, keepdim=True).clamp(min=1e-6)


def weight_grid(n_branches: int, n_steps: int) -> Iterator[tuple[float, ...]]:
    """List all weights that are multiples of 1 / n_steps and sum to 1, nearest to equal first."""
    bars = combinations(range(n_steps + n_branches - 1), n_branches - 1)
    cuts = [np.diff((-1, *bar, n_steps + n_branches - 1)) - 1 for bar in bars]
    for cut in sorted(cuts, key=lambda steps: int((steps**2).sum())):
        yield tuple(float(step) / n_steps for step in cut)


class ReportCode(nn.Module):
    """One-hot code of the attributes of all tables; zeros for what is not observed."""

    def __init__(self, task: Task):
        super().__init__()
        self.tables = [m for m, spec in enumerate(task.modalities) if spec.kind == "table"]
        self.width = 0
        for m in self.tables:
            spec = task.modalities[m]
            column = [(a, code) for a, n in enumerate(spec.n_codes) for code in range(n)]
            member = torch.tensor(spec.attribute)[:, None] == torch.arange(spec.n_attributes)
            index = torch.tensor(column, dtype=torch.long).reshape(-1, 2).T  # (2, F)
            self.register_buffer(f"index_{m}", index, persistent=False)
            self.register_buffer(f"member_{m}", member.float(), persistent=False)  # (T, A)
            self.width += len(column)

    def forward(self, tokens: Sequence[Tokens], available: Tensor) -> Tensor:
        """Return (B, width) of zeros and ones."""
        blocks = [self._block(m, tokens[m], available[:, m, None]) for m in self.tables]
        return torch.cat(blocks, dim=1)

    def _block(self, m: int, table: Tokens, available: Tensor) -> Tensor:
        attribute, code = self.get_buffer(f"index_{m}")
        member = self.get_buffer(f"member_{m}")
        # The slots say what is observed: codes of what is not may hold anything.
        seen = ((table.valid & available).to(member.dtype) @ member) > 0  # (B, A)
        return ((table.codes[:, attribute] == code) & seen[:, attribute]).double()


class SupportVectorMachine(nn.Module):
    """A support vector machine with a radial kernel and Platt's sigmoid, as arrays.

    Fitted with scikit-learn, predicted from the arrays. They are empty until then, and loading a
    state takes whatever size it has. Classes with fewer than two cases get probability 0.
    """

    SIZES: ClassVar = {  # empty; k classes that were fitted, P = k (k - 1) / 2 pairs of them
        "support": (0, 0),  # (S, F)
        "pair_weights": (0, 0),  # (P, S)
        "intercept": (0,),  # (P,)
        "slope": (0,),  # (k,), or (1,) for two classes
        "offset": (0,),  # like slope
        "gamma": (),
    }
    support: Tensor
    pair_weights: Tensor
    intercept: Tensor
    slope: Tensor
    offset: Tensor
    gamma: Tensor
    classes: Tensor

    def __init__(self, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        for name, size in self.SIZES.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("classes", torch.zeros(0, dtype=torch.long))  # (k,) ascending

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to predict with."""
        return len(self.classes) > 0

    def fit(self, features: np.ndarray, label: np.ndarray, penalty: float) -> None:
        """Fit on features (N, F) and labels (N,); two classes need two cases each, or nothing is.

        Args:
            features: float64.
            label: int.
            penalty: C.
        """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.svm import SVC

        counts = np.bincount(label)
        classes = np.flatnonzero(counts >= 2)
        if len(classes) < 2:
            return
        rows = np.isin(label, classes)
        x = features[rows]
        gamma = 1.0 / (x.shape[1] * x.var()) if x.var() > 0 else 1.0  # scikit-learn's "scale"
        n_folds = min(N_FOLDS, int(counts[classes].min()))
        machine = CalibratedClassifierCV(SVC(C=penalty, gamma=gamma), cv=n_folds, ensemble=False)
        (fitted,) = machine.fit(x, label[rows]).calibrated_classifiers_
        self._keep(fitted.estimator, gamma, [(each.a_, each.b_) for each in fitted.calibrators])

    def _keep(self, svc: SVC, gamma: float, platt: list[tuple[float, float]]) -> None:
        slope, offset = zip(*platt, strict=True)
        arrays = {
            "support": svc.support_vectors_,
            "pair_weights": _pair_weights(svc),
            "intercept": svc.intercept_,
            "slope": slope,
            "offset": offset,
            "gamma": gamma,
        }
        for name, array in arrays.items():
            setattr(self, name, torch.as_tensor(np.asarray(array)).to(self.gamma))
        self.classes = torch.as_tensor(svc.classes_).to(self.classes)

    def decision(self, features: Tensor) -> Tensor:
        """Return what the sigmoids read: (B, k), or (B, 1) for two classes.

        Of more than two classes each gets the pairs that it wins, and within (-1/3, 1/3) the sum of
        its margins: scikit-learn's one-vs-rest shape.
        """
        distance = torch.cdist(features, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        kernel = (-self.gamma * distance.square()).exp()  # (B, S)
        margin = kernel @ self.pair_weights.T + self.intercept  # (B, P)
        if len(self.classes) == 2:
            return margin
        pairs = torch.combinations(torch.arange(len(self.classes), device=margin.device))
        first, second = F.one_hot(pairs, len(self.classes)).to(margin).unbind(1)  # (P, k)
        wins = (margin >= 0).to(margin) @ first + (margin < 0).to(margin) @ second
        total = margin @ (first - second)
        return wins + total / (3 * (total.abs() + 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return probabilities (B, K); equal ones before the machine is fitted.

        Args:
            features: (B, F) float64.
        """
        if not self.is_fitted:
            return features.new_full((len(features), self.n_classes), 1 / self.n_classes)
        each = torch.sigmoid(-(self.slope * self.decision(features) + self.offset))
        if len(self.classes) == 2:
            each = torch.cat([1 - each, each], dim=1)
        total = each.sum(1, keepdim=True)
        each = torch.where(total > 0, each / total, 1 / len(self.classes))
        proba = features.new_zeros(len(features), self.n_classes)
        return proba.index_copy(1, self.classes, each)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            if prefix + name in state_dict:
                setattr(self, name, buffer.new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _pair_weights(svc: SVC) -> np.ndarray:
    """Return (P, S): what each support vector adds to the margin of each pair of classes.

    libsvm stores a vector's coefficients against the other classes one below the other, without its
    own class: against j in row j - 1 if j comes later, in row j if earlier.
    """
    n_classes = len(svc.classes_)
    if n_classes == 2:
        return svc.dual_coef_
    owner = np.repeat(np.arange(n_classes), svc.n_support_)  # (S,)
    return np.stack(
        [
            np.where(owner == i, svc.dual_coef_[j - 1], 0.0)
            + np.where(owner == j, svc.dual_coef_[i], 0.0)
            for i, j in combinations(range(n_classes), 2)
        ]
    )


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
            branch(d_in, task.n_classes, config) for _ in range(n_branches)
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
            n_rows = there[:, n].sum().clamp(min=1)
            mean = torch.where(there[:, n], each, 0.0).sum() / n_rows
            terms[name] = self.config.w_branch * mean
        return terms

    def calibrate(self, train: EncodedPart, valid: EncodedPart) -> None:
        """Search the branch weights, fit the machine on half of the training, search the share."""
        logits, there, _ = self.branch_logits(valid.tokens, valid.observed)
        pictured = there.any(1)
        self.weights.copy_(
            self.best_weights(logits[pictured], there[pictured], valid.label[pictured])
        )
        if self.svm is None:
            return
        self.fit_machine(train)
        if not self.svm.is_fitted:
            return
        first = fuse(logits, there, self.weights).double()
        second = self.machine_proba(first, valid.tokens, valid.observed)
        self.share.copy_(self.best_share(first[pictured], second[pictured], valid.label[pictured]))

    def best_weights(self, logits: Tensor, there: Tensor, label: Tensor) -> Tensor:
        """Return the branch weights (N,) of the highest accuracy; see `fuse`."""
        candidates = torch.tensor(list(weight_grid(len(self.branches), self.config.grid)))
        candidates = candidates.to(self.weights)  # (G, N)
        correct = [(fuse(logits, there, each).argmax(1) == label).sum() for each in candidates]
        return candidates[torch.stack(correct).argmax()]

    def fit_machine(self, train: EncodedPart) -> None:
        """Fit the machine on the later half of the training cases."""
        assert self.svm is not None
        rows = later_half(train.label)
        tokens, observed = [each.rows(rows) for each in train.tokens], train.observed[rows]
        logits, there, _ = self.branch_logits(tokens, observed)
        first = fuse(logits, there, self.weights).double()
        features = torch.cat([first, self.report(tokens, observed)], dim=1)
        self.svm.fit(features.cpu().numpy(), train.label[rows].cpu().numpy(), self.config.penalty)

    def best_share(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        """Return the share of P1 of the highest accuracy (scheme 2), of equals the most even."""
        shares = torch.linspace(0, 1, self.config.n_shares, device=first.device).to(first)
        shares = shares[(shares - 0.5).abs().argsort(stable=True)]
        correct = [
            ((share * first + (1 - share) * second).argmax(1) == label).sum() for share in shares
        ]
        return shares[torch.stack(correct).argmax()]

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
