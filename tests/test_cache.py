"""What is made once: decoded pictures and volumes, tokens of frozen encoders, and their folder."""

# N cases

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cache_folder import cache_folder, clear, entries, in_words
from bench.data import Dataset, ImageFiles, Modality
from bench.encoders import fit_preprocessor
from bench.encoders.picture_cache import PictureCache, read_pictures, read_volumes
from bench.errors import BadData, UnknownName
from bench.volumes import VolumeFiles
from tests.toy_cases import dataset

N = 6
ALL = np.arange(N)
VIEW = Modality("view", "image")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty cache."""
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture_files(folder: Path, size: int = 4) -> ImageFiles:
    """Write six pictures, picture i filled with 10 i."""
    paths = tuple(folder / f"{i}.png" for i in range(N))
    for i, path in enumerate(paths):
        Image.new("L", (8, 8), 10 * i).save(path)
    return ImageFiles(paths, size)


def viewed(source: object) -> Dataset:
    return dataset((VIEW,), {"view": source})


def greys(data: Dataset, rows: Sequence[int], cache: PictureCache) -> list[int]:
    """Read pictures and return the grey value of each."""
    pixels = read_pictures(data, VIEW, np.array(rows), cache)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[:, :1, :1]).all()
    return (pixels[:, 0, 0, 0] // 10).tolist()


def new_process() -> PictureCache:
    """Stand for a process that has read nothing yet."""
    return PictureCache(on_disk=True)


def rows_file(folder: Path) -> Path:
    (path,) = (folder / "pictures").iterdir()
    return path


# decoded pictures and volumes


def test_a_second_process_decodes_nothing(tmp_path: Path) -> None:
    data = viewed(picture_files(tmp_path))
    first, second = new_process(), new_process()
    assert greys(data, [4, 1], first) == [4, 1]
    assert greys(data, [1, 1, 4], second) == [1, 1, 4]
    assert greys(data, [2, 4], second) == [2, 4]
    assert (first.n_decoded, second.n_decoded) == (2, 1)


def test_two_processes_that_are_open_at_once_see_what_the_other_decodes(tmp_path: Path) -> None:
    data = viewed(picture_files(tmp_path))
    first, second = new_process(), new_process()
    greys(data, [0], first)
    greys(data, [1], second)
    assert greys(data, [1, 0], first) == [1, 0]
    assert first.n_decoded == 1


def test_a_picture_that_was_replaced_is_decoded_again(tmp_path: Path) -> None:
    files = picture_files(tmp_path)
    greys(viewed(files), [0, 1, 2], new_process())
    Image.new("L", (8, 8), 70).save(tmp_path / "1.png")
    cache = new_process()
    assert greys(viewed(files), [0, 1, 2], cache) == [0, 7, 2]
    assert cache.n_decoded == 1


def test_a_picture_that_is_gone_is_named_even_if_it_was_decoded_before(tmp_path: Path) -> None:
    files = picture_files(tmp_path)
    greys(viewed(files), [0, 1], new_process())
    (tmp_path / "1.png").unlink()
    with pytest.raises(BadData, match=r"1\.png: no such picture file"):
        greys(viewed(files), [0, 1], new_process())


@pytest.mark.parametrize("place", [0, 9])  # in the stamp, in the picture
def test_a_damaged_row_is_decoded_again_and_no_other(
    tmp_path: Path, folder: Path, place: int
) -> None:
    data = viewed(picture_files(tmp_path))
    greys(data, [0, 1, 2], new_process())
    path = rows_file(folder)
    content = bytearray(path.read_bytes())
    row = len(content) // N
    content[row + place] ^= 255
    path.write_bytes(content)
    cache = new_process()
    assert greys(data, [0, 1, 2], cache) == [0, 1, 2]
    assert cache.n_decoded == 1
    mended = new_process()
    assert greys(data, [0, 1, 2], mended) == [0, 1, 2]
    assert mended.n_decoded == 0


def test_a_file_that_was_cut_is_made_again(tmp_path: Path, folder: Path) -> None:
    data = viewed(picture_files(tmp_path))
    greys(data, [0, 1], new_process())
    rows_file(folder).write_bytes(b"cut")
    cache = new_process()
    assert greys(data, [0, 1], cache) == [0, 1]
    assert cache.n_decoded == 2


def test_pictures_read_in_another_way_are_not_confused(tmp_path: Path, folder: Path) -> None:
    files = picture_files(tmp_path)
    reversed_files = ImageFiles(files.paths[::-1], 4)
    cache = new_process()
    assert greys(viewed(files), [0, 1], cache) == [0, 1]
    assert greys(viewed(ImageFiles(files.paths, 5)), [0, 1], cache) == [0, 1]
    assert greys(viewed(reversed_files), [0, 1], cache) == [5, 4]
    assert cache.n_decoded == 6
    assert greys(viewed(files), [0, 1], new_process()) == [0, 1]
    assert len(list((folder / "pictures").iterdir())) == 2  # a file per size


@dataclass(frozen=True)
class Bright:
    """A source of a plugin: has its files, and settings of its own."""

    paths: tuple[Path | None, ...]
    level: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.full((len(rows), 2, 2, 1), self.level, np.uint8)


def test_sources_of_plugins_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    paths = picture_files(tmp_path).paths
    for _ in range(2):
        for level in (10, 20):
            assert greys(viewed(Bright(paths, level)), [3], new_process()) == [level // 10]


def test_without_a_folder_to_write_pictures_are_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "file" / "below"))
    data, cache = viewed(picture_files(tmp_path)), new_process()
    for _ in range(2):
        assert greys(data, [3, 2], cache) == [3, 2]
    assert cache.n_decoded == 2


def test_a_full_disk_is_found_out_before_anything_is_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    data, cache = viewed(picture_files(tmp_path)), new_process()
    for _ in range(2):
        assert greys(data, [3, 2], cache) == [3, 2]
    assert cache.n_decoded == 2
    assert list((folder / "pictures").iterdir()) == []


def test_volumes_are_read_from_their_files_once(tmp_path: Path) -> None:
    modality = Modality("ct", "volume")
    paths = tuple(tmp_path / f"{i}.npy" for i in range(N))
    for i, path in enumerate(paths):
        np.save(path, np.full((2, 3, 4), i + 0.5))
    data = dataset((modality,), {"ct": VolumeFiles(paths, (2, 3, 4))})
    for n_decoded in (2, 0):
        cache = new_process()
        found = read_volumes(data, modality, np.array([5, 1]), cache)
        assert found.shape == (2, 2, 3, 4, 1)
        assert found[:, 1, 2, 3, 0].tolist() == [5.5, 1.5]
        assert cache.n_decoded == n_decoded


def test_preprocessing_gives_the_same_from_files_and_from_the_cache(tmp_path: Path) -> None:
    data = viewed(picture_files(tmp_path))
    for _ in range(2):
        fitted = fit_preprocessor(data, ALL, data.natural())
        pictures = fitted.inputs(data, ALL, data.natural()).content[0].pictures
        assert pictures is not None
        assert pictures[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


# the folder


def test_the_folder_is_the_users_cache_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE_DIR", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("BENCH_CACHE_DIR")
    assert cache_folder() == tmp_path / ".cache" / "missing-modality-bench"


def test_entries_are_listed_by_name_and_size(tmp_path: Path) -> None:
    assert entries() == []
    greys(viewed(picture_files(tmp_path)), [0], new_process())
    (entry,) = entries()
    assert entry.kind == "pictures"
    assert entry.name.startswith("toy-view-4x4-")
    assert entry.n_bytes == N * (8 + 16)  # a stamp of 8 bytes before 4 x 4 grey values


def test_clearing_deletes_what_the_cache_wrote_and_nothing_else(
    tmp_path: Path, folder: Path
) -> None:
    greys(viewed(picture_files(tmp_path)), [0], new_process())
    other = folder / "pictures" / "holiday.png"
    other.write_bytes(b"mine")
    assert clear("text") == 0
    assert clear("pictures") == N * 24
    assert entries() == []
    assert other.is_file()
    with pytest.raises(UnknownName, match="no kind of cache entry is named 'picture'"):
        clear("picture")


def test_clearing_while_a_run_reads_leaves_the_run_alone(tmp_path: Path) -> None:
    data, cache = viewed(picture_files(tmp_path)), new_process()
    greys(data, [0, 1], cache)
    clear()
    assert greys(data, [1, 0], cache) == [1, 0]
    assert greys(data, [2], cache) == [2]


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**41, "2048.0 GiB"),
    ],
)
def test_sizes_are_written_for_people(n_bytes: int, words: str) -> None:
    assert in_words(n_bytes) == words
