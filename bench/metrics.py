"""Scores of predictions, computed from stored labels and probabilities.

All are fractions in [0, 1] or losses; tables print accuracy and AUC times 100. A score without a
meaning (no case, a class that is not there) is NaN, never 0 and never a warning, because a column
without cases prints a dash. Plain numpy: the numbers do not move with another library's version.
"""

# N cases, K classes, C conditions, R repeats; D detections and G lesions of an image

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_BINS = 15  # of the expected calibration error
# The smallest probability whose logarithm is taken: a wrong certainty costs 36 nats, not infinity.
P_MIN = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve, and for which classes it has no meaning in this part."""

    value: float  # NaN where undefined
    per_class: tuple[float, ...]  # (K,) one versus rest, NaN where undefined
    undefined: tuple[int, ...]  # classes without a case, or with nothing but their cases

    @property
    def flagged(self) -> bool:
        """Whether the mean leaves classes out, so that it is comparable to no complete one."""
        return bool(self.undefined)


def _checked(label: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as integers and probabilities as float64, or refuse them."""
    label, proba = np.asarray(label), np.asarray(proba, dtype=np.float64)
    if proba.ndim != 2 or label.shape != proba.shape[:1]:
        raise ValueError(
            f"label must be (N,) and proba (N, K), got {label.shape} and {proba.shape}"
        )
    if len(label) and not (label.min() >= 0 and label.max() < proba.shape[1]):
        raise ValueError(
            f"label must lie in [0, {proba.shape[1]}), got {label.min()} to {label.max()}"
        )
    if len(label) and label.dtype.kind not in "iu":
        raise ValueError(f"label must be integers, got {label.dtype}")
    if not np.isfinite(proba).all():
        raise ValueError("proba must be finite, got NaN or infinity")
    return label.astype(np.int64, copy=False), proba


def accuracy(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the share of cases whose most probable class is right; ties go to the lowest class.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).

    Raises:
        ValueError: shapes that do not fit, a label out of range, a probability that is not finite.
            The other scores refuse the same.
    """
    label, proba = _checked(label, proba)
    return float((proba.argmax(1) == label).mean()) if len(label) else float("nan")


def rank_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return P(s+ > s-) + P(s+ = s-) / 2 over all pairs of a positive and a negative case.

    Computed from midranks (Mann and Whitney 1947); NaN without a pair.

    Args:
        score: (N,) float.
        positive: (N,) bool.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    midrank = count.cumsum() - (count - 1) / 2  # of each distinct score, from 1
    n_below = midrank[place[positive]].sum() - n_positive * (n_positive + 1) / 2
    return float(n_below / (n_positive * n_negative))


def auc(label: np.ndarray, proba: np.ndarray) -> Auc:
    """Return the AUC: of class 1 for two classes, else the unweighted one-versus-rest mean.

    A class is undefined when the part has no case of it or no case of another; the mean is then
    over the defined classes and `undefined` names the rest.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    per_class = tuple(rank_auc(proba[:, k], label == k) for k in range(proba.shape[1]))
    undefined = tuple(k for k, value in enumerate(per_class) if np.isnan(value))
    defined = [value for value in per_class if not np.isnan(value)]
    if not defined:
        value = float("nan")
    elif len(per_class) == 2:
        value = per_class[1]
    else:
        value = float(np.mean(defined))
    return Auc(value, per_class, undefined)


def _confusion(label: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Count cases by (true class, most probable class): (K, K) int."""
    n_classes = proba.shape[1]
    pairs = label * n_classes + proba.argmax(1)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def balanced_accuracy(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean recall of the classes that the part has.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    confusion = _confusion(label, proba)
    n_true = confusion.sum(1)
    there = n_true > 0
    return float((confusion.diagonal()[there] / n_true[there]).mean()) if len(label) else np.nan


def macro_f1(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the unweighted mean F1 of all K classes; a class neither true nor predicted has 0.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    confusion = _confusion(label, proba)
    n_involved = confusion.sum(0) + confusion.sum(1)  # 2 TP + FP + FN
    return float((2 * confusion.diagonal() / n_involved.clip(min=1)).mean())


def ece(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the expected calibration error of the most probable class.

    The mean over cases of |accuracy - confidence| of their bin, 15 equal bins (lo, hi] (Guo et al.
    2017, eq. 3).

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    edges = np.arange(1, N_BINS) / N_BINS  # rounded as 0.2 or 0.6 themselves are
    where = np.digitize(proba.max(1), edges, right=True)
    surplus = (proba.argmax(1) == label) - proba.max(1)
    return float(np.abs(np.bincount(where, weights=surplus, minlength=N_BINS)).sum() / len(label))


def brier(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean squared distance to the true class, summed over classes: 0 to 2.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    truth = np.eye(proba.shape[1])[label]
    return float(((proba - truth) ** 2).sum(1).mean())


def nll(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats; probabilities are raised to 2^-52.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    p_true = proba[np.arange(len(label)), label]
    return float(-np.log(p_true.clip(min=P_MIN)).mean())


def sensitivity_at_specificity(
    label: np.ndarray, proba: np.ndarray, *, specificity: float
) -> float:
    """Return the best sensitivity among thresholds that reach a specificity; no interpolation.

    A case is positive when its probability of class 1 is at least the threshold. NaN for more than
    two classes and where one of the two has no case.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
        specificity: the least share of negative cases called negative, 0 to 1.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], got {specificity}")
    label, proba = _checked(label, proba)
    score = proba[:, -1]
    positive, negative = np.sort(score[label == 1]), np.sort(score[label == 0])
    if proba.shape[1] != 2 or not len(positive) or not len(negative):
        return float("nan")
    thresholds = np.append(np.unique(score), np.inf)
    reached = np.searchsorted(negative, thresholds) / len(negative)  # share below each threshold
    found = 1 - np.searchsorted(positive, thresholds) / len(positive)
    return float(found[reached >= specificity].max())


