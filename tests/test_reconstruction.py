"""AlignedFusion on a real table: its protocols run, and its guesses beat the commonest value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.method import Progress
from bench.registry import registry_of
from bench.runner.deep import load_deep
from bench.runner.material import Context, Material
from bench.spec import RunSpec
from bench.store import RunFolder, StudyFolder
from tests.command_line import call

PROTOCOLS = ("m-tr+c-te", "c-tr+m-te", "m-tr+m-te")


def run(out: Path, *flags: str) -> list[RunFolder]:
    asked = ("run", "-m", "alignedfusion", "--folds", "0", "--no-floor", "--out", str(out), "-q")
    assert call(*asked, *flags) == 0
    return StudyFolder(out, "main").runs()


@pytest.mark.parametrize("changed", ["mask_p=0", "mask_p=0.5", "intermediate_token=false"])
def test_the_attribute_protocols_run_with_the_mask_sweep_and_without_the_token(
    tmp_path: Path, changed: str
) -> None:
    asked = [flag for name in PROTOCOLS for flag in ("-p", name)]
    small = ("--rates", "0,0.5", "--set", "recipe.epochs=1")
    folders = run(tmp_path, *asked, *small, "--set", f"alignedfusion.{changed}")
    assert sorted(each.spec()["setting"]["name"] for each in folders) == [
        "attribute-50",
        "complete",
    ]
    assert all(each.state == "done" for each in folders)


def test_hidden_quartiles_of_new_cases_are_guessed_better_than_by_the_commonest(
    tmp_path: Path,
) -> None:
    (folder,) = run(tmp_path, "--set", "recipe.epochs=12")
    spec = RunSpec(**folder.spec())
    context = Context(registry_of([], False), None, "cpu", 1)
    material = Material.of(spec, context)
    fitted = load_deep(folder, material, context)
    model = fitted.members[0].model.eval()
    dataset, test = material.dataset, material.split.test
    inputs = fitted.preprocessor.inputs(dataset, test, dataset.natural())
    train = fitted.preprocessor.inputs(dataset, material.split.train, dataset.natural())
    method: Any = model.method
    progress = Progress("train", 0, 0, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = model.encode(inputs)
        x, seen = method.read(tokens, inputs.observed)
        method.train()  # attributes are hidden in training alone
        visible = method.hide(seen, inputs.observed, progress)
        method.eval()
        _, guesses = method.fuse(x, visible, inputs.observed)
    right, common = [], []
    for s, guess in guesses.items():
        hidden = (seen[s] & ~visible[s]).numpy()
        codes = tokens[s].codes.numpy()
        most = [np.bincount(column).argmax() for column in train.content[s].codes.numpy().T]
        right += (guess.argmax(-1).numpy() == codes)[hidden].tolist()
        common += (np.array(most) == codes)[hidden].tolist()
    assert len(right) > 500
    assert np.mean(right) > np.mean(common) + 0.2
