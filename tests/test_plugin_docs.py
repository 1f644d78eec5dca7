"""The plugins of docs/plugins.md are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import call

DOCS = Path(__file__).parents[1] / "docs"
SMALL = ("--set", "recipe.epochs=2", "--folds", "0", "-q")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name, _, rest = code.partition("\n")
        path = tmp_path / name.removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(rest)
    return tmp_path / "mine"


def test_the_plugins_of_the_docs_are_found(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--include", str(mine)) == 0
    out = capsys.readouterr().out
    names = [path.stem.replace("_", "-") for path in mine.glob("*.py")]
    assert len(names) == 5
    assert [name for name in names if name not in out] == []


def test_the_method_of_the_docs_keeps_every_promise(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("test", str(mine / "nearest_mean.py")) == 0
    assert "6 of 6 promises kept" in capsys.readouterr().out


def test_the_plugins_of_the_docs_work_together(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    include = ("--include", str(mine))
    assert call("prepare", "wine", *include) == 0
    assert "33.7 %" in capsys.readouterr().out  # 60 of 178 were never measured
    asked = ("-m", "nearest-mean", "-m", "concat", "-d", "wine", "-p", "one-absent")
    assert call("run", *include, *asked, *SMALL) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^\| n +\| +\d+ \| +\d+ \| +\d+ \|", printed, re.MULTILINE)
    assert re.search(r"^\| nearest-mean ", printed, re.MULTILINE)
    assert call("table", *include, "--report", "range-of-columns") == 0
    assert "Best less worst column" in capsys.readouterr().out
    assert call("figure", "scores-by-column", *include) == 0
    written = {path.suffix for path in mine.parent.rglob("scores-by-column-0.*")}
    assert written == {".pdf", ".png", ".csv"}