@dataclass(frozen=True)
class Average:
    """The mean over conditions, with both spreads that are printed beside it in the field."""

    mean: float
    sd_over_repeats: float  # sample SD (ddof=1) of each repeat's mean; NaN for one repeat
    sd_between_conditions: float  # population SD of the condition means: CMML's, not run noise


def average_over_conditions(score: np.ndarray) -> Average:
    """Average scores over conditions: the column AVG.

    Args:
        score: (C, R), conditions by repeats; a NaN makes undefined what it enters.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or not score.size:
        raise ValueError(f"score must be (C, R) and not empty, got {score.shape}")
    per_repeat, per_condition = score.mean(0), score.mean(1)
    sd = float(per_repeat.std(ddof=1)) if len(per_repeat) > 1 else float("nan")
    return Average(float(score.mean()), sd, float(per_condition.std()))


@dataclass(frozen=True, eq=False)
class Froc:
    """A free-response ROC curve: lesions found against false positives per image."""

    threshold: np.ndarray  # (T,) distinct scores, falling
    fppi: np.ndarray  # (T,) false positives per image at or above each threshold, rising
    sensitivity: np.ndarray  # (T,) share of lesions found there; NaN without lesions
    n_images: int
    n_lesions: int

    def at(self, fppi: float) -> float:
        """Return the best sensitivity with at most so many false positives per image.

        No interpolation; 0 where no threshold is that strict, NaN without lesions or images.
        """
        if not self.n_lesions:
            return float("nan")
        return float(self.sensitivity[self.fppi <= fppi].max(initial=0.0))

    def mean(self, fppi: Sequence[float] = (0.5, 1, 2)) -> float:
        """Return the mean sensitivity over these rates; DeepLesion's AVG by default."""
        return float(np.mean([self.at(each) for each in fppi]))


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every pair of boxes.

    Args:
        a: (D, 4) corners x0, y0, x1, y1 with x0 <= x1 and y0 <= y1.
        b: (G, 4) likewise.

    Returns:
        (D, G), 0 for two boxes without area.
    """
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    overlap = (high - low).clip(min=0).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    union = area_a[:, None] + area_b - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def froc(
    lesions: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    *,
    min_iou: float = 0.5,
) -> Froc:
    """Draw the FROC curve of detections, one entry per image in each argument.

    A detection that overlaps any lesion by at least `min_iou` is a hit, every other one a false
    positive; a lesion counts once, with its best hit. Equal scores share one threshold.

    Args:
        lesions: (G_i, 4) true boxes of image i, corners x0, y0, x1, y1; G_i may be 0.
        boxes: (D_i, 4) detected boxes; D_i may be 0.
        scores: (D_i,) their scores, higher is surer.
    """
    found: list[np.ndarray] = [np.empty(0)]  # per lesion the score of its best hit
    false: list[np.ndarray] = [np.empty(0)]  # scores of the false positives
    every: list[np.ndarray] = [np.empty(0)]
    for true_box, box, score in zip(lesions, boxes, scores, strict=True):
        score = np.asarray(score, dtype=np.float64)
        iou = box_iou(_as_boxes(box), _as_boxes(true_box))
        hit = iou >= min_iou  # (D, G)
        found.append(np.where(hit, score[:, None], -np.inf).max(axis=0, initial=-np.inf))
        false.append(score[~hit.any(axis=1)])
        every.append(score)
    best, n_images = np.concatenate(found), len(lesions)
    threshold = np.unique(np.concatenate(every))[::-1]
    fppi = _share_reached(np.concatenate(false), threshold, n_images)
    return Froc(
        threshold, fppi, _share_reached(best, threshold, len(best)), n_images, n_lesions=len(best)
    )


def _as_boxes(box: np.ndarray) -> np.ndarray:
    return np.asarray(box, dtype=np.float64).reshape(-1, 4)


def _share_reached(score: np.ndarray, threshold: np.ndarray, n: int) -> np.ndarray:
    """Count scores at or above each threshold, over n; NaN for n = 0."""
    n_reached = len(score) - np.searchsorted(np.sort(score), threshold)
    return n_reached / n if n else np.full(len(threshold), np.nan)
