"""Tables and arrays of a run as files: fixed columns, types and order, checksums on all of it.

Equal ones give equal bytes. Nothing is pickled.
"""

# K classes

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.files import (
    CHECKSUM,
    DELETED,
    atomic_path,
    atomic_write,
    checksum_of,
    damaged,
    explained,
    read_bytes,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


def _check_predictions(frame: pd.DataFrame) -> list[str]:
    """Return the probability columns p_0 ... p_{K-1} of a frame that keeps the promises."""
    lacking = {"case", "condition", "label"} - set(frame.columns)
    proba = [name for name in frame.columns if name.startswith("p_")]
    wanted = [f"p_{k}" for k in range(len(proba))]
    if lacking or len(wanted) < 2 or set(proba) != set(wanted):
        raise ValueError(
            f"predictions need case, condition, label, p_0 ... p_K-1, got {list(frame.columns)}"
        )
    if frame.duplicated(["case", "condition"]).any():
        raise ValueError("predictions must hold each case once per condition")
    if not frame[wanted].apply(lambda column: column.between(0.0, 1.0 + 1e-6)).all(axis=None):
        raise ValueError("predictions must be probabilities in [0, 1]")
    return wanted


def predictions_table(frame: pd.DataFrame) -> pa.Table:
    """Lay predictions out so that equal ones give equal bytes: fixed columns, types and order.

    Rows are sorted by condition, then by case, both in the order of their first appearance.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    proba = _check_predictions(frame)
    case = frame["case"].map(str)
    condition = frame["condition"].map(str)
    order = np.lexsort((pd.factorize(case)[0], pd.factorize(condition)[0]))
    columns = {
        "case": pa.array(case.to_numpy(object)[order], pa.string()),
        "condition": pa.array(condition.to_numpy(object)[order], pa.string()),
        "label": pa.array(frame["label"].to_numpy(np.int64)[order]),
    }
    for name in proba:
        columns[name] = pa.array(frame[name].to_numpy(np.float32)[order])
    return pa.table(columns)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table whole or not at all, with checksums of its pages and of its layout."""
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({CHECKSUM: _layout_checksum(table.schema, len(table))})
    with explained(path), atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _layout_checksum(schema: pa.Schema, n_rows: int) -> str:
    """Return the checksum of what the checksums of the pages leave out: columns and rows."""
    columns = [[each.name, str(each.type)] for each in schema]
    return checksum_of([columns, n_rows])


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame without its index."""
    import pyarrow as pa

    # pandas' own metadata, which holds versions, is left out: equal frames should give equal bytes
    write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        Damaged: it is missing or damaged; names it.
    """
    return _read_table(path).to_pandas()


def check_table(path: Path) -> None:
    """Read a table, unless this process has and it was not written since.

    Raises:
        Damaged: it is missing or damaged; names it.
    """
    try:
        stat = path.stat()
    except OSError:  # which reading it says in words
        _read_table(path)
    else:
        _checked(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=65536)
def _checked(path: Path, stamp: tuple[int, int, int]) -> None:
    _read_table(path)


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_bytes(path)
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read()
        wanted = (table.schema.metadata or {}).get(CHECKSUM.encode())  # older files have none
        if wanted not in (None, _layout_checksum(table.schema, len(table)).encode()):
            raise ValueError("its columns or rows are others")
        return table.replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one archive, whole or not at all."""
    import numpy as np

    names = np.array(checksum_of(list(arrays)))  # a list that is cut short would read as well
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{CHECKSUM: names, **arrays})
    atomic_write(path, buffer.getbuffer())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an archive of arrays.

    Raises:
        Damaged: it is missing or damaged; names it.
    """
    import numpy as np

    content = io.BytesIO(read_bytes(path, DELETED))
    try:
        with np.load(content, allow_pickle=False) as saved:  # looks at each one's checksum
            arrays = dict(saved)
        wanted = arrays.pop(CHECKSUM, None)  # older files have none
        if wanted is not None and str(wanted) != checksum_of(list(arrays)):
            raise ValueError("not all of its arrays are there")
    except Exception as error:  # a damaged archive provokes many kinds
        raise damaged(path, str(error), DELETED) from error
    return arrays
