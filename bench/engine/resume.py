"""Checkpoints inside a training, so that one that was ended goes on where it was.

A training offers its state after every epoch; it is written when enough time has passed, so that a
short run never pays for it. Of two files, the current and the one before it, one is always whole.
A run that goes on from them ends in the bytes of a run that nothing ended, on the CPU with the same
number of threads.

To save and stop at the next step, as a batch system asks shortly before its time limit:

```python
with stopping_on(signal.SIGTERM, signal.SIGUSR1):
    run_cell(payload, report)      # raises Preempted; the run is pending, its state is saved
```
or call `ask_to_stop()` from anywhere in the process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from bench.engine.tensor_files import load_tensors, save_tensors
from bench.errors import BadData, BadRequest, BenchError
from bench.store import RESUME, RESUME_BEFORE, RESUME_LOG, RunFolder

State = dict[str, Any]  # tensors and plain values, in dictionaries, lists and tuples

FORMAT = 1  # of the state; another one is not read
MAX_SHARE = 0.05  # of the time may be spent on saving, however large the model is


class Preempted(BenchError):
    """A training that was asked to stop; its state is saved, the run is pending."""


@dataclass(frozen=True)
class SaveRule:
    """How often a training is saved, and whether the files outlive it."""

    every_seconds: float = 30.0  # at least so long between two; 0: after every epoch
    keep: bool = False


# --- the request to stop ----------------------------------------------------------------------

_stop = threading.Event()


def ask_to_stop() -> None:
    """Make the training of this process save itself at its next step and raise `Preempted`."""
    _stop.set()


def is_asked_to_stop() -> bool:
    """Tell whether this process was asked to stop, so that it begins no further run."""
    return _stop.is_set()


@contextmanager
def stopping_on(*signals: signal.Signals) -> Iterator[None]:
    """Take these signals, in the main thread, for a request to stop; forget it at the end."""

    def hear(number: int, frame: FrameType | None) -> None:
        ask_to_stop()

    before = {each: signal.signal(each, hear) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        _stop.clear()


# --- the files --------------------------------------------------------------------------------


class Checkpoints:
    """Saves one training now and then, and finds its last good state again.

    `resumed` lists where this run was taken up, over all attempts; `faults` what was wrong with the
    files. Both are facts of the run.

    Args:
        folder: of the run; None: nothing is ever saved.
        rule: how often.
    """

    def __init__(self, folder: RunFolder | None, rule: SaveRule | None = None):
        self.folder = folder
        self.rule = rule or SaveRule()
        self.resumed: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._saved_at = time.monotonic()
        self._cost = 0.0  # seconds of the last save

    def load(self) -> State | None:
        """Return the last state that can be read, or None; remove what cannot be."""
        if self.folder is None:
            return None
        self._recall()
        for name in (RESUME, RESUME_BEFORE):
            path = self.folder.path_of(name)
            if not path.exists():
                continue
            try:
                return _checked(load_tensors(path), name)
            except BadData as error:
                self._note(f"{str(error).partition(';')[0]}; it was left")
                path.unlink(missing_ok=True)
        return None

    def note_resumed(self, **place: object) -> None:
        """Write down where the run is taken up, at once: the attempt may end like the last."""
        self.resumed.append({**place, "threads": torch.get_num_threads()})
        self._write_log()

    def offer(self, state: Callable[[], State]) -> None:
        """Save the state if it is time to; a disk that is full does not end the training."""
        if self.folder is None or not self._is_due():
            return
        try:
            self._save(state)
        except BadRequest as error:
            self._note(str(error))

    def stop_if_asked(self, state: Callable[[], State]) -> None:
        """Save the state and end the training, if that was asked for.

        Raises:
            Preempted: it was.
            BadRequest: it was, and the state cannot be written.
        """
        if self.folder is None or not is_asked_to_stop():
            return
        self._save(state)
        raise Preempted("the training was asked to stop; the same command goes on from there")

    def discard(self) -> None:
        """Remove the files, unless they shall be kept."""
        if self.folder is None or self.rule.keep:
            return
        for name in (RESUME, RESUME_BEFORE, RESUME_LOG):
            self.folder.path_of(name).unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """Return what reports should know: empty for a run that was never ended."""
        both = {"resumed": self.resumed, "checkpoint_faults": self.faults}
        return {name: value for name, value in both.items() if value}

    def _is_due(self) -> bool:
        wait = max(self.rule.every_seconds, self._cost / MAX_SHARE)
        return self.rule.every_seconds == 0 or time.monotonic() - self._saved_at >= wait

    def _save(self, state: Callable[[], State]) -> None:
        assert self.folder is not None
        started = time.monotonic()
        current = self.folder.path_of(RESUME)
        if current.exists():
            os.replace(current, self.folder.path_of(RESUME_BEFORE))
        head = {"format": FORMAT, "torch": str(torch.__version__)}
        try:
            save_tensors(current, {**head, "state": state()}, lasting=True)
        finally:
            self._saved_at = time.monotonic()
            self._cost = self._saved_at - started

    def _recall(self) -> None:
        assert self.folder is not None
        try:
            log = self.folder.read_json(RESUME_LOG)
        except BadData:  # absent, or damaged: the list is for information alone
            log = {}
        self.resumed = list(log.get("resumed", []))
        self.faults = list(log.get("checkpoint_faults", []))

    def _note(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
        try:
            self._write_log()
        except BadRequest:  # a full disk takes no notes either; the status will have it
            return

    def _write_log(self) -> None:
        assert self.folder is not None
        self.folder.write_json(RESUME_LOG, self.facts())


def _checked(saved: Mapping[str, Any], name: str) -> State:
    """Return the state of a file that this version and this torch wrote."""
    wanted, came = (FORMAT, str(torch.__version__)), (saved.get("format"), saved.get("torch"))
    if came != wanted:
        raise BadData(
            f"{name} was written in format {came[0]} by torch {came[1]}, not {wanted[0]} by "
            f"{wanted[1]}; the training begins anew"
        )
    state = saved["state"]
    assert isinstance(state, dict)
    return state


NEVER = Checkpoints(None)


# --- generators -------------------------------------------------------------------------------


def generator_states(device: torch.device) -> State:
    """Return where the global generators of torch stand."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generator_states(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put the global generators of torch where they stood; one that is not there stays."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
