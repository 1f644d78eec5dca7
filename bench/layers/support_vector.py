"""A support vector machine inside a network: fitted with scikit-learn, kept and run as arrays.

FusionM4Net ends in one. Probabilities are not libsvm's own, which scikit-learn will not keep.
"""

# B batch, N cases, F features, S support vectors, P pairs of classes, K classes

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from sklearn.svm import SVC

N_FOLDS = 5  # behind Platt's sigmoid; fewer if a class has fewer cases


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
