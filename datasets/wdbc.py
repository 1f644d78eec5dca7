"""Wisconsin diagnostic breast cancer: three tables that describe the same cell nuclei.

Each of ten measures of the nuclei in a fine needle aspirate is given as its mean over the nuclei,
its standard error and its worst value (mean of the three largest): three modalities of ten numbers.
The set comes with scikit-learn and is complete. One case is one group: it has no patient numbers.

Source: Street, Wolberg and Mangasarian, "Nuclear feature extraction for breast tumor diagnosis",
1993. Here label 1 is malignant; scikit-learn's target is the other way round.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data import Attribute, Dataset, Modality
from bench.dataset import DatasetPlugin, fingerprint_arrays
from bench.spec import Frozen

N_MEASURES = 10
STATISTICS = ("mean", "se", "worst")  # the order of the columns, ten each


class Wdbc(DatasetPlugin):
    """Three complete tables; a study on one core takes a minute."""

    name = "wdbc"
    display_name = "WDBC"
    description = "breast masses, 569 cases, three tables of ten measures of cell nuclei, complete"
    citation = (
        "W. N. Street, W. H. Wolberg, O. L. Mangasarian: Nuclear feature extraction for breast "
        "tumor diagnosis. IS&T/SPIE Symposium on Electronic Imaging, 1993"
    )
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    needs_root = False

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the set that scikit-learn carries; the root is not used."""
        import pandas as pd
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        measures = [name.removeprefix("mean ") for name in bunch.feature_names[:N_MEASURES]]
        n_cases = len(bunch.target)
        cases = np.array([f"{row:03d}" for row in range(n_cases)])
        tables = np.split(bunch.data, len(STATISTICS), axis=1)
        return Dataset(
            name=self.name,
            modalities=tuple(_table(statistic, measures) for statistic in STATISTICS),
            classes=("benign", "malignant"),
            cases=cases,
            label=1 - bunch.target.astype(np.int64),
            group=cases,
            content={
                statistic: pd.DataFrame(values, columns=measures)
                for statistic, values in zip(STATISTICS, tables, strict=True)
            },
            available=np.ones((n_cases, len(STATISTICS)), dtype=bool),
            fingerprint=fingerprint_arrays(bunch.data, bunch.target),
        )


def _table(statistic: str, measures: list[str]) -> Modality:
    word = {"mean": "mean", "se": "standard error of the", "worst": "worst"}[statistic]
    template = f"The {word} {{name}} of the cell nuclei is {{value}}"
    attributes = tuple(Attribute(measure, template=template) for measure in measures)
    return Modality(statistic, "table", attributes=attributes)


PLUGIN = Wdbc
