"""What a dataset plugin is, and how its files are found, read and fingerprinted.

A plugin file ends with `PLUGIN = TheClass`. The tables of a release are read as text: what a cell
means (a number, a class, absent) is the plugin's decision, and a cell that breaks its promise is
named with its file and line.
"""

from bench.dataset.arrays import read_arrays, read_matrix
from bench.dataset.cells import (
    bad_cell,
    filled,
    label_codes,
    number,
    numbers,
    unique_names,
    words_of,
)
from bench.dataset.checking import checked_dataset
from bench.dataset.plugin import DatasetPlugin
from bench.dataset.release import (
    MissingFiles,
    files_there,
    find_layout,
    find_root,
    fingerprint_arrays,
    fingerprint_files,
)
from bench.dataset.tables import read_table

__all__ = [
    "DatasetPlugin",
    "MissingFiles",
    "bad_cell",
    "checked_dataset",
    "files_there",
    "filled",
    "find_layout",
    "find_root",
    "fingerprint_arrays",
    "fingerprint_files",
    "label_codes",
    "number",
    "numbers",
    "read_arrays",
    "read_matrix",
    "read_table",
    "unique_names",
    "words_of",
]
