"""What a model made of its test cases, kept on request: vectors per case and condition.

`fused` is what the classifier read. `completed` has a vector per modality, the mean of its tokens:
of those that a case has where the modality is available, else of those that the method put in
their place. Everything is plain arrays in one file of the run folder. No torch.
"""

# n cases of a condition, M modalities, W width of what is fused, D width of tokens

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bench.cache_folder import entry_path
from bench.errors import BadRequest
from bench.files import atomic_write

N_NEIGHBOURS = 5
PERPLEXITY = 30.0  # van der Maaten and Hinton (2008): 5 to 50
LEAST_CASES = 10  # below, neither neighbours nor an embedding say anything
SAME = 1e-6  # vectors that differ by less, of their size, are the same


@dataclass(frozen=True, eq=False)
class Represented:
    """The vectors of one condition."""

    case: np.ndarray  # (n,) str
    label: np.ndarray  # (n,) int
    available: np.ndarray  # (n, M) bool
    fused: np.ndarray | None = None  # (n, W) float32; None: the method shows none
    completed: Mapping[int, np.ndarray] = field(default_factory=dict)  # modality -> (n, D) float32

    def arrays(self, condition: str) -> dict[str, np.ndarray]:
        """Return what `read` takes, for a file without pickles."""
        named = {"case": self.case.astype(str), "label": self.label, "available": self.available}
        if self.fused is not None:
            named["fused"] = self.fused
        named |= {f"completed.{m}": values for m, values in self.completed.items()}
        return {f"{name}/{condition}": array for name, array in named.items()}


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Represented]:
    """Sort the arrays of a run by condition, in the order in which they were kept."""
    by_condition: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        name, _, condition = key.partition("/")
        by_condition.setdefault(condition, {})[name] = array
    return {condition: _represented(each) for condition, each in by_condition.items()}


def _represented(named: Mapping[str, np.ndarray]) -> Represented:
    prefix = "completed."
    completed = {
        int(name.removeprefix(prefix)): array
        for name, array in named.items()
        if name.startswith(prefix)
    }
    fixed = (named["case"], named["label"], named["available"])
    return Represented(*fixed, named.get("fused"), completed)


# --- how well the classes are apart -----------------------------------------------------------


@dataclass(frozen=True)
class Separation:
    """How well classes are apart among vectors; NaN where too few cases can tell."""

    silhouette: float  # -1 to 1 (Rousseeuw 1987), Euclidean
    knn_accuracy: float  # 0 to 1, each case by its 5 nearest other cases
    largest_class: float  # 0 to 1, what naming the largest class alone would reach


def separation(values: np.ndarray, label: np.ndarray) -> Separation:
    """Measure how well the classes are apart.

    Args:
        values: (n, W).
        label: (n,) int.
    """
    classes, count = np.unique(label, return_counts=True)
    largest = float(count.max() / count.sum()) if len(label) else np.nan
    if len(label) < LEAST_CASES or len(classes) < 2:
        return Separation(np.nan, np.nan, largest)
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier

    # without cases to predict it takes those it knows, none of which is its own neighbour
    found = KNeighborsClassifier(N_NEIGHBOURS).fit(values, label).predict(None)
    silhouette = float(silhouette_score(values, label))
    return Separation(silhouette, float((found == label).mean()), largest)


def is_constant(values: np.ndarray) -> bool:
    """Tell whether all cases have the same vector: no completion, whatever it is called."""
    return bool(np.ptp(values, axis=0).max() <= SAME * max(np.abs(values).max(), SAME))


# --- in the plane -----------------------------------------------------------------------------


def embed(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Lay vectors out in the plane by t-SNE; the same vectors always lie alike.

    It starts from principal components. Results are kept by content, since they take seconds.

    Args:
        values: (n, W), at least `LEAST_CASES` of them.
        seed: of scikit-learn's draws.

    Returns:
        (n, 2) float64.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    asked = json.dumps(["t-SNE", seed, PERPLEXITY, _version(), values.shape])
    content = hashlib.sha256(asked.encode() + values.tobytes()).hexdigest()
    path = entry_path("statistics", "t-SNE", content)
    path = path.with_name(f"{path.name}.json")
    if path.is_file():
        return np.array(json.loads(path.read_text()))
    found = _tsne(values, seed)
    with suppress(BadRequest, OSError):  # a cache that cannot be written costs time alone
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(found.tolist()).encode())
    return found


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("scikit-learn")


def _tsne(values: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    start = _start(values, seed)
    found = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(values)
    return found.astype(np.float64).round(4)


def _start(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the first two principal components, small, with ties of equal vectors broken."""
    centred = values - values.mean(0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(values), 2))
    n = min(2, len(scale))
    plane[:, :n] = left[:, :n] * scale[:n]
    size = plane[:, 0].std() or 1.0
    jitter = np.random.default_rng(seed).normal(size=plane.shape)
    return (1e-4 * (plane / size + 1e-2 * jitter)).astype(np.float32)
