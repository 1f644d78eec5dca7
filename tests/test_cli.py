"""The command line: a wrong request is one line and exit code 2; help and lists cost no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image

import bench
from bench.plugin_file import plugin_name
from bench.scores.contest import TESTS
from bench.statistics.multiplicity import Correction
from tests.command_line import PLUGINS, call, included

ROOT = PLUGINS.parents[1]
TOY = (*included("toy_release"), "--dataset", "toy-release")
QUICK = ("--folds", "0", "--set", "recipe.epochs=1", "--quiet")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write the files of the toy release."""
    root = tmp_path / "toy-release"
    (root / "pictures").mkdir(parents=True)
    lines = ["case,label,age"]
    for case in range(30):
        lines.append(f"c{case},{'malignant' if case % 2 else 'benign'},{40 + case}")
        Image.new("L", (8, 8), 8 * case).save(root / "pictures" / f"c{case}.png")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    return root


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a wrong request and return the one line that it gives."""
    code = call(*arguments)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("bench: ")
    return err.removeprefix("bench: ").rstrip("\n")


RUN = ("run", "-m", "concat")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "-m", "concta"), "no method is named 'concta'; did you mean concat?"),
        ((*RUN, "-m", "concat:dropuot"), "no preset of concat is named 'dropuot'; did you mean dr"),
        ((*RUN, "-d", "wbdc"), "no dataset is named 'wbdc'; did you mean wdbc?"),
        ((*RUN, "-p", "all-subset"), "no protocol is named 'all-subset'; did you mean all-subsets"),
        ((*RUN, "--preset", "papre"), "no preset is named 'papre'; did you mean paper?"),
        (
            (*RUN, "--set", "concta.fill=zero"),
            "no section of settings in this study is named 'conct",
        ),
        ((*RUN, "--set", "recpie.epochs=1"), "did you mean recipe?"),
        ((*RUN, "--set", "recipe.epoch=1"), "is named 'epoch'; did you mean epochs?"),
        ((*RUN, "--set", "concat.fil=zero"), "is named 'fil'; did you mean fill?"),
        ((*RUN, "--set", "concat.fill=ones"), "concat.fill: input should be 'zero', "),
        ((*RUN, "--set", "recipe.epochs=ten"), "got 'ten'; see `bench info recipe`"),
        ((*RUN, "--set", "recipe.epochs=0"), "should be greater than or equal to 1, got 0"),
        ((*RUN, "--set", "recipe.epochs"), "--set wants SECTION.KEY=VALUE, got 'recipe.epochs'"),
        ((*RUN, "--set", "recipe.lr=[1"), "--set recipe.lr: '[1' is not a YAML value"),
        ((*RUN, "--set", "recipe.lr=2020-13-45"), "is not a YAML value"),
        ((*RUN, "--folds", "0-"), "--folds wants numbers such as 0-4 or 0,2, got '0-'"),
        ((*RUN, "--folds", "3-1"), "--folds names no number"),
        ((*RUN, "--folds", "5"), "asks for fold 5, but wdbc has 5 folds (0-4)"),
        ((*RUN, "--n-folds", "0"), "n_folds: input should be greater than or equal to 1, got 0"),
        ((*RUN, "--n-folds", "1"), "wdbc has no official fixed split"),
        ((*RUN, "--seeds", "one"), "--seeds wants numbers such as 0-4 or 0,2, got 'one'"),
        ((*RUN, "--jobs", "0"), "--jobs wants a number from 1 on, got 0"),
        ((*RUN, "--jobs", "two"), "invalid value for '--jobs'"),
        ((*RUN, "--limit", "0"), "--limit wants a number of runs from 1 on, got 0"),
        ((*RUN, "--format", "html"), "--format wants one of markdown, latex, csv, got 'html'"),
        ((*RUN, "--precision", "f16"), "precision: input should be 'auto', 'float32' or 'bf16'"),
        ((*RUN, "--device", "tpu"), "device: input should be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ((*RUN, "--threads", "0"), "threads: input should be greater than or equal to 1, got 0"),
        ((*RUN, "--study", "../x"), "a study's name is made of letters, digits"),
        ((*RUN, "--split", "site"), "--split wants leave-one-group-out=COLUMN, got 'site'"),
        ((*RUN, "--rates", "0,x"), "--rates wants numbers such as 0,0.1,0.3, got '0,x'"),
        ((*RUN, "-p", "c-tr+m-te", "--rates", "1.5"), "c-tr+m-te.rates: a rate is a share"),
        ((*RUN, "--include", "absent.py"), "no file or folder to include is named "),
        ((*RUN, "--config", "absent.yaml"), "the configuration absent.yaml cannot be read"),
        ((*RUN, "--config", "cmml-dir"), "named 'cmml-dir'; did you mean cmml-odir?"),
        ((*RUN, "--preset", "cmml-odir"), "cmml-odir is a whole study and not a budget for others"),
        (("run", "--config", "cmml-men"), "no dataset is named 'men'"),
        (
            (*RUN, "--rates", "0.1"),
            "--rates means nothing to the protocols asked for (all-subsets)",
        ),
        ((*RUN, "-p", "natural", "--given", "x"), "--given means nothing to the protocols asked"),
        ((*RUN, "--level", "modalty"), "all-subsets.level: input should be 'modality' or"),
        ((*RUN, "--train-rate", "2"), "all-subsets.train_rate: input should be less than 1"),
        ((*RUN, "--split", "leave-one-group-out=site"), "no column of wdbc to split by is named"),
        (("run", "concat"), "got unexpected extra argument (concat)"),
        (("run",), "no method is asked for; name one with --method"),
        (("run", "--metod", "concat"), "--method"),
        (("run", "-m"), "option '-m' requires an argument"),
        (("runn",), "no such command 'runn'; did you mean 'run'? see --help"),
        (("info",), "missing argument 'NAME'"),
        (("info", "cmm"), "no plugin is named 'cmm'; did you mean cmml?"),
        (("list", "method-s"), "no kind of plugin is named 'method-s'; did you mean methods?"),
        (("test", "concta"), "no method is named 'concta'; did you mean concat?"),
        (("test", "absent.py"), "no plugin file is at 'absent.py'"),
        (("prepare", "wbdc"), "no dataset is named 'wbdc'; did you mean wdbc?"),
        (("prepare", "busbra"), "busbra is read from files and no folder was given"),
        (("prepare", "wdbc", "--set", "wbdc.x=1"), "is named 'wbdc'; did you mean wdbc?"),
        (("cite", "cmm"), "no method or dataset is named 'cmm'; did you mean cmml?"),
        (("complexity", "-m", "concta"), "no method is named 'concta'; did you mean concat?"),
        (("complexity", "--replay", "table5"), "is named 'table5'; did you mean table4?"),
        (("complexity", "-m", "concat", "--batch", "0"), "--batch wants a number from 1 on, got 0"),
        (("new", "protocol", "x"), "`bench new` writes a method or a dataset, got 'protocol'"),
        (("new", "dataset", "absent"), "no folder is at 'absent'; name the folder of your data"),
        (("new", "method", "concat"), "a method is named 'concat' already"),
        (("status", "--study", "absent"), "no study is at results/absent"),
        (("table", "--study", "absent"), "no study is at results/absent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_request_is_one_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no CUDA device; use --device cpu or auto" in refused(
        capsys, *RUN, "--device", "cuda"
    )


def test_a_refused_request_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    refused(capsys, "run", "-m", "concta")
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, *RUN, "-d", "busbra", "--data-root", str(tmp_path))
    assert f"busbra: 5 of 5 needed files are not in {tmp_path}: bus_data.csv, 5-fold-cv.csv" in said
    assert "set --data-root or BENCH_DATA_DIR" in refused(capsys, *RUN, "-d", "busbra")


def test_a_missing_column_is_named(capsys: pytest.CaptureFixture[str], release: Path) -> None:
    table = release / "cases.csv"
    table.write_text(table.read_text().replace("label", "finding"))
    said = refused(capsys, *RUN, *TOY, "--data-root", str(release))
    assert "cases.csv: column label is missing; the file has case, finding, age" in said


def test_an_unknown_label_is_named_with_its_line(
    capsys: pytest.CaptureFixture[str], release: Path
) -> None:
    table = release / "cases.csv"
    table.write_text(table.read_text().replace("c3,malignant", "c3,malign"))
    said = refused(capsys, *RUN, *TOY, "--data-root", str(release))
    assert said == "cases.csv, line 5: label is 'malign'; it must be one of benign, malignant"


def test_a_truncated_picture_is_named_though_it_is_met_inside_a_run(
    capsys: pytest.CaptureFixture[str], release: Path
) -> None:
    picture = release / "pictures" / "c3.png"
    picture.write_bytes(picture.read_bytes()[:40])
    said = refused(capsys, *RUN, *TOY, "--data-root", str(release), *QUICK)
    assert f"{picture}: not a readable picture" in said


def test_a_results_folder_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "results").write_text("a file\n")
    said = refused(capsys, *RUN, *QUICK)
    assert "cannot write 'results/main'" in said
    assert "name another folder with --out" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: [concat\nseeds: 0\n", "study.yaml is not YAML at line 2; mend that line"),
        ("- concat\n", "study.yaml is a list, not a mapping"),
        ("method: concat\nepochs: 3\n", "no setting of run is named 'epochs'; "),
        ("method: concat\ndata_rot: x\n", "is named 'data_rot'; did you mean data_root?"),
        ("method: concat\n3: 4\n", "no setting of run is named '3'"),
        ("method: concat\nmethods: {concat: {fil: zero}}\n", "'fil'; did you mean fill?"),
        ("method: concat\nmethods: [concat]\n", "section 'methods' of the configuration is not"),
        ("method: concat\nmethods: {concat: zero}\n", "methods.concat of the configuration is not"),
        ("method: concat\nrecipe: {epoch: 3}\n", "is named 'epoch'; did you mean epochs?"),
        ("method: 3\n", "methods: input should be a valid tuple, got 3; see `bench run --help`"),
        ("method: concat\nseeds: 2020-13-45\n", "is not YAML"),
    ],
)
def test_a_wrong_configuration_file_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "study.yaml").write_text(text)
    assert said in refused(capsys, "run", "--config", "study.yaml")


def test_a_file_says_what_the_flags_leave_open(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(
        "method: concat\nfolds: 1-2\nfloor: false\nstudy: mine\nout: elsewhere\n"
        "recipe: {epochs: 1}\nmethods: {concat: {dropout: none}}\n"
    )
    assert call("run", "--config", "study.yaml", "--folds", "2", "--quiet") == 0
    runs = sorted(path.name for path in (tmp_path / "elsewhere" / "mine" / "runs").iterdir())
    assert [name.rpartition("-")[0] for name in runs] == [
        "concat+dropout-wdbc-complete-f2s0",
        "concat-wdbc-complete-f2s0",
    ]
    assert "recipe.epochs=1" in " ".join(capsys.readouterr().out.split())


def test_a_broken_plugin_of_the_user_leaves_the_others_usable(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "torn.py").write_text("def half(:\n")
    (tmp_path / "absent_import.py").write_text(
        "from bench.method import Method\nimport nothing_of_this_name\n\n\n"
        "class Mine(Method):\n    pass\n\n\nPLUGIN = Mine\n"
    )
    include = ("--include", str(tmp_path))
    assert call("list", "--check", *include) == 0
    out = capsys.readouterr().out
    assert "torn [include]" in out
    assert "BROKEN: syntax error, line 1" in out
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in out
    assert call("run", "-m", "pattern-only", "--folds", "0", *include, "--quiet") == 0
    assert "| pattern-only " in capsys.readouterr().out
    said = refused(capsys, "run", "-m", "absent-import", *include)
    assert "method absent-import cannot be imported (absent_import.py:2)" in said
    assert "syntax error, line 1" in refused(capsys, "run", "-m", "torn", *include)


def test_the_list_of_commands_cuts_no_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("--help") == 0
    out = capsys.readouterr().out
    assert "..." not in out.partition("Commands:")[2]
    assert "130 interrupted" in " ".join(out.split())


def test_help_names_every_test_and_correction(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("table", "--help") == 0
    words = re.findall(r"[\w-]+", capsys.readouterr().out)
    assert {*TESTS, *get_args(Correction), "auto", "none"} <= set(words)


def test_version_and_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"bench {bench.__version__}\n"
    for arguments in [(), ("--help",)]:
        assert call(*arguments) == 0
        out = capsys.readouterr().out
        assert "Usage:" in out
        assert all(
            name in out for name in ("run", "list", "info", "test", "new", "status", "table")
        )


def test_list_names_every_plugin_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    out = capsys.readouterr().out
    for kind in ("methods", "datasets", "protocols", "reports", "executors"):
        assert f"{kind}\n" in out
        for path in (ROOT / kind).glob("[!_]*.py"):
            assert f"  {plugin_name(path)} " in out
    assert "BROKEN" not in out
    assert call("list", "datasets", "--check") == 0
    assert capsys.readouterr().out.splitlines()[0] == "datasets"


def test_info_prints_source_settings_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", "cmml") == 0
    out = capsys.readouterr().out
    assert "cmml: method, built-in" in out
    for part in ("source: ", "modality dropout: ", "limits: ", "ablations", "--set cmml.KEY=VALUE"):
        assert part in out
    assert call("info", "wdbc") == 0
    out = capsys.readouterr().out
    for part in ("wdbc: dataset, built-in", "citation: ", "licence: ", "folds: 5, seeds: 0"):
        assert part in out
    assert call("info", "recipe") == 0
    assert "warmup_epochs" in capsys.readouterr().out
    assert call("info", "augment") == 0
    out = capsys.readouterr().out
    assert "--set encoder.augment='{KEY: VALUE, ...}'" in out
    assert "  p_h_flip" in out


@pytest.mark.parametrize(
    ("settings", "warned"),
    [((), False), (("frozen=true",), True), (("frozen=true", "weights=some.pt"), False)],
)
def test_a_plan_warns_of_a_frozen_encoder_that_learned_nothing(
    capsys: pytest.CaptureFixture[str], settings: tuple[str, ...], warned: bool
) -> None:
    asked = [f"--set=encoder.{each}" for each in settings]
    assert call("plan", "-m", "concat", "-d", "digits", "--folds", "0", *asked) == 0
    out = capsys.readouterr().out
    assert out.count("warning: the encoder of pictures, resnet10t, is frozen with ran") == warned


def test_a_run_warns_of_a_frozen_encoder_that_learned_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["run", "-m", "concat:dropout", "--no-floor", "--folds", "0", "--limit", "1"]
    asked += ["--set", "recipe.epochs=1", "--set", "encoder.frozen=true"]
    assert call(*asked) == 0
    assert capsys.readouterr().err.count("warning: the encoder of pictures") == 1


def test_a_new_method_keeps_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "method", "my-method") == 0
    assert capsys.readouterr().out.splitlines() == ["my_method.py", "test_my_method.py"]
    assert call("test", "my_method.py") == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert out.splitlines()[-1] == "my-method: 11 of 11 promises kept"


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_a_plan_prints_the_runs_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    asked = ("-m", "concat", "--seeds", "0-1", "--folds", "0", "--no-floor", "--limit", "3")
    assert call(*command, *asked) == 0
    words, header, *rows, total = capsys.readouterr().out.splitlines()
    assert words.startswith("all-subsets: ")
    assert header.split() == ["run", "conditions", "state"]
    assert [row.split()[0].rpartition("-")[0] for row in rows] == [
        "concat-wdbc-complete-f0s0",
        "concat+dropout-wdbc-complete-f0s0",
        "concat-wdbc-complete-f0s1",
    ]
    assert all(row.split()[1:] == ["7", "to", "do"] for row in rows)
    assert total.startswith("3 runs, 3 to do; ")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_counts_failed_runs_among_those_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    asked = (*included("explodes"), "-m", "explodes", "-m", "pattern-only", "--no-floor")
    assert call("run", *asked, "--folds", "0", "--quiet") == 1
    capsys.readouterr()
    assert call("plan", *asked, "--folds", "0") == 0
    _, _, failed, done, total = capsys.readouterr().out.splitlines()
    assert failed.endswith("7           to do (failed: RuntimeError: the toy gives up)")
    assert done.endswith("7           done")
    assert total.startswith("2 runs, 1 to do; ")


def test_a_finished_study_is_listed_and_printed_in_every_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("run", "-m", "pattern-only", "--no-floor", "--folds", "0") == 0
    out, err = capsys.readouterr()
    assert out.startswith("### wdbc")
    assert err == "1 run carried out, 0 found finished; predictions are in results/main\n"
    assert call("status") == 0
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith("pattern-only-wdbc-complete-f0s0-")
    assert line.endswith("done")
    assert total == "1 done"
    for format_, part in [
        ("markdown", "| pattern-only |"),
        ("latex", "\\begin{table"),
        ("csv", ",012,mean+se+worst,AUC,%,50.0,"),
    ]:
        assert call("table", "--format", format_) == 0
        assert part in capsys.readouterr().out
    assert "--format wants one of" in refused(capsys, "table", "--format", "html")


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m bench list | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "methods\n", "")


HEAVY = ["torch", "numpy", "pandas", "sklearn", "yaml"]


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["--help"], [*HEAVY, "pydantic"]),
        (["run", "--help"], HEAVY),
        (["list"], HEAVY),
    ],
    ids=lambda value: " ".join(value),
)
def test_help_and_list_import_nothing_heavy(arguments: list[str], spared: list[str]) -> None:
    script = (
        "import sys\nfrom bench.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print(sorted(set({spared!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
