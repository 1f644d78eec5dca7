"""Whether a process still works: by its number, its host and when it was born."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def is_alive(pid: int, host: str, born: int | None = None) -> bool:
    """Tell whether a process still works; one of another host is taken for alive.

    Args:
        pid: its number.
        host: the name of its host.
        born: what `birth(pid)` gave when it was alive, since numbers are used again; None: unknown.
    """
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now = birth(pid)
    return now is None or (now > 0 and born in (None, now))


def birth(pid: int) -> int | None:
    """Return when a process was born, in clock ticks since boot; 0: it has ended; None: unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # the name, in brackets, may hold blanks and brackets; state is field 3, start time field 22
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])
