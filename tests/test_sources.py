"""The hash of the code changes with what runs, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

import bench
from bench.errors import BadPlugin
from bench.sources import source_files, sources_hash

PACKAGE = Path(bench.__file__).parent

BEFORE = '''
"""What it is."""
from .layers import GATE

class Toy:
    """A toy."""

    def scale(self, x):
        """Scale."""
        return GATE * x  # by the gate
'''


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).lstrip())
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    write(tmp_path / "layers.py", "GATE = 2\n")
    return write(tmp_path / "toy.py", BEFORE)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_comments_docstrings_and_layout_do_not_count(toy: Path) -> None:
    before = sources_hash([toy])
    rewrite(toy, "  # by the gate", "")
    rewrite(toy, '"""What it is."""', '"""Something else, at length."""\n\n')
    rewrite(toy, '        """Scale."""\n', "")
    rewrite(toy, "GATE * x", "(GATE\n            * x)")
    assert sources_hash([toy]) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("toy.py", "GATE * x", "GATE + x"), ("layers.py", "2", "3"), ("toy.py", "scale", "scaled")],
)
def test_code_counts_in_the_file_and_in_what_it_imports(
    toy: Path, file: str, old: str, new: str
) -> None:
    before = sources_hash([toy])
    rewrite(toy.with_name(file), old, new)
    assert sources_hash([toy]) != before


def test_the_place_of_the_files_does_not_count(toy: Path, tmp_path: Path) -> None:
    before = sources_hash([toy])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("toy.py", "layers.py"):
        (tmp_path / name).rename(moved / name)
    assert sources_hash([moved / "toy.py"]) == before


def test_the_order_and_the_number_of_mentions_do_not_count(toy: Path) -> None:
    layers = toy.with_name("layers.py")
    assert sources_hash([toy, layers, toy]) == sources_hash([layers, toy]) == sources_hash([toy])


@pytest.mark.parametrize(
    "line",
    [
        "from .layers import GATE",
        "from . import layers",
        "from layers import GATE",
        "import layers",
        "def gate():\n    from layers import GATE",
        "from .blocks.gates import GATE",
        "import blocks.gates",
    ],
)
def test_every_form_of_import_of_a_neighbour_is_followed(tmp_path: Path, line: str) -> None:
    write(tmp_path / "layers.py", "GATE = 2\n")
    write(tmp_path / "blocks" / "__init__.py", "")
    write(tmp_path / "blocks" / "gates.py", "from ..layers import GATE\n")
    toy = write(tmp_path / "toy.py", line + "\n")
    names = {path.relative_to(tmp_path).as_posix() for path in source_files([toy])}
    if "blocks" in line:
        assert names == {"toy.py", "layers.py", "blocks/__init__.py", "blocks/gates.py"}
    else:
        assert names == {"toy.py", "layers.py"}


def test_the_package_is_followed_and_other_packages_are_not(tmp_path: Path) -> None:
    toy = write(tmp_path / "toy.py", "import torch\nimport numpy\nfrom bench.blocks import Head\n")
    files = source_files([toy])
    assert {PACKAGE / "blocks.py", PACKAGE / "data.py", toy} <= set(files)
    assert all(path.is_relative_to(PACKAGE) or path == toy for path in files)


def test_a_module_imported_from_the_package_itself_is_followed(tmp_path: Path) -> None:
    toy = write(tmp_path / "toy.py", "from bench import seeds\n")
    assert source_files([toy]) == sorted([toy, PACKAGE / "seeds.py"])


def test_the_version_does_not_count(tmp_path: Path) -> None:
    toy = write(tmp_path / "toy.py", "import bench\nfrom bench import __version__\n")
    assert source_files([toy]) == [toy]


def test_what_only_a_type_checker_imports_is_not_followed(tmp_path: Path) -> None:
    text = """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from bench.data import Task
        else:
            from bench import seeds
    """
    toy = write(tmp_path / "toy.py", text)
    assert source_files([toy]) == sorted([toy, PACKAGE / "seeds.py"])


def test_a_built_in_plugin_has_one_hash_through_the_link_and_the_folder() -> None:
    linked = PACKAGE / "protocols" / "all_subsets.py"
    real = PACKAGE.parent / "protocols" / "all_subsets.py"
    assert sources_hash([linked]) == sources_hash([real]) == sources_hash([linked, real])


def test_an_unchanged_file_is_parsed_once(toy: Path) -> None:
    layers = toy.with_name("layers.py")
    status = layers.stat()
    before = sources_hash([toy])
    layers.write_text("GATE = 9\n")  # as long as before
    os.utime(layers, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sources_hash([toy]) == before
    os.utime(layers, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert sources_hash([toy]) != before


def test_a_circle_of_imports_ends(tmp_path: Path) -> None:
    a = write(tmp_path / "a.py", "from . import b\n")
    b = write(tmp_path / "b.py", "from . import a\n")
    assert source_files([a]) == [a, b]


@pytest.mark.parametrize("text", ["def broken(:\n", None])
def test_a_file_that_cannot_be_parsed_or_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "toy.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadPlugin, match=r"the source of .*toy\.py cannot be read: "):
        sources_hash([path])


def test_values_that_differ_only_in_type_count(tmp_path: Path) -> None:
    toy = write(tmp_path / "toy.py", "RATE = 1\n")
    before = sources_hash([toy])
    toy.write_text("RATE = 1.0\n")
    assert sources_hash([toy]) != before
