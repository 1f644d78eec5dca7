"""Whole Python processes: the bench's command line from outside, and who of it imports torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import bench

PACKAGE = Path(bench.__file__).parent
LOG = "BENCHMARKS_TORCH_LOG"
# Python runs `sitecustomize` in every process that starts, workers included. The audit event comes
# when a module is imported for the first time, not when it is only looked for.
HOOK = f"""
import os, sys

def _note(event, arguments):
    if event == "import" and arguments[0] == "torch":
        with open(os.environ["{LOG}"], "a") as file:
            print(os.getpid(), file=file)

sys.addaudithook(_note)
"""


@contextmanager
def checkout() -> Iterator[Path]:
    """Copy the package to where no bytecode of it lies; give the folder to start Python in."""
    with TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, Path(folder, PACKAGE.name), ignore=ignored)
        yield Path(folder)


def python(
    *arguments: str, folder: Path = PACKAGE.parent, variables: Mapping[str, str] | None = None
) -> None:
    """Run an interpreter with one thread and wait for it; its output is dropped.

    Raises:
        RuntimeError: it failed; the text is what it wrote to stderr.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=_environment() | dict(variables or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)}: {done.stderr.decode()}")


def _environment() -> dict[str, str]:
    """Leave out what this process was told of bytecode, so that each benchmark says its own."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"OMP_NUM_THREADS": "1"}


def processes_with_torch(*arguments: str) -> list[int]:
    """Run `python -m bench` and list the imports of torch by process number, its workers' too."""
    with TemporaryDirectory() as folder:
        hook, log = Path(folder, "sitecustomize.py"), Path(folder, "log")
        hook.write_text(HOOK)
        log.touch()
        path = os.pathsep.join([folder, str(PACKAGE.parent)])
        python("-m", "bench", *arguments, variables={"PYTHONPATH": path, LOG: str(log)})
        return [int(line) for line in log.read_text().split()]
