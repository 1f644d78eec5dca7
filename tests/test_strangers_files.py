"""Files that come from elsewhere: nothing in them is run, and none of them fills the memory."""

from __future__ import annotations

import ast
import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.dataset import read_arrays, read_table
from bench.errors import BadData, BenchError
from bench.request import read_yaml
from tests.command_line import call
from tests.test_floors import ROOT, source_files

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
UNPACKERS = {"extractall", "unpack_archive"}
# Calls that would unpickle, or run what they read, unless they are told not to.
WANTED = {
    "np.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
    "np.savez": ("allow_pickle", False),
    "np.savez_compressed": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
    "AutoModel.from_pretrained": ("trust_remote_code", False),
    "AutoTokenizer.from_pretrained": ("trust_remote_code", False),
}
FILES = [*source_files(), *(ROOT / "benchmarks").glob("*.py")]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(text: str) -> list[str]:
    """List what a source file does that could run what a stranger's file holds."""
    tree = ast.parse(text)
    found = [
        f"imports {alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in UNPICKLERS
    ]
    found += [
        f"imports {node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS
    ]
    for name, call_ in calls(tree):
        given_ = {each.arg: ast.unparse(each.value) for each in call_.keywords}
        last = name.rpartition(".")[2]
        if name in WANTED and given_.get(WANTED[name][0]) != str(WANTED[name][1]):
            found.append(f"{name} without {WANTED[name][0]}={WANTED[name][1]}")
        if name in RUNNERS or last in UNPACKERS or last == "read_pickle" or name == "os.system":
            found.append(name)
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all") and (
            given_.get("Loader") not in ("yaml.BaseLoader", "yaml.SafeLoader")
        ):
            found.append(f"{name} without a safe loader")
        if given_.get("shell") == "True":
            found.append(f"{name} through a shell")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_ours_unpickles_or_runs_what_it_reads(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "archive.extractall(place)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name)",
    ],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert len(faults(text)) == 1


def bomb(path: Path) -> None:
    """Write an archive of a kilobyte whose only array claims a terabyte."""
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**37,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("genes.npy", header.getvalue() + bytes(2**16))


def test_an_array_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    bomb(tmp_path / "x.npz")
    with pytest.raises(BadData, match=r"x\.npz: no readable \.npz"):
        read_arrays(tmp_path / "x.npz", {"genes": (-1,)})


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", genes=np.zeros(2**20))
    assert (tmp_path / "x.npz").stat().st_size < 2**15
    monkeypatch.setattr("bench.dataset.arrays.MAX_ARRAY_BYTES", 2**20)
    with pytest.raises(BadData, match="the archive has 8388736 bytes, unpacked, and the limit is"):
        read_arrays(tmp_path / "x.npz", {"genes": (-1,)})


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", genes=np.array([Path("x")], dtype=object))
    with pytest.raises(BadData, match="with objects"):
        read_arrays(tmp_path / "x.npz", {"genes": (-1,)})


def test_a_configuration_cannot_make_objects(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("study: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(BenchError, match="is not YAML at line 1"):
        read_yaml(tmp_path / "c.yaml")


def test_the_help_says_that_included_files_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--help") == 0
    assert "runs its code" in " ".join(capsys.readouterr().out.split())


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_one_clear_fault(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "cases.csv"
    path.write_bytes(content)
    with contextlib.suppress(BadData):
        assert len(read_table(path, ())) > 0
