"""Whatever a manifest, table or workbook holds: a dataset, or a line that says what is wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data import Dataset
from bench.errors import BenchError
from tests.own_data import load, skin

BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SAID = (
    "lesions.csv lesion diagnosis patient picture age sex site {case}.png { {} {nobody} * [ .. / "
    "../.. no 1e999 -3 pictures/{case}.png numeric categorical absent true utf-16 tab {value}"
)
ASKED = (
    "name table case label group split folds columns modalities leaks templates missing_values "
    "missing_files encoding delimiter n_folds recipe column classes words leave_out image size "
    "volume shape vector report rules channels encoder age sex allow_outside photo"
)
WORDS = st.sampled_from([*SAID.split(), "", "\0", "a" * 300])
KEYS = st.sampled_from(ASKED.split())
SCALARS = WORDS | st.text(max_size=12) | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
CELLS = st.sampled_from(
    [
        "",
        " ",
        "a",
        "b",
        "c0",
        "c1",
        "1",
        "2.5",
        "nan",
        "inf",
        "-1e400",
        "x.png",
        "../x",
        "\0",
        "é",
        '"',
    ]
) | st.text(max_size=8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skin(tmp_path_factory.mktemp("skin"))


def outcome(path: Path) -> Dataset | BenchError:
    """Load; anything but a dataset or a fault of the user is raised."""
    try:
        data = load(path)
    except BenchError as error:
        return error
    assert data.n_cases == len(data.label) == len(data.available) == len(set(data.cases))
    assert data.available.any(axis=1).all()
    assert set(data.label.tolist()) == set(range(len(data.classes)))
    return data


@BOUNDED
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_manifest_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_bytes(content)
        assert isinstance(outcome(path), BenchError)


@BOUNDED
@given(change=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_any_value_of_any_key_is_read_or_refused(study: Path, change: dict[str, Any]) -> None:
    said: dict[str, Any] = {
        "table": "lesions.csv",
        "case": "lesion",
        "label": "diagnosis",
        "modalities": {"photo": {"image": "picture"}, "clinical": {"table": ["age", "sex"]}},
    }
    path = study.with_name("changed.yaml")
    path.write_text(json.dumps(said | change))
    outcome(path)


@BOUNDED
@given(modality=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), kind=KEYS, value=VALUES)
def test_any_modality_is_read_or_refused(
    study: Path, modality: dict[str, Any], kind: str, value: Any
) -> None:
    said = {
        "table": "lesions.csv",
        "case": "lesion",
        "label": "diagnosis",
        "modalities": {"clinical": {"table": ["age"]}, "any": modality | {kind: value}},
    }
    path = study.with_name("modality.yaml")
    path.write_text(json.dumps(said))
    outcome(path)


def write_manifest(folder: Path, table: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        f"table: {table}\ncase: id\nlabel: y\nmissing_files: absent\nmodalities:\n"
        "  t: {table: {a: '', b: categorical}}\n  v: {vector: [a2]}\n  p: {image: p}\n"
    )
    return path


@BOUNDED
@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_bytes(b"id,y,a,b,a2,p\n" + content)
        outcome(write_manifest(Path(folder), "t.csv"))


@BOUNDED
@given(
    rows=st.lists(st.lists(CELLS, min_size=6, max_size=6), max_size=8), mark=st.sampled_from(",;\t")
)
def test_any_cells_are_a_table_or_refused(rows: list[list[str]], mark: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [mark.join(row) for row in [["id", "y", "a", "b", "a2", "p"], *rows]]
        text = "\n".join(lines).encode(errors="surrogatepass")
        (Path(folder) / "t.csv").write_bytes(text)
        outcome(write_manifest(Path(folder), "t.csv"))


@BOUNDED
@given(label=st.lists(st.sampled_from("xyz "), min_size=6, max_size=6), number=st.floats())
def test_tables_near_to_a_good_one_are_read_or_refused(label: list[str], number: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"c{k},{each},{number if k == 2 else k},b,{k}," for k, each in enumerate(label)]
        (Path(folder) / "t.csv").write_text("\n".join(["id,y,a,b,a2,p", *rows]))
        path = write_manifest(Path(folder), "t.csv")
        path.write_text(path.read_text().replace("  p: {image: p}\n", ""))
        outcome(path)


@settings(BOUNDED, max_examples=25)
@given(place=st.integers(0, 6000), content=st.binary(min_size=1, max_size=20))
def test_a_damaged_workbook_is_read_or_refused(place: int, content: bytes) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    with tempfile.TemporaryDirectory() as folder:
        book = openpyxl.Workbook()
        for row in (["id", "y", "a", "b", "a2"], *([k, k % 2, k, "b", k] for k in range(6))):
            book.active.append(row)
        table = Path(folder) / "t.xlsx"
        book.save(table)
        whole = table.read_bytes()
        place %= len(whole)
        table.write_bytes(whole[:place] + content + whole[place + len(content) :])
        path = write_manifest(Path(folder), "t.xlsx")
        path.write_text(path.read_text().replace("  p: {image: p}\n", ""))
        outcome(path)
