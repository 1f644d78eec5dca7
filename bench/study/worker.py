"""What a process does that carries out tasks: look up the work, do it, say how it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from typing import Any

from bench.errors import (
    BadPlugin,
    BenchError,
    Claimed,
    NotApplicable,
    is_lack_of_memory,
    reason_for,
)
from bench.executor import BUG, CLAIMED, OUT_OF_MEMORY, Outcome, Task
from bench.plugin_faults import fault_of_plugin
from bench.runner.cell import run_cell
from bench.store.claims import COORDINATOR


def perform(task: Task, report: Callable[[float], None]) -> Outcome:
    """Carry out one task in this process; an error becomes an outcome.

    What a plugin prints goes to stderr: stdout is the tables'.
    """
    try:
        with redirect_stdout(sys.stderr):
            return Outcome(task.name, value=_work(task, report))
    except NotApplicable:
        return Outcome(task.name)
    except Claimed:
        return Outcome(task.name, fault=CLAIMED)
    except BenchError as error:
        return Outcome(task.name, str(error), type(error).__name__)
    except (Exception, SystemExit) as error:
        mine = fault_of_plugin(error)
        if mine and task.kind != "run":  # of which the reason is one cell's and the trace is kept
            return Outcome(task.name, str(mine), BadPlugin.__name__)
        fault = OUT_OF_MEMORY if is_lack_of_memory(error) else BUG
        return Outcome(task.name, reason_for(error), fault, traceback.format_exc())


def _work(task: Task, report: Callable[[float], None]) -> Any:
    if task.kind == "plan":
        from bench.request import Request
        from bench.study.planning import plan

        return plan(Request(**task.payload)).to_json()
    if task.kind == "scan":
        from bench.study.planning import scan_for_leaks

        return scan_for_leaks(**task.payload)
    if task.kind == "search":
        from bench.search.trials import work

        return work(task.payload, report)
    return run_cell(task.payload, report)


def serve(pipe: Connection, parent: int, gpu: str = "") -> None:
    """Serve tasks until the pipe closes; what a worker process runs.

    Args:
        pipe: tasks come in; shares and outcomes go out.
        parent: process number of the coordinator.
        gpu: the one that this worker may see, as CUDA_VISIBLE_DEVICES names it; empty: all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[COORDINATOR] = str(parent)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        outcome = perform(task, lambda share: _send(pipe, ("share", share)))
        _send(pipe, ("outcome", outcome))


def _send(pipe: Connection, message: tuple[str, Any]) -> None:
    """Tell the coordinator, or end this process at once: nobody is there to write for."""
    try:
        pipe.send(message)
    except OSError:
        os._exit(1)


def _end_with(parent: int) -> None:
    """End this process when the coordinator is gone, so that no orphan writes into the store."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
