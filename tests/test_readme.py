"""The README's plugin is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.cli import main

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    text = README.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "gated_sum.py"
    path.write_text(code)
    return path


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def test_the_readme_shows_a_plugin_of_about_sixty_lines(plugin):
    assert 50 <= len(plugin.read_text().splitlines()) <= 65


def test_the_readme_plugin_keeps_every_promise(plugin, capsys):
    assert bench("test", str(plugin)) == 0
    assert "11 of 11 promises kept" in capsys.readouterr().out


def test_the_readme_plugin_appears_in_the_same_table_as_a_built_in_method(plugin, tmp_path, capsys):
    flags = ("--folds", "0", "--set", "recipe.epochs=2", "--out", str(tmp_path / "results"))
    methods = ("-m", "gated-sum", "-m", "concat:dropout")
    assert bench("run", "--include", str(plugin), *methods, *flags, "-q") == 0
    table = capsys.readouterr().out
    for row in ("gated-sum", "concat:dropout", "logistic-specialist"):
        assert re.search(rf"^\| {row} ", table, re.MULTILINE)


def test_every_method_dataset_and_protocol_of_the_folders_is_in_the_readme():
    text = README.read_text(encoding="utf-8")
    folders = ("methods", "datasets", "protocols")
    files = [path for name in folders for path in (README.parent / name).glob("*.py")]
    names = [path.stem.replace("__", "+").replace("_", "-") for path in files]
    assert [name for name in names if f"`{name}`" not in text] == []
