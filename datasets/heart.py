"""UCI heart disease: four hospitals, and the tests that each of them made.

Modalities, in the order in which a patient meets them: `history` (age, sex, chest pain), `resting`
(blood pressure, serum and electrocardiogram at rest), `exercise` (the stress test) and `imaging`
(fluoroscopy and thallium scan, absent in half of the cases). The label is any narrowing above 50 %
in an angiogram: num 1 to 4 against 0. One case is one group: the files have no patient numbers,
and two pairs of records are alike. Four folds leave one hospital out each; any other number pools
the hospitals.

Choices: chol 0 and trestbps 0 are not measured values and mean absent, like ? and -9. The codes of
categories get their words.

What gives the label away: the gaps. What was measured goes with the hospital, and the hospital
with the disease (93 % in Switzerland, 36 % in Budapest): which attributes a case has tells the
label with AUC 0.76, logistic regression on five stratified folds; which modalities, with 0.53.

Source: Detrano et al., American Journal of Cardiology 64, 1989, and the files of the release. The
investigators, whom the release asks to name: A. Janosi (Budapest), W. Steinbrunn (Zurich),
M. Pfisterer (Basel), R. Detrano (Long Beach and Cleveland).
"""

# N cases

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data import Attribute, Dataset, Modality
from bench.dataset import (
    DatasetPlugin,
    bad_cell,
    filled,
    find_layout,
    fingerprint_files,
    label_codes,
    numbers,
    read_table,
)
from bench.spec import Frozen

if TYPE_CHECKING:
    import pandas as pd

SITES = ("cleveland", "hungarian", "switzerland", "va")
RELEASE = {site: f"processed.{site}.data" for site in SITES}  # no header, ? where absent
STACKED = "heart.csv"  # all sites, with a header and the column site
LAYOUTS = {"release": tuple(RELEASE.values()), "stacked": (STACKED,)}
LABEL = "num"
STAGES = ("0", "1", "2", "3", "4")  # 0: no vessel narrowed by more than half
ABSENT = ("?", "-9", "-9.0")
ZERO_IS_ABSENT = ("trestbps", "chol")
GAPS = "whether it was measured goes with the hospital, and the hospital with the disease"

WORDS: dict[str, dict[int, str]] = {
    "sex": {0: "female", 1: "male"},
    "cp": {
        1: "typical angina",
        2: "atypical angina",
        3: "non-anginal pain",
        4: "asymptomatic",
    },
    "fbs": {0: "at most 120 mg/dl", 1: "above 120 mg/dl"},
    "restecg": {0: "normal", 1: "ST-T wave abnormality", 2: "left ventricular hypertrophy"},
    "exang": {0: "no", 1: "yes"},
    "slope": {1: "upsloping", 2: "flat", 3: "downsloping"},
    "thal": {3: "normal", 6: "fixed defect", 7: "reversible defect"},
}


def _attribute(name: str, template: str, leak: str = "") -> Attribute:
    if name in WORDS:
        categories = tuple(WORDS[name].values())
        return Attribute(name, "categorical", categories=categories, leak=leak, template=template)
    return Attribute(name, leak=leak, template=template)


MODALITIES = (
    Modality(
        "history",
        "table",
        attributes=(
            _attribute("age", "The patient is {value} years old"),
            _attribute("sex", "The patient is {value}"),
            _attribute("cp", "The chest pain of the patient is classed as {value}"),
        ),
    ),
    Modality(
        "resting",
        "table",
        attributes=(
            _attribute("trestbps", "The blood pressure at rest is {value} mm Hg", GAPS),
            _attribute("chol", "The serum cholesterol is {value} mg/dl", GAPS),
            _attribute("fbs", "The fasting blood sugar is {value}", GAPS),
            _attribute("restecg", "The electrocardiogram at rest shows: {value}"),
        ),
    ),
    Modality(
        "exercise",
        "table",
        attributes=(
            _attribute("thalach", "The highest heart rate reached is {value} per minute", GAPS),
            _attribute("exang", "Angina induced by exercise: {value}", GAPS),
            _attribute("oldpeak", "The ST depression induced by exercise is {value}", GAPS),
            _attribute("slope", "The slope of the ST segment at peak exercise is {value}", GAPS),
        ),
    ),
    Modality(
        "imaging",
        "table",
        attributes=(
            _attribute(
                "ca", "The number of major vessels coloured by fluoroscopy is {value}", GAPS
            ),
            _attribute("thal", "The thallium scan shows: {value}", GAPS),
        ),
    ),
)
ATTRIBUTES = tuple(attribute.name for modality in MODALITIES for attribute in modality.attributes)
COLUMNS = (*ATTRIBUTES, LABEL)  # in the order of the files without a header


