"""`bench new method` writes a plugin that works before a line of it is changed."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bench
from bench.data import Task, Tokens, TokenSpec
from bench.errors import BadRequest
from bench.method import Method, Progress
from bench.plugins.scaffold import IMPORTED, new_method
from bench.registry import Registry

ROOT = Path(bench.__file__).parents[1]
TASK = Task(
    modalities=(TokenSpec("picture", "image", 3, 5), TokenSpec("vector", "vector", 1, 2)),
    classes=("benign", "malignant"),
    d_model=8,
)


def tokens(n_cases: int) -> list[Tokens]:
    return [
        Tokens(
            values=torch.randn(n_cases, spec.n_tokens, spec.d_token),
            valid=torch.ones(n_cases, spec.n_tokens, dtype=torch.bool),
            attribute=torch.full((spec.n_tokens,), -1),
            codes=torch.zeros(n_cases, 0, dtype=torch.long),
            numbers=torch.zeros(n_cases, 0),
        )
        for spec in TASK.modalities
    ]


def build(folder: Path, name: str) -> Method:
    plugin = Registry(include=[folder / f"{name.replace('-', '_')}.py"]).load("method", name)
    return plugin(TASK, plugin.config_class())


def test_the_written_method_predicts_and_learns(tmp_path: Path) -> None:
    new_method("mean-sum", tmp_path)
    method = build(tmp_path, "mean-sum")
    observed = torch.tensor([[True, True], [True, False], [False, True]])
    progress = Progress("train", 0, 0, 1, torch.Generator().manual_seed(0))
    terms = method.losses(tokens(3), observed, torch.tensor([0, 1, 1]), progress)
    torch.stack(list(terms.values())).sum().backward()
    assert method(tokens(3), observed).logits.shape == (3, 2)
    assert all(p.grad is not None for p in method.parameters())
    assert method.dropout_law(method.config) == "uniform"


def test_in_the_written_method_what_is_absent_has_no_influence(tmp_path: Path) -> None:
    new_method("mean-sum", tmp_path)
    method = build(tmp_path, "mean-sum").eval()
    given, available = tokens(2), torch.tensor([[True, False], [True, False]])
    before = method(given, available).logits
    given[1].values.fill_(float("nan"))
    torch.testing.assert_close(method(given, available).logits, before)


def test_the_written_files_pass_the_linter(tmp_path: Path) -> None:
    plugin, test = new_method("mean-sum", tmp_path)
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    for command in (
        [*ruff, "check", *config, str(plugin)],
        [*ruff, "check", *config, "--ignore", "D1", str(test)],
        [*ruff, "format", "--check", *config, str(plugin), str(test)],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_written_test_passes(tmp_path: Path) -> None:
    _, test = new_method("mean-sum", tmp_path)
    runpy.run_path(str(test))["test_mean_sum_keeps_the_contract_of_a_method"]()


def test_in_the_repositorys_own_folder_only_the_method_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.plugins.scaffold.folder_of", lambda kind: tmp_path)
    assert new_method("mean-sum", tmp_path) == [tmp_path / "mean_sum.py"]


def test_a_class_never_hides_what_the_template_imports(tmp_path: Path) -> None:
    plugin, _ = new_method("head", tmp_path)
    body = ast.parse(plugin.read_text()).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert {name for name in names if name[0].isupper()} - {"DropoutLaw"} == IMPORTED
    assert type(build(tmp_path, "head")).__name__ == "HeadMethod"


@pytest.mark.parametrize("name", ["Mean", "mean_sum", "2d", "mean--sum", "", "lambda", "test-me"])
def test_a_name_that_no_file_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot name a method; use lower-case words"):
        new_method(name, tmp_path)


def test_the_name_of_a_built_in_method_is_refused(tmp_path: Path) -> None:
    taken = Registry().names("method")[0]
    with pytest.raises(BadRequest, match=f"a method is named {taken!r} already"):
        new_method(taken, tmp_path)


@pytest.mark.parametrize("file", ["mean_sum.py", "test_mean_sum.py"])
def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("mine\n")
    with pytest.raises(BadRequest, match="is already there; choose another name or folder"):
        new_method("mean-sum", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_text() == "mine\n"
