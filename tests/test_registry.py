"""Plugins are found by file name, and a broken one never stops the others."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import bench
from bench.errors import BadPlugin, BadRequest, UnknownName
from bench.plugin_file import FOLDERS, plugin_name
from bench.registry import Registry

PROTOCOL = '''
"""A protocol of a test: {doc}."""

from bench.protocol import Protocol


class Toy(Protocol):
    display_name = "Toy"

    def conditions(self, dataset, setting):
        return []


PLUGIN = Toy
'''


def write(path: Path, text: str = PROTOCOL, doc: str = "nothing") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).lstrip().replace("{doc}", doc))
    return path


def python(code: str, folder: Path, **environment: str) -> str:
    """Run code in a fresh interpreter whose import path begins with `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_file_of_the_built_in_folders_is_a_plugin_under_its_own_name() -> None:
    registry = Registry()
    for kind, folder in FOLDERS.items():
        files = Path(bench.__file__).parent.joinpath(folder).glob("[!_]*.py")
        assert registry.names(kind) == sorted(plugin_name(path) for path in files)


def test_a_built_in_plugin_is_imported_through_the_package() -> None:
    plugin = Registry().load("protocol", "all-subsets")
    assert plugin.__module__ == "bench.protocols.all_subsets"
    assert plugin.name == "all-subsets"


def test_an_unknown_name_brings_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match=r"no protocol is named 'all-subset'; did you mean all-s"):
        Registry().find("protocol", "all-subset")


def test_finding_and_scanning_import_no_plugin_no_torch_and_no_pydantic() -> None:
    code = """
        import sys
        from bench.registry import Registry
        registry = Registry()
        registry.find("protocol", "all-subsets")
        registry.scan()
        heavy = {"torch", "pydantic", "numpy", "bench.protocols.all_subsets"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert python(code, Path(bench.__file__).parents[1]) == "[]"


def test_an_included_file_is_found_by_the_class_that_plugin_names(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path / "two_holes.py", doc="two gaps")])
    found = registry.find("protocol", "two-holes")
    assert (found.source, found.path) == ("include", tmp_path / "two_holes.py")
    listing = next(each for each in registry.scan("protocol") if each.name == "two-holes")
    assert listing.doc == "A protocol of a test: two gaps."
    assert listing.problem == ""
    assert registry.load("protocol", "two-holes").name == "two-holes"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("from bench.method import Method as Base\nclass A(Base): ...", "method"),
        ("import bench.method as m\nclass A(m.ShallowMethod): ...", "method"),
        ("from bench.dataset import DatasetPlugin\nclass A(DatasetPlugin): ...", "dataset"),
        ("from bench.report import Report\nclass Base(Report): ...\nclass A(Base): ...", "report"),
        (
            "from bench.protocols.all_subsets import AllSubsets\nclass A(AllSubsets): ...",
            "protocol",
        ),
    ],
)
def test_the_kind_is_told_without_importing(tmp_path: Path, line: str, kind: str) -> None:
    registry = Registry([write(tmp_path / "mine.py", f"raise SystemExit\n{line}\nPLUGIN = A\n")])
    assert [each.kind for each in registry.scan() if each.name == "mine"] == [kind]


def test_the_kind_is_told_through_a_neighbours_file(tmp_path: Path) -> None:
    write(tmp_path / "_base.py", "from bench.method import Method\nclass Base(Method): ...\n")
    text = "from ._base import Base as B\nclass A(B): ...\nPLUGIN = A\n"
    registry = Registry([write(tmp_path / "mine.py", text)])
    assert registry.find("method", "mine").source == "include"


@pytest.mark.parametrize("line", ["from .mine import A\nclass B(A): ...", "from .mine import B"])
def test_a_circle_of_classes_has_no_kind(tmp_path: Path, line: str) -> None:
    write(tmp_path / "other.py", line + "\nPLUGIN = B\n")
    text = "from .other import B\nclass A(B): ...\nPLUGIN = A\n"
    registry = Registry([write(tmp_path / "mine.py", text)])
    assert [each.kind for each in registry.scan() if each.name == "mine"] == [None]


def test_a_file_of_no_known_kind_is_listed_with_the_reason(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path / "mine.py", "class A: ...\nPLUGIN = A\n")])
    (listing,) = [each for each in registry.scan() if each.kind is None]
    assert listing.problem.startswith("its kind cannot be told: PLUGIN must name a class derived")
    with pytest.raises(BadPlugin, match=r"mine \(.*mine\.py\): its kind cannot be told"):
        registry.find("method", "mine")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\ny =\n", "syntax error, line 2: invalid syntax"),
        ("x = 1\n", "no PLUGIN at the end"),
        ("x = '\0'\n", "syntax error|cannot be read"),
    ],
)
def test_a_scan_names_the_fault_of_a_file(tmp_path: Path, text: str, problem: str) -> None:
    registry = Registry([write(tmp_path / "mine.py", text), write(tmp_path / "good.py")])
    (listing,) = [each for each in registry.scan() if each.kind is None]
    assert any(each in listing.problem for each in problem.split("|"))
    assert registry.load("protocol", "good").name == "good"


def test_in_an_included_folder_tests_and_private_files_are_no_plugins(tmp_path: Path) -> None:
    for name in ("mine.py", "_layers.py", "test_mine.py", "conftest.py", "notes.txt"):
        write(tmp_path / name)
    names = {each.name for each in Registry([tmp_path]).scan() if each.source == "include"}
    assert names == {"mine"}


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "_layers.py", f"WHERE = {folder!r}\n")
        text = "from ._layers import WHERE\n" + PROTOCOL.replace('"Toy"', "WHERE")
        write(tmp_path / folder / f"from_{folder}.py", text)
    registry = Registry([tmp_path / "a", tmp_path / "b"])
    assert registry.load("protocol", "from-a").display_name == "a"
    assert registry.load("protocol", "from-b").display_name == "b"


def test_an_included_class_can_be_pickled_by_name(tmp_path: Path) -> None:
    plugin = Registry([write(tmp_path / "mine.py")]).load("protocol", "mine")
    assert pickle.loads(pickle.dumps(plugin)) is plugin
    assert Registry([tmp_path]).load("protocol", "mine") is plugin


def test_the_name_of_a_built_in_needs_override(tmp_path: Path) -> None:
    path = write(tmp_path / "all_subsets.py")
    with pytest.raises(BadPlugin, match=r"two plugins have this name, the built-in one .*override"):
        Registry([path]).find("protocol", "all-subsets")
    assert Registry([path], override=True).find("protocol", "all-subsets").path == path


def test_two_included_files_of_one_name_need_override(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "mine.py", doc=folder) for folder in ("a", "b")]
    with pytest.raises(BadPlugin, match="two plugins have this name, the include one"):
        Registry(paths).load("protocol", "mine")
    assert Registry(paths, override=True).find("protocol", "mine").path == paths[1]


def test_a_clash_stops_no_other_plugin(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path / "all_subsets.py"), write(tmp_path / "mine.py")])
    problems = {each.name: each.problem for each in registry.check("protocol")}
    assert problems["mine"] == ""
    assert "two plugins" in problems["all-subsets"]


def test_a_file_given_twice_is_one_plugin(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    assert Registry([path, tmp_path]).find("protocol", "mine").problem == ""


def test_including_a_built_in_folder_changes_nothing() -> None:
    folder = Path(bench.__file__).parents[1] / "protocols"
    assert Registry([folder]).find("protocol", "all-subsets").source == "built-in"


def test_a_failing_import_gives_one_line_with_file_line_and_reason(tmp_path: Path) -> None:
    text = PROTOCOL.replace("class Toy", "LAW = {}['absent']\n\n\nclass Toy")
    with pytest.raises(BadPlugin) as caught:
        Registry([write(tmp_path / "mine.py", text)]).load("protocol", "mine")
    line = f"protocol mine cannot be imported ({tmp_path / 'mine.py'}:6): KeyError: 'absent'"
    assert str(caught.value) == line


def test_a_plugin_that_exits_while_it_is_imported_does_not_end_the_process(tmp_path: Path) -> None:
    registry = Registry([write(tmp_path / "mine.py", "import sys\nsys.exit(3)\n" + PROTOCOL)])
    with pytest.raises(BadPlugin, match=r"mine\.py:2\): SystemExit: 3"):
        registry.load("protocol", "mine")


def test_check_records_why_each_plugin_fails_and_goes_on(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.py", "import a_package_that_is_absent\n" + PROTOCOL)
    listings = Registry([bad, write(tmp_path / "good.py")]).check("protocol")
    problems = {each.name: each.problem for each in listings}
    assert "ModuleNotFoundError: No module named 'a_package_that_is_absent'" in problems["bad"]
    assert problems["good"] == ""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('display_name = "Toy"', 'name = "yours"', "its name is 'yours' but its file gives 'mine'"),
        ("def conditions", "def states", "Toy must define conditions"),
        (
            "PLUGIN = Toy",
            "PLUGIN = Toy\nglobals()['PLUGIN'] = Toy()",
            "PLUGIN must be a class derived from P",
        ),
    ],
)
def test_what_is_not_a_complete_plugin_is_refused(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    path = write(tmp_path / "mine.py", PROTOCOL.replace(old, new))
    with pytest.raises(BadPlugin, match=rf"protocol mine \(.*mine\.py\): .*{problem}"):
        Registry([path]).load("protocol", "mine")


def test_a_path_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no file or folder to include is named"):
        Registry([tmp_path / "mine.py"])


@pytest.mark.parametrize("name", ["mine.txt", "_mine.py"])
def test_a_file_that_cannot_be_a_plugin_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot be included; name a folder, a file that ends"):
        Registry([write(tmp_path / name)])


def test_an_installed_package_brings_plugins_by_entry_points(tmp_path: Path) -> None:
    write(tmp_path / "toys" / "__init__.py", "raise RuntimeError('imported too early')\n")
    write(tmp_path / "toys" / "holes.py")
    write(tmp_path / "plain_toy.py")
    write(
        tmp_path / "toys-1.0.dist-info" / "entry_points.txt",
        """
        [bench.protocols]
        broken-holes = toys.holes:Toy
        plain_toy = plain_toy
        gone = a_package_that_is_absent.holes:Toy
        """,
    )
    write(tmp_path / "toys-1.0.dist-info" / "METADATA", "Name: toys\nVersion: 1.0\n")
    code = f"""
        import sys
        sys.path.append({str(tmp_path)!r})
        from bench.registry import Registry
        registry = Registry()
        for each in registry.scan("protocol"):
            if each.source == "entry point":
                print(each.name, each.path.name, each.problem, sep="|")
        print("toys" in sys.modules)
        print(registry.load("protocol", "plain-toy").name)
        print(*(each.problem for each in registry.check("protocol") if "holes" in each.name))
    """
    root = Path(bench.__file__).parents[1]
    assert python(code, root, PYTHONDONTWRITEBYTECODE="1").splitlines() == [
        "broken-holes|holes.py|",
        "gone|a_package_that_is_absent.holes|"
        "no Python file of the module 'a_package_that_is_absent.holes' is installed",
        "plain-toy|plain_toy.py|",
        "False",
        "plain-toy",
        f"protocol broken-holes cannot be imported ({tmp_path / 'toys' / 'holes.py'}): "
        "RuntimeError: imported too early",
    ]


def test_a_checkout_without_links_gets_one_clear_line(tmp_path: Path) -> None:
    package = Path(bench.__file__).parent
    copy = tmp_path / "bench"
    copy.mkdir()
    for name in ("__init__.py", "errors.py", "plugin_faults.py", "plugin_file.py", "registry.py"):
        shutil.copy(package / name, copy)
    for folder in FOLDERS.values():  # what git writes where it must not make links
        (copy / folder).write_text(f"../{folder}")
    code = """
        from bench.errors import BadPlugin
        from bench.registry import Registry
        try:
            Registry().names("method")
        except BadPlugin as error:
            print(error)
    """
    assert python(code, tmp_path) == (
        "bench/methods is not a link to the folder methods; "
        "clone with core.symlinks=true (git clone -c core.symlinks=true ...)"
    )
