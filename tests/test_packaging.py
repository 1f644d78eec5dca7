"""What is installed is what is in the repository: plugins, presets, templates, one package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import bench
from bench.plugin_file import FOLDERS

ROOT = Path(bench.__file__).parents[1]


def tracked_files() -> list[str]:
    """List the files that git tracks; skip where there is no git or no checkout."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("the tests do not run from a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Build sdist, and the wheel from it, from a copy of the tracked files; return their names."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    (sdist,) = (copy / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened_wheel, tarfile.open(sdist) as opened_sdist:
        members = opened_sdist.getnames()
        return opened_wheel.namelist(), [name.partition("/")[2] for name in members]


@pytest.mark.slow
@pytest.mark.parametrize("archive", [0, 1], ids=["wheel", "sdist"])
def test_every_plugin_of_the_folders_is_packed(
    archives: tuple[list[str], list[str]], archive: int
) -> None:
    names = tracked_files()
    for folder in FOLDERS.values():
        plugins = {f"bench/{name}" for name in names if Path(name).parts[0] == folder}
        plugins |= {name for name in names if name.startswith(f"bench/{folder}/")}
        packed = {name for name in archives[archive] if name.startswith(f"bench/{folder}/")}
        assert {name for name in packed if not name.endswith("/")} == plugins


@pytest.mark.slow
@pytest.mark.parametrize("archive", [0, 1], ids=["wheel", "sdist"])
def test_presets_templates_and_the_type_marker_are_packed(
    archives: tuple[list[str], list[str]], archive: int
) -> None:
    wanted = {
        name
        for name in tracked_files()
        if name.startswith(("bench/presets/", "bench/templates/")) or name == "bench/py.typed"
    }
    assert {"bench/presets/quick.yaml", "bench/templates/method.py.j2"} <= wanted
    assert sorted(wanted - set(archives[archive])) == []


@pytest.mark.slow
def test_the_wheel_brings_one_top_level_package(archives: tuple[list[str], list[str]]) -> None:
    top_level = {name.split("/")[0] for name in archives[0]}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"bench"}
