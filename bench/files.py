"""Files that are whole or absent: moved into place when written, read with their checksums."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import BadData, BadRequest, Damaged
from bench.liveness import is_alive

CHECKSUM = "checksum"  # key in JSON and in the metadata of parquet; archives have their own


@contextmanager
def atomic_path(
    path: Path, *, lasting: bool = False, beside: Sequence[Path] = ()
) -> Iterator[Path]:
    """Give a temporary name in the same folder, moved to `path` if the block succeeds.

    The suffix is kept, since some savers append one if it is not there. What a process that was
    killed left of the same file is removed. A file that takes the place of another lies on the disk
    before it does, so that a power cut leaves one of them.

    Args:
        path: the file.
        lasting: whether it outlives a power cut from the end of the block on.
        beside: files that lie on the disk as well before this one is there.
    """
    temporary = temporary_beside(path)
    remove_leftovers(path)
    try:
        yield temporary
        if lasting or path.exists():
            flush([*beside, temporary])
        os.replace(temporary, path)
        if lasting:
            flush([path.parent])
    finally:
        temporary.unlink(missing_ok=True)


def flush(paths: Sequence[Path]) -> None:
    """Wait until files, and the names in folders, lie on the disk.

    All at once: a file system that keeps a journal then writes it once or twice, not once for each.

    Raises:
        OSError: the disk does not take them.
    """
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(_flush, paths))


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written and not be listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # it keeps no such promise
            raise
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """Name a temporary file of this process beside a path."""
    unique = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.stem}.{unique}.tmp{path.suffix}")


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of a path whose writer, a process of this host, is dead."""
    for each in path.parent.glob(f".{path.stem}.*.tmp{path.suffix}"):
        unique = each.name.removeprefix(f".{path.stem}.").removesuffix(f".tmp{path.suffix}")
        host, _, pid = unique.rpartition("-")[0].rpartition("-")
        if host == socket.gethostname() and pid.isdecimal() and not is_alive(int(pid), host):
            each.unlink(missing_ok=True)


def atomic_write(
    path: Path,
    content: bytes | memoryview,
    *,
    lasting: bool = False,
    beside: Sequence[Path] = (),
) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file.
        content: all of it.
        lasting: whether it outlives a power cut.
        beside: files that then do as well.

    Raises:
        BadRequest: the file cannot be written; names it and the cause.
    """
    with explained(path), atomic_path(path, lasting=lasting, beside=beside) as temporary:
        temporary.write_bytes(content)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of a block that fails to write which file it was, and what to do.

    Raises:
        BadRequest: the file cannot be written; names it and the cause.
    """
    try:
        yield
    except OSError as error:
        raise BadRequest(
            f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}; make room and "
            "rights there, or name another folder with --out"
        ) from error


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Write a mapping as JSON that ends with its checksum: a changed digit would read as well."""
    plain = {key: each for key, each in plain_of(value).items() if key != CHECKSUM}
    text = json.dumps(
        plain | {CHECKSUM: checksum_of(plain)}, indent=1, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode()


def row_bytes(row: Mapping[str, Any]) -> bytes:
    """Write a mapping as one line of JSON with its checksum, for a file that rows are added to."""
    text = json.dumps({**row, CHECKSUM: checksum_of(row)}, ensure_ascii=False)
    return (text + "\n").encode()


def row_of(line: bytes) -> dict[str, Any] | None:
    """Read a row, without its checksum; None: it is damaged. Older rows have no checksum."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    wanted = row.pop(CHECKSUM, None)
    return row if wanted in (None, checksum_of(row)) else None


def checksum_of(value: object) -> str:
    """Return eight hex digits that change with any change of a value that JSON can say."""
    text = json.dumps(value, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def plain_of(value: object) -> Any:
    """Turn a value into what JSON can say; NaN and infinity, which it cannot, become null."""
    if isinstance(value, Mapping):
        return {str(key): plain_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_of(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain_of(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


REPEATED = "`bench run` carries its run out again"  # what mends a damaged file of a run
DELETED = "delete its folder to have it written once more"


def read_bytes(path: Path, cure: str = REPEATED) -> bytes:
    """Read a file; one that is not there is damaged.

    Raises:
        BadData: it cannot be read; names it, the cause and the cure.
    """
    with unreadable(path, cure):
        return path.read_bytes()


@contextmanager
def unreadable(path: Path, cure: str = REPEATED) -> Iterator[None]:
    """Say of a block that fails to read which file it was, and what to do.

    Raises:
        BadData: it cannot be read; names it, the cause and the cure.
    """
    try:
        yield
    except OSError as error:
        kind = Damaged if isinstance(error, FileNotFoundError) else BadData
        raise kind(
            f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}; {cure}"
        ) from error


def read_json(path: Path, cure: str = REPEATED) -> dict[str, Any]:
    """Read a mapping, without its checksum.

    Raises:
        Damaged: it is missing, no mapping, or not as it was written; names the file and the cure.
    """
    try:
        value = json.loads(read_bytes(path, cure))
    except (ValueError, RecursionError) as error:  # wrong JSON or wrong UTF-8
        raise damaged(path, str(error), cure) from error
    if not isinstance(value, dict):
        raise damaged(path, f"a {type(value).__name__} instead of a mapping", cure)
    wanted = value.pop(CHECKSUM, None)  # a file written by hand has none
    if wanted is not None and wanted != checksum_of(value):
        raise damaged(path, "its checksum is another", cure)
    return value


def damaged(path: Path, what: str, cure: str = REPEATED) -> Damaged:
    """Make the error that a file is not as it was written, in one line."""
    return Damaged(f"{str(path)!r} is damaged: {' '.join(what.split())}; {cure}")
