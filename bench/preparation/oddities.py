"""What is odd in a dataset and can still be read: a person should look at it before it is used."""

# N cases

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.pictures import is_turned
from bench.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from bench.data import Attribute, Dataset

FEW_CASES = 10  # of a class
NEARLY_ALL = 0.9  # of the cases lack it
UNIQUE = 0.5  # distinct words per observed cell
MIN_WORDS = 20
MOST = 0.8  # of the cells
FAR = 10.0  # interquartile ranges from the nearer quartile


def oddities(dataset: Dataset) -> Iterator[str]:
    """Name what a person should look at: rare classes, words alike, constants, far numbers."""
    yield from _classes(dataset)
    natural = dataset.natural()
    for m, modality in enumerate(dataset.modalities):
        absent = 1 - natural.modality[:, m].mean()
        if absent > NEARLY_ALL:
            yield f"{modality.name}: absent in {100 * absent:.0f} % of the cases"
        if modality.kind == "image":
            yield from _turned(modality.name, getattr(dataset.content[modality.name], "paths", ()))
        for attribute in modality.attributes:
            column = dataset.table(modality.name)[attribute.name]
            for said in _attribute(attribute, column):
                yield f"{modality.name}.{attribute.name}: {said}"


def _classes(dataset: Dataset) -> Iterator[str]:
    counts = np.bincount(dataset.label, minlength=len(dataset.classes))
    groups = [len(set(dataset.group[dataset.label == k])) for k in range(len(dataset.classes))]
    for name, n_cases, n_groups in zip(dataset.classes, counts, groups, strict=True):
        if n_cases < FEW_CASES:
            yield f"class {name!r} has {n_cases} cases"
        elif n_groups < FEW_CASES:
            yield f"class {name!r} has cases of {n_groups} groups only"
    for words in _alike(dataset.classes):
        yield f"classes {words} differ in capitals, blanks or signs only"


def _turned(name: str, paths: Sequence[Path | None]) -> Iterator[str]:
    """Name pictures that a viewer shows in another orientation than they are read in."""
    turned = [path for path in paths if path is not None and is_turned(path)]
    if turned:
        yield (
            f"{name}: {counted(len(turned), 'picture')} with an orientation tag, which is not "
            f"obeyed, the first is {turned[0].name}; turn the pixels if it matters"
        )


def _attribute(attribute: Attribute, column: pd.Series) -> Iterator[str]:
    found = column.dropna()
    if len(found) < len(column) * (1 - NEARLY_ALL):
        yield f"absent in {100 * (1 - len(found) / len(column)):.0f} % of the cases"
    if found.empty:
        return
    if found.nunique() == 1:
        yield f"always {str(found.iloc[0])!r} where it is there"
    elif attribute.kind == "numeric":
        yield from _far(found.to_numpy(float))
    else:
        yield from _words(found.astype(str))


def _words(words: pd.Series) -> Iterator[str]:
    """Name what looks like numbers or a free text, and words that differ in little."""
    n_words = words.nunique()
    no_numbers = sorted(each for each in set(words) if not _is_number(each))
    n_numbers = len(words) - int(words.isin(no_numbers).sum())
    if no_numbers and n_numbers > MOST * len(words):
        first = repr(no_numbers[0])
        share = f"{n_numbers} of {len(words)}"
        yield f"{share} cells are numbers, {first} is none; does it mean absent?"
    elif n_words > max(MIN_WORDS, UNIQUE * len(words)):
        yield f"{n_words} different words in {len(words)} cells; a free text or a name?"
    for alike in _alike(sorted(set(words))):
        yield f"{alike} differ in capitals, blanks or signs only"


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _far(numbers: np.ndarray) -> Iterator[str]:
    """Name a number far from all others: 999 and -9 often mean absent."""
    low, high = np.quantile(numbers, (0.25, 0.75))
    apart = np.maximum(low - numbers, numbers - high)
    if high > low and apart.max(initial=0) > FAR * (high - low):
        value = numbers[int(apart.argmax())]
        yield (
            f"{value:g} is far from the others (half of them lie in {low:g} to {high:g}); does it "
            "mean absent?"
        )


def _alike(words: Sequence[str]) -> Iterator[str]:
    """Name words that are one when letters and digits alone are looked at."""
    plain = ["".join(filter(str.isalnum, each.casefold())) for each in words]
    signs = {"+", "-"}  # alone they are words
    for key, n_times in Counter(plain).items():
        if n_times > 1 and (key or not signs & set(words)):
            same = [repr(each) for each, one in zip(words, plain, strict=True) if one == key]
            yield " and ".join(same[:3])
