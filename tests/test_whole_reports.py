"""Reports as vectors: a frozen language model reads each whole, in cases never seen before too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.encoders.language import sentence_features
from bench.errors import BadConfig, BadData
from bench.spec import EncoderConfig
from bench.store import StudyFolder
from tests.command_line import call
from tests.language_models import save_bert, save_qwen
from tests.own_data import load, reported, skin
from tests.test_own_studies import RUN

TEXTS = ["the lower limb of the patient .", "back of a f .", "age 6 0 , the back of m ."]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Write pictures and reports, one of which is blank, and a model that reads them."""
    path = reported(tmp_path / "data")
    (tmp_path / "data" / "bert").mkdir()
    save_bert(tmp_path / "data" / "bert")
    table = path.parent / "reports.csv"
    header, *rows = table.read_text().splitlines()
    cells = [row.split(",")[:2] for row in rows]
    lines = [f'{case},{label},"{TEXTS[k % 3]}"' for k, (case, label) in enumerate(cells)]
    lines[4] = lines[4].partition('"')[0]
    table.write_text("\n".join([header, *lines]) + "\n")
    path.write_text(path.read_text().replace("report: report}", "report: report, cls: bert}"))
    return path


def test_a_report_is_the_cls_of_its_whole_text_and_a_blank_one_is_absent(manifest: Path) -> None:
    data = load(manifest)
    assert (data.modalities[1].kind, data.modalities[1].width) == ("vector", 8)
    assert np.flatnonzero(~data.available[:, 1]).tolist() == [4]
    vectors = data.content["report"]
    assert isinstance(vectors, np.ndarray)
    config = EncoderConfig(text="cls", text_model=str(manifest.parent / "bert"))
    for k, each in enumerate(sentence_features(TEXTS, config)):
        assert vectors[k].tolist() == each[0].tolist()
    assert len(np.unique(vectors[:3], axis=0)) == 3


def test_other_weights_are_other_data(manifest: Path) -> None:
    before = load(manifest).fingerprint
    weights = manifest.parent / "bert" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert load(manifest).fingerprint != before


def test_methods_learn_from_whole_reports(manifest: Path, tmp_path: Path) -> None:
    asked = ("-m", "alignedfusion", "-m", "logistic-specialist", "--no-floor", *RUN)
    assert call("run", "-d", str(manifest), *asked, "--out", str(tmp_path / "results")) == 0
    runs = StudyFolder(tmp_path / "results", "main").runs()
    assert [run.state for run in runs] == ["done", "done"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cls: bert", "cls: ./nowhere", r"line 7: modalities.report.cls: ./nowhere gives no vec.*"),
        ("cls: bert", "cls: qwen", r"cls: qwen gives no vector of a report \(has no \[CLS\] that"),
        ("cls: bert", "cls: bert, rules: {a: {values: [b]}}", "and rules its attributes; give one"),
        ("report: report,", "report: empty,", "report.report: column empty is all blank"),
    ],
)
def test_what_cannot_be_read_as_a_whole_is_one_line(
    manifest: Path, old: str, new: str, message: str
) -> None:
    (manifest.parent / "qwen").mkdir()
    save_qwen(manifest.parent / "qwen")
    table = manifest.parent / "reports.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},empty", *(f"{each}," for each in lines[1:])]) + "\n")
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises((BadConfig, BadData), match=message):
        load(manifest)


def test_a_table_as_one_token_reads_its_sentences(manifest: Path, tmp_path: Path) -> None:
    own = skin(tmp_path / "skin")
    model = f"encoder.text_model={manifest.parent / 'bert'}"
    asked = ("-m", "alignedfusion:fullreport", "--no-floor", "-p", "c-tr+m-te", "--rates", "0,0.5")
    settings = ("--set", "encoder.text=cls", "--set", model, *RUN, "--out", str(tmp_path / "out"))
    assert call("run", "-d", str(own), *asked, *settings) == 0
    (run,) = StudyFolder(tmp_path / "out", "main").runs()
    by_rate = run.predictions().pivot(index="case", columns="condition", values="p_0")
    assert (by_rate.iloc[:, 0] != by_rate.iloc[:, 1]).any()
