"""Study and run folders: states, whole writes, stored predictions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import BadData, BadRequest
from bench.files import atomic_path, atomic_write
from bench.liveness import birth, is_alive
from bench.spec import EncoderConfig, Recipe, RunSpec
from bench.store import RunFolder, StudyFolder

HOST = os.uname().nodename


def spec(**changes: object) -> RunSpec:
    values: dict[str, Any] = {
        "method": "concat",
        "preset": "dropout",
        "method_config": {"p_drop": 0.5},
        "dataset": "toy",
        "dataset_config": {},
        "encoder": EncoderConfig.model_validate({}),
        "recipe": Recipe.model_validate({}),
        "setting": {"name": "complete"},
        "fold": 0,
        "n_folds": 1,
        "seed": 3,
        "selection": "all-subsets",
        "precision": "float32",
        "fingerprint": "f",
        "split": "s",
        "pattern": "p",
        "sources": "c",
    }
    return RunSpec(**{**values, **changes})


def frame(*conditions: str, cases: tuple[str, ...] = ("b", "a")) -> pd.DataFrame:
    rows = [(case, condition) for condition in conditions for case in cases]
    predictions = pd.DataFrame(rows, columns=["case", "condition"])
    predictions["label"] = np.arange(len(rows)) % 2
    predictions["p_0"] = 0.25
    predictions["p_1"] = 0.75
    return predictions


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = StudyFolder(tmp_path, "main").run(spec())
    folder.begin(spec(), {"python": "3.11"})
    return folder


def test_a_run_passes_from_pending_through_running_to_done(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "main").create().run(spec())
    states = [folder.state]
    folder.begin(spec(), {})
    states.append(folder.state)
    assert folder.status()["pid"] == os.getpid()
    folder.finish(dropout_law="none")
    states.append(folder.state)
    assert folder.reason() == ""
    assert states == ["pending", "running", "done"]
    assert folder.status()["dropout_law"] == "none"
    assert not folder.path_of("running.json").exists()


def test_the_folder_is_named_after_the_run_and_ends_with_its_identity(run: RunFolder) -> None:
    assert run.path.name == f"concat+dropout-toy-complete-f0s3-{spec().identity}"
    assert run.identity == spec().identity
    assert RunSpec(**run.spec()) == spec()


def test_failures_and_skips_are_data(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path, "main")
    failed, skipped = study.run(spec(seed=0)), study.run(spec(seed=1))
    failed.begin(spec(seed=0), {})
    failed.fail("the loss is not finite", "Traceback ...")
    skipped.begin(spec(seed=1), {})
    skipped.skip("takes two modalities at most")
    assert failed.reason() == "the loss is not finite"
    assert failed.status()["traceback"] == "Traceback ..."
    assert skipped.reason() == "takes two modalities at most"
    assert [folder.state for folder in study.runs()] == ["failed", "skipped"]


def test_begin_clears_what_an_unfinished_attempt_left(run: RunFolder) -> None:
    run.append_history({"epoch": 0})
    run.write_predictions(frame("0"))
    run.path_of(".checkpoint.1-ab.tmp.pt").write_bytes(b"half")
    run.path_of("cache").mkdir()
    run.fail("broken", "")
    run.begin(spec(), {})
    names = {path.name for path in run.path.iterdir()}
    assert names == {"spec.json", "environment.json", "running.json"}
    assert run.state == "running"


def test_a_finished_run_never_changes(run: RunFolder) -> None:
    run.write_predictions(frame("0"))
    run.finish()
    for change in (
        lambda: run.begin(spec(), {}),
        lambda: run.write_json("facts.json", {}),
        lambda: run.write_predictions(frame("1")),
        lambda: run.write_availability(frame("1")),
        lambda: run.fail("late", ""),
    ):
        with pytest.raises(ValueError, match="never changes"):
            change()
    assert run.state == "done"
    assert not run.path_of("running.json").exists()
    assert list(run.predictions()["condition"]) == ["0", "0"]


def test_the_mark_of_a_dead_process_reads_as_pending(run: RunFolder) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    mark = run.read_json("running.json")
    run.path_of("running.json").write_text(json.dumps(mark | {"pid": child.pid, "born": 1}))
    assert run.state == "pending"
    run.begin(spec(), {})
    assert run.status()["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"host": "a"}', b"\xff"])
def test_a_damaged_mark_of_work_is_of_nobody_and_taken_over(tmp_path: Path, content: bytes) -> None:
    run = StudyFolder(tmp_path, "main").run(spec())
    run.begin(spec(), {})
    run.path_of("running.json").write_bytes(content)
    again = StudyFolder(tmp_path, "main").run(spec())
    assert again.status() == {"state": "pending"}
    again.begin(spec(), {})
    again.skip("for a reason")
    assert again.reason() == "for a reason"
    assert not [path for path in run.path.iterdir() if path.name.startswith((".", "running"))]


def test_what_is_done_lies_on_the_disk_before_it_is_said(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        steps.append(f"-> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    run.write_predictions(frame("0"))
    assert steps == ["-> predictions.parquet"]
    run.finish(conditions=["0"])
    written = steps.index("-> status.json")
    flushed = steps[1:written]  # in no order: all at once
    assert {"spec.json", "environment.json", "predictions.parquet"} <= set(flushed)
    assert any(name.startswith(".status.") for name in flushed)
    assert steps[written + 1 :] == [run.path.name]
    steps.clear()
    run.add_predictions(frame("01"), {"01": "a+b"})
    assert steps[0].startswith(".predictions.")
    assert steps[1] == "-> predictions.parquet"


def test_a_number_that_a_later_process_took_over_reads_as_dead() -> None:
    born = birth(os.getpid())
    if born is None:
        pytest.skip("this system does not tell when a process was born")
    assert is_alive(os.getpid(), HOST, born)
    assert is_alive(os.getpid(), HOST)
    assert not is_alive(os.getpid(), HOST, born - 1)


def test_a_process_that_ended_but_is_not_collected_reads_as_dead() -> None:
    if birth(os.getpid()) is None:
        pytest.skip("this system does not tell the state of a process")
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.read()
    while birth(child.pid) != 0:
        pass
    assert not is_alive(child.pid, HOST)
    child.wait()


@pytest.mark.parametrize(
    ("beat", "state"), [("2000-01-01T00:00:00+00:00", "pending"), (None, "running")]
)
def test_another_host_is_alive_as_long_as_it_beats(
    run: RunFolder, beat: str | None, state: str
) -> None:
    mark = run.read_json("running.json")
    mark |= {"host": "elsewhere", "beat": beat or mark["beat"]}
    run.path_of("running.json").write_text(json.dumps(mark))
    assert run.state == state


def test_a_folder_has_one_writer(run: RunFolder) -> None:
    mark = run.read_json("running.json") | {"host": "elsewhere"}
    run.path_of("running.json").write_text(json.dumps(mark))
    with pytest.raises(BadRequest, match=r"at work in process \d+ on elsewhere"):
        RunFolder(run.path).begin(spec(), {})
    assert run.spec() == spec().model_dump(mode="json")


def test_the_heartbeat_carries_progress_and_is_written_now_and_then(run: RunFolder) -> None:
    run.heartbeat(epoch=1)
    run.heartbeat(epoch=2)
    assert run.status()["epoch"] == 1
    assert run.status()["pid"] == os.getpid()


def test_a_released_run_is_pending(run: RunFolder) -> None:
    run.release()
    assert run.state == "pending"


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.json", b"old")

    def save() -> None:
        with atomic_path(tmp_path / "a.json") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".json"
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


def test_equal_predictions_give_equal_bytes_whatever_the_order_of_columns(tmp_path: Path) -> None:
    contents = []
    for seed, columns in ((0, ["case", "condition", "label", "p_0", "p_1"]), (1, None)):
        folder = StudyFolder(tmp_path, "main").run(spec(seed=seed))
        folder.begin(spec(seed=seed), {})
        predictions = frame("01", "0")
        predictions = predictions[columns or ["p_1", "label", "p_0", "condition", "case"]]
        folder.write_predictions(predictions.astype({"label": "int32" if columns else "int64"}))
        contents.append(folder.path_of("predictions.parquet").read_bytes())
    assert contents[0] == contents[1]
    assert b"pandas" not in contents[0]


def test_predictions_keep_the_order_in_which_conditions_and_cases_came(run: RunFolder) -> None:
    mixed = frame("01", "0").iloc[[0, 2, 1, 3]]  # 01 b, 0 b, 01 a, 0 a
    run.write_predictions(mixed)
    stored = run.predictions()
    assert list(stored.columns) == ["case", "condition", "label", "p_0", "p_1"]
    assert list(stored["condition"]) == ["01", "01", "0", "0"]
    assert list(stored["case"]) == ["b", "a", "b", "a"]
    assert stored["label"].dtype == np.int64
    assert stored["p_0"].dtype == np.float32


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (frame("0").drop(columns="label"), "case, condition, label"),
        (frame("0").rename(columns={"p_1": "p_2"}), "p_0"),
        (frame("0", "0"), "once per condition"),
        (frame("0").assign(p_0=np.nan), "probabilities"),
        (frame("0").assign(p_0=1.5), "probabilities"),
    ],
)
def test_predictions_that_break_the_promise_are_refused(
    run: RunFolder, broken: pd.DataFrame, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run.write_predictions(broken)
    assert not run.path_of("predictions.parquet").exists()


def test_further_conditions_are_added_and_those_there_are_kept(run: RunFolder) -> None:
    run.write_predictions(frame("0"))
    run.finish(conditions=["0"], long_names={"0": "image"}, dropout_law="none")
    more = pd.concat([frame("0").assign(p_0=0.0, p_1=1.0), frame("1")])
    run.add_predictions(more, {"0": "picture", "1": "table", "2": "no case has it"})
    stored = run.predictions()
    assert list(stored["condition"]) == ["0", "0", "1", "1"]
    assert stored["p_1"].tolist() == [0.75] * 4
    status = run.status()
    assert status["conditions"] == ["0", "1", "2"]
    assert status["long_names"] == {"0": "image", "1": "table", "2": "no case has it"}
    assert status["dropout_law"] == "none"


def test_only_a_finished_run_takes_further_conditions(run: RunFolder) -> None:
    run.write_predictions(frame("0"))
    with pytest.raises(ValueError, match="finished"):
        run.add_predictions(frame("1"), {"1": "table"})


def test_further_conditions_with_other_classes_are_refused(run: RunFolder) -> None:
    run.write_predictions(frame("0"))
    run.finish()
    with pytest.raises(ValueError, match="columns"):
        run.add_predictions(frame("1").assign(p_2=0.0), {"1": "table"})


def test_availability_comes_back_as_it_was(run: RunFolder) -> None:
    seen = pd.DataFrame({"case": ["a", "b"], "part": ["train", "test"], "image": [True, False]})
    run.write_availability(seen)
    pd.testing.assert_frame_equal(run.availability(), seen, check_dtype=False)
    assert run.availability()["image"].dtype == bool


def test_history_is_readable_at_once_and_survives_a_line_cut_off(run: RunFolder) -> None:
    assert run.history() == []
    run.append_history({"epoch": 0, "loss": np.float32(0.5), "auc": float("nan")})
    assert run.history() == [{"epoch": 0, "loss": 0.5, "auc": None}]
    with run.path_of("history.jsonl").open("a") as file:
        file.write('{"epoch": 1, "lo')
    assert len(run.history()) == 1


def test_a_damaged_line_of_the_history_is_left_out_and_the_others_are_read(run: RunFolder) -> None:
    for epoch in range(3):
        run.append_history({"epoch": epoch, "loss": 0.5})
    path = run.path_of("history.jsonl")
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for place in range(len(lines[0]), len(lines[0]) + len(lines[1])):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        seen = run.history()
        assert all(row["loss"] == 0.5 for row in seen)
        assert 0 in (epochs := {row["epoch"] for row in seen})
        assert epochs <= {0, 1, 2}
    path.write_bytes(lines[0] + b'\xff\n[1]\n\n{"epoch": 1}\n' + lines[2])
    assert [row["epoch"] for row in run.history()] == [0, 1, 2]


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": "\xff"}'])
def test_a_damaged_file_is_named(run: RunFolder, content: bytes) -> None:
    run.path_of("spec.json").write_bytes(content)
    with pytest.raises(BadData, match=r"spec\.json' is damaged"):
        run.spec()


def test_damaged_predictions_and_unknown_states_are_named(run: RunFolder) -> None:
    run.path_of("predictions.parquet").write_bytes(b"no parquet")
    with pytest.raises(BadData, match=r"predictions\.parquet' is damaged"):
        run.predictions()
    with pytest.raises(BadData, match=r"cannot read .*availability\.parquet"):
        run.availability()
    run.path_of("status.json").write_text('{"state": "perhaps"}')
    assert run.state == "damaged"
    assert run.reason().startswith("'status.json' is damaged: state 'perhaps'; `bench run` carries")


@pytest.mark.parametrize("name", ["predictions.parquet", "cases.parquet", "note.json", "x.npz"])
def test_no_flipped_bit_of_a_stored_file_goes_unseen(run: RunFolder, name: str) -> None:
    def read() -> Any:
        if name.endswith("parquet"):
            return run.read_frame(name).to_dict("list")
        if name.endswith("npz"):
            return {key: value.tolist() for key, value in run.read_arrays(name).items()}
        return run.read_json(name)

    run.write_predictions(frame("0", "01"))
    run.write_frame("cases.parquet", pd.DataFrame({"case": ["a"], "group": [3], "age": [0.5]}))
    run.write_json("note.json", {"score": 0.8125, "n": 3, "words": ["ä", None]})
    run.write_arrays("x.npz", {"weight": np.arange(4.0), "names": np.array(["a", "bc"])})
    path, whole = run.path_of(name), read()
    content = path.read_bytes()
    n_seen = 0
    for place in range(len(content)):
        bit = 1 << place % 8
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            found = read()
        except BadData:
            n_seen += 1
        else:
            assert {key: found[key] for key in whole if key in found} == whole, (place, bit)
    assert n_seen > len(content) / 4


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file, not a folder")
    study = StudyFolder(tmp_path / "results", "main")
    for write in (
        study.create,
        lambda: study.run(spec()).begin(spec(), {}),
        lambda: study.write_json("study.json", {}),
    ):
        with pytest.raises(BadRequest, match=r"cannot write '.*results.*--out") as caught:
            write()
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_rights_is_refused_before_any_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadRequest, match="permission denied"):
        StudyFolder(tmp_path, "main").create()


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b"])
def test_a_study_name_cannot_leave_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="name is made of"):
        StudyFolder(tmp_path, name)


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no study 'main'"):
        StudyFolder(tmp_path, "main").runs()


def test_a_study_lists_its_runs_by_name(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path, "main").create()
    assert study.runs() == []
    for seed in (1, 0):
        study.run(spec(seed=seed)).begin(spec(seed=seed), {})
    (study.runs_path / "stray.txt").touch()
    assert [folder.spec()["seed"] for folder in study.runs()] == [0, 1]
    assert study.run_named(study.run(spec(seed=1)).path.name) in study.runs()
    study.write_json("study.json", {"seeds": [0, 1]})
    assert study.has("study.json")
    assert study.read_json("study.json") == {"seeds": [0, 1]}


def test_importing_the_store_imports_no_torch_and_no_pandas() -> None:
    code = "import sys, bench.store; print({'torch', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
