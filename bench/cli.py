"""The command line. Imports late: `bench --help` and `bench list` touch no plugin and no torch."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from bench import __version__
from bench.commands import data, plugins, running, showing, upkeep
from bench.errors import BenchError

COMMANDS = (
    running.run,
    running.plan,
    running.ablate,
    running.sensitivity,
    running.tune,
    upkeep.status,
    upkeep.cancel,
    upkeep.retry,
    upkeep.clean,
    upkeep.merge,
    plugins.list_plugins,
    plugins.info,
    plugins.check_plugin,
    plugins.new,
    plugins.cite,
    data.prepare,
    data.cache,
    data.predict,
    showing.table,
    showing.check,
    showing.compare,
    showing.figure,
    showing.report,
    showing.complexity,
)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.version_option(__version__, message="bench %(version)s")
@click.pass_context
def app(context: click.Context) -> int:
    """Train methods for missing modalities, score every availability pattern, print the table.

    Exit codes: 0 all is there, 1 some runs failed, 2 the request was wrong, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
    return 0


for each in COMMANDS:
    app.add_command(each)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 done, 1 some runs failed, 2 wrong request, 130 interrupted."""
    try:
        with _ended_as_by_ctrl_c():
            code = app.main(arguments, prog_name="bench", standalone_mode=False)
            sys.stdout.flush()
    except BenchError as error:
        code = _refused(str(error))
    except click.ClickException as error:
        code = _refused(_worded(error))
    except (KeyboardInterrupt, click.Abort):
        said = "interrupted; what is finished stays, the same command goes on"
        print(f"bench: {said}", file=sys.stderr)
        code = 130
    except (Exception, SystemExit) as error:
        code = _of_plugin(error)
    sys.exit(code or 0)


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Take SIGTERM, by which `bench cancel` and batch systems end a command, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # which alone may hear one
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _of_plugin(error: BaseException) -> int:
    """Refuse an error of a user's plugin in one line; one of ours keeps its traceback."""
    from bench.plugin_faults import fault_of_plugin

    if fault := fault_of_plugin(error):
        return _refused(str(fault))
    if isinstance(error, BrokenPipeError | SystemExit):  # click exits at a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has enough
        return 0
    raise error


def _refused(reason: str) -> int:
    """Say in one line why a request is refused, and return the exit code of it."""
    print(f"bench: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def _worded(error: click.ClickException) -> str:
    """Word a fault of the command line, with the nearest command or option where one is near."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    text = re.sub(r"\. \(?Did you mean (.*)\?\)?$", r"; did you mean \1?", text)
    text = text[:1].lower() + text[1:]
    return f"{text} see --help" if text.endswith("?") else f"{text}; see --help"


if __name__ == "__main__":
    main()
