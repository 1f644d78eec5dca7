"""Files of probabilities for new cases, with what a reader must know of them at their
head. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadRequest
from bench.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True, eq=False)
class Answered:
    """Probabilities, and what a reader must know of them."""

    frame: pd.DataFrame  # case, available, predicted, p_<class> ...; NaN: a case without anything
    header: Mapping[str, Any]
    files: tuple[Path, ...] = ()  # that the cases were read from


def check_target(to: Path | None) -> None:
    """Refuse a file that is neither CSV nor parquet, before anything is predicted.

    Raises:
        BadRequest: names the endings.
    """
    if to is not None and to.suffix.lower() not in FORMATS:
        endings = " or ".join(FORMATS)
        raise BadRequest(f"--to wants a file that ends with {endings}, got {str(to)!r}")


def write_answer(found: Answered, to: Path) -> None:
    """Write a file whole or not at all; its ending says the format.

    Raises:
        BadRequest: it cannot be written, or is a file that the cases were read from.
    """
    if to.resolve() in {path.resolve() for path in found.files}:
        raise BadRequest(f"{str(to)!r} is a file of the cases themselves; name another file")
    try:
        with atomic_path(to) as path:
            if to.suffix.lower() == ".csv":
                path.write_text("".join(csv_lines(found)), encoding="utf-8")
            else:
                _write_parquet(found, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadRequest(f"cannot write {str(to)!r}: {reason}; name another file") from None


def csv_lines(found: Answered) -> Iterator[str]:
    """Yield the text of a CSV file: the header as comments, then a line per case."""
    for key, value in found.header.items():
        yield f"# {key}: {' '.join(str(value).split())}\n"
    yield found.frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")


def _write_parquet(found: Answered, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pandas(found.frame, preserve_index=False)
    header = {str(key): str(value) for key, value in found.header.items()}
    metadata = {**(table.schema.metadata or {}), b"bench": json.dumps(header).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)
