"""The papers' studies run by their names, on a made release with pictures of the real size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from bench.store import StudyFolder
from tests.command_line import call
from tests.language_models import save_bert, save_qwen
from tests.test_derm7pt import SMALL, write_release
from tests.test_odir import Patient, full_df, pictures_of

SWIN = "swin_tiny_patch4_window7_224"
WIDTH, HEIGHT = 768, 512  # of the release's pictures
N_ROUNDS = 3  # of the eight diagnoses


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write 24 cases whose pictures are noise in the release's size."""
    diagnoses = SMALL * N_ROUNDS
    places = range(len(diagnoses))
    parts = {"train": places[:12], "valid": places[12:18], "test": places[18:]}
    root = write_release(tmp_path / "release_v0", diagnoses, dict(parts), without=[3])
    rng = np.random.default_rng(0)
    for path in sorted((root / "images").rglob("*.*")):
        pixels = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(path, "JPEG")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part", "save_language_model"),
    [
        ("cmml-derm7pt", "-m cmml", save_qwen),
        ("alignedfusion-derm7pt", "-m alignedfusion -p m-tr+m-te --rates 0,0.5", save_bert),
    ],
)
def test_a_papers_study_runs_by_its_name(
    name: str,
    part: str,
    save_language_model: Callable[[Path], Path],
    release: Path,
    tmp_path: Path,
) -> None:
    weights, language = tmp_path / "swin.safetensors", tmp_path / "language"
    save_file(timm.create_model(SWIN, num_classes=0).state_dict(), weights)
    language.mkdir()
    settings = {
        "encoder.pretrained": "false",
        "encoder.weights": str(weights),
        "encoder.text_model": str(save_language_model(language)),
        "recipe.epochs": "1",
        "recipe.batch_size": "6",
    }
    asked = [
        "run",
        "--config",
        name,
        *part.split(),
        "--data-root",
        str(release),
        "--seeds",
        "0",
        "--quiet",
    ]
    asked += ["--out", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    assert call(*asked, *(f"--set={key}={value}" for key, value in settings.items())) == 0
    runs = StudyFolder(tmp_path / "results", name).runs()
    assert {run.spec()["method"] for run in runs} >= {part.split()[1]}
    assert {run.state for run in runs} == {"done"}


@pytest.mark.slow
def test_the_study_of_both_eyes_runs_by_its_name(tmp_path: Path) -> None:
    patients: tuple[Patient, ...] = tuple(
        (k, 30 + k, ("Female", "Male")[k % 2], "x", "x", "NDG"[k % 3], "LR" if k % 8 else "L")
        for k in range(36)
    )
    release, weights = tmp_path / "odir", tmp_path / "resnet.safetensors"
    (release / "preprocessed_images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (each for patient in patients for each in pictures_of(patient)):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = release / "preprocessed_images" / name
        Image.fromarray(pixels).resize((512, 512)).save(path, "JPEG")
    (release / "full_df.csv").write_text(full_df(patients), encoding="utf-8")
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), weights)
    (tmp_path / "language").mkdir()
    settings = {
        "encoder.image": "resnet10t",
        "encoder.pretrained": "false",
        "encoder.weights": str(weights),
        "encoder.text_model": str(save_qwen(tmp_path / "language")),
        "odir.size": "64",
        "recipe.epochs": "1",
    }
    asked = ["run", "--config", "cmml-odir", "-m", "cmml", "-m", "redcore", "--folds", "0"]
    asked += ["--data-root", str(tmp_path), "--out", str(tmp_path / "results"), "--quiet"]
    asked += ["--cache-dir", str(tmp_path / "cache")]
    assert call(*asked, *(f"--set={key}={value}" for key, value in settings.items())) == 0
    runs = StudyFolder(tmp_path / "results", "cmml-odir").runs()
    assert {run.state for run in runs} == {"done"}
    assert {run.spec()["method"] for run in runs} >= {"cmml", "redcore"}