@dataclass(frozen=True)
class _Records:
    """The records of one hospital."""

    site: str
    source: str  # name of the file
    cells: pd.DataFrame  # text, NaN where absent


class Heart(DatasetPlugin):
    """Four tables with gaps that depend on the hospital."""

    name = "heart"
    display_name = "Heart disease"
    description = "heart disease, 920 cases of 4 hospitals, 4 tables (imaging absent in 52 %)"
    citation = (
        "R. Detrano, A. Janosi, W. Steinbrunn, M. Pfisterer, J.-J. Schmid, S. Sandhu, K. H. Guppy, "
        "S. Lee, V. Froelicher: International application of a new probability algorithm for the "
        "diagnosis of coronary artery disease. American Journal of Cardiology 64(5), 1989"
    )
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    recipe_defaults = {"epochs": 30}

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the four files of the release, or one table that stacks them."""
        import pandas as pd

        folder, layout = find_layout(self.name, root, LAYOUTS)
        hospitals = list(_stacked(folder) if layout == "stacked" else _release(folder))
        table = pd.concat([_values(each) for each in hospitals], ignore_index=True)
        names = [f"{each.site}-{row:03d}" for each in hospitals for row in range(len(each.cells))]
        cases = np.array(names)
        hospital = np.repeat(range(len(SITES)), [len(each.cells) for each in hospitals])  # (N,)
        content = {m.name: table[[each.name for each in m.attributes]] for m in MODALITIES}
        files = tuple(folder / name for name in LAYOUTS[layout])
        return Dataset(
            name=self.name,
            modalities=MODALITIES,
            classes=("no disease", "disease"),
            cases=cases,
            label=np.concatenate([_label(each) for each in hospitals]),
            group=cases,
            content=content,
            available=np.stack([c.notna().any(axis=1) for c in content.values()], axis=1),
            fingerprint=fingerprint_files(files),
            folds={len(SITES): hospital},
            columns={"site": np.array(SITES)[hospital]},
            files=files,
        )


def _release(folder: Path) -> Iterator[_Records]:
    """Yield the records of each hospital from its file."""
    for site, name in RELEASE.items():
        cells = read_table(folder / name, COLUMNS, header=COLUMNS)
        yield _Records(site, name, cells.mask(cells.isin(ABSENT)))


def _stacked(folder: Path) -> Iterator[_Records]:
    """Yield the records of each hospital from the one table; their order in it does not matter."""
    cells = read_table(folder / STACKED, (*COLUMNS, "site"))
    code = label_codes(cells["site"], SITES, source=STACKED)
    for k, site in enumerate(SITES):
        yield _Records(site, STACKED, cells[code == k].mask(cells[code == k].isin(ABSENT)))


def _values(records: _Records) -> pd.DataFrame:
    """Return numbers and words, one column per attribute, NaN where absent."""
    import pandas as pd

    read = {name: _column(records, name) for name in ATTRIBUTES}
    return pd.DataFrame(read, index=range(len(records.cells)))


def _column(records: _Records, name: str) -> np.ndarray:
    """Return one attribute of the cases: (N,) float64, or words as objects.

    Raises:
        BadData: a cell is no number, or no code of the category.
    """
    column = records.cells[name]
    values = numbers(column, source=records.source)
    if name in ZERO_IS_ABSENT:
        values[values == 0] = np.nan
    if name not in WORDS:
        return values
    known = np.isin(values, list(WORDS[name])) | np.isnan(values)
    if not known.all():
        codes = f"one of {', '.join(map(str, WORDS[name]))} or blank"
        raise bad_cell(column, int((~known).argmax()), codes, source=records.source)
    return np.array([WORDS[name].get(value, np.nan) for value in values], dtype=object)


def _label(records: _Records) -> np.ndarray:
    """Return 1 where the disease is there, of whatever stage: (N,) int64."""
    column = records.cells[LABEL]
    filled(column, source=records.source)
    return (label_codes(column, STAGES, source=records.source) > 0).astype(np.int64)


PLUGIN = Heart
