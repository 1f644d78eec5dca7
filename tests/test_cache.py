"""What is made once: decoded pictures and volumes, tokens of frozen encoders, and their folder."""

# N cases

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from safetensors.torch import save_file

from bench.cache_folder import cache_folder, clear, entries, in_words
from bench.data import Availability, Dataset, ImageFiles, Modality
from bench.encoders import Encoders, ModalityInput, Preprocessor, fit_preprocessor
from bench.encoders import cache as tensor_cache
from bench.encoders.cache import Make, TensorCache
from bench.encoders.hub import check_reachable
from bench.encoders.image import ImageEncoder
from bench.encoders.picture_cache import PICTURES, PictureCache, read_pictures, read_volumes
from bench.encoders.pixels import PictureStatistics
from bench.errors import BadConfig, BadData, UnknownName
from bench.spec import EncoderConfig
from bench.volumes import VolumeFiles
from tests.command_line import call, included, write_toy_release
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
    (folder / "pictures" / "a-folder.rows").mkdir()
    assert clear() == 0
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


# tensors by key


def numbered(made: list[int]) -> Make:
    """Make the tensor of place p filled with p, and note which places were asked for."""

    def make(places: list[int]) -> list[torch.Tensor]:
        made.extend(places)
        return [torch.full((2,), float(place)) for place in places]

    return make


def parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_a_tensor_is_made_once_for_all_processes(folder: Path) -> None:
    made: list[int] = []
    first = TensorCache(folder).get(["a", "b", "a"], numbered(made))
    assert [int(x[0]) for x in first] == [0, 1, 0]
    assert made == [0, 1]
    cache = TensorCache(folder)
    second = cache.get(["c", "b", "a"], numbered(made))
    assert [int(x[0]) for x in second] == [0, 1, 0]
    assert made == [0, 1, 0]
    assert cache.n_made == 1


def test_what_another_process_makes_meanwhile_is_found(folder: Path) -> None:
    made: list[int] = []
    one, other = TensorCache(folder), TensorCache(folder)
    one.get(["a"], numbered(made))
    other.get(["b"], numbered(made))
    one.get(["b", "a"], numbered(made))
    assert made == [0, 0]


def test_tensors_of_any_shape_and_type_come_back_as_they_were(folder: Path) -> None:
    tensors = [torch.randn(3, 4), torch.randn(1, 4).bfloat16(), torch.arange(5)]
    keys = ["a", "b", "c"]
    TensorCache(folder).get(keys, lambda places: [tensors[place] for place in places])
    found = TensorCache(folder).get(keys, numbered([]))
    assert all(
        torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(found, tensors, strict=True)
    )


def test_many_tensors_are_written_in_several_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_cache, "PART", 2)
    keys = list("abcde")
    assert len(TensorCache(folder).get(keys, numbered([]))) == 5
    assert len(parts_of(folder)) == 3
    assert [int(x[0]) for x in TensorCache(folder).get(keys, numbered([]))] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("place", [0, 10, -1])  # in the length, in the header, in the numbers
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_file_is_deleted_and_made_again(folder: Path, place: int, cut: bool) -> None:
    made: list[int] = []
    TensorCache(folder).get(["a", "b"], numbered(made))
    (path,) = parts_of(folder)
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content[:place] if cut else content)
    cache = TensorCache(folder)
    assert [int(x[0]) for x in cache.get(["a", "b"], numbered(made))] == [0, 1]
    assert made == [0, 1, 0, 1]
    assert [int(x[0]) for x in TensorCache(folder).get(["a", "b"], numbered(made))] == [0, 1]
    assert made == [0, 1, 0, 1]


def test_a_file_that_is_cleared_meanwhile_is_made_again(folder: Path) -> None:
    made: list[int] = []
    cache = TensorCache(folder)
    cache.get(["a"], numbered(made))
    (path,) = parts_of(folder)
    path.unlink()
    cache.get(["a"], numbered(made))
    assert made == [0, 0]


def test_an_interruption_leaves_no_part_of_a_file(folder: Path) -> None:
    def interrupted(places: list[int]) -> list[torch.Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TensorCache(folder).get(["a"], interrupted)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"file/tokens cannot be written .* --cache-dir or BENCH_C"):
        TensorCache(tmp_path / "file" / "tokens").get(["a"], numbered([]))


# tokens of frozen encoders


@pytest.fixture
def frozen(tmp_path: Path) -> EncoderConfig:
    """Return a frozen encoder with weights of its own."""
    source: Any = timm.create_model("test_resnet")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    return EncoderConfig.model_validate(
        {"image": "test_resnet", "weights": str(tmp_path / "weights.safetensors"), "frozen": True}
    )


def two_views(folder: Path) -> Dataset:
    """Six cases of two pictures of one encoder; the second view shows the first one's pictures."""
    rng = np.random.default_rng(0)
    paths = tuple(folder / f"{i}.png" for i in range(N))
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    modalities = (
        Modality("left", "image", encoder="eye"),
        Modality("right", "image", encoder="eye"),
    )
    files = {"left": ImageFiles(paths, 32), "right": ImageFiles(paths[::-1], 32)}
    return dataset(modalities, dict(files))


def count_pictures(encoders: Encoders) -> list[int]:
    """Note how many pictures each call of a backbone gets."""
    calls: list[int] = []
    for encoder in encoders.children():
        encoder.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    return calls


def built(
    data: Dataset, config: EncoderConfig, *, separate: bool = False
) -> tuple[Encoders, Preprocessor]:
    fitted = fit_preprocessor(data, ALL, data.natural())
    return Encoders(data.modalities, fitted, config, separate=separate), fitted


def test_prepared_tokens_are_those_of_the_encoder(tmp_path: Path, frozen: EncoderConfig) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    gaps = Availability(np.array([[1, 1], [1, 0], [1, 0], [0, 1], [1, 1], [1, 1]], bool))
    inputs = fitted.inputs(data, ALL, gaps)
    prepared = encoders.prepare(inputs)
    assert all(each.pictures is None for each in prepared.content)
    for mine, yours in zip(encoders(prepared), encoders(inputs), strict=True):
        torch.testing.assert_close(mine.values, yours.values)
        assert torch.equal(mine.valid, yours.valid)


def test_prepared_tokens_are_sliced_blanked_and_moved_like_pictures(
    tmp_path: Path, frozen: EncoderConfig
) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    inputs = fitted.inputs(data, ALL, data.natural())
    kept = torch.tensor([[True, False], [False, True]])
    rows = torch.tensor([4, 1])
    first = encoders(encoders.prepare(inputs).to("cpu").rows(rows).restrict(kept))
    second = encoders(inputs.rows(rows).restrict(kept))
    for mine, yours in zip(first, second, strict=True):
        torch.testing.assert_close(mine.values, yours.values)
        assert not mine.values[~mine.valid].any()


def test_content_left_in_the_tokens_of_an_absent_modality_is_blanked(
    tmp_path: Path, frozen: EncoderConfig
) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    prepared = encoders.prepare(fitted.inputs(data, ALL, data.natural()))
    absent = torch.zeros(N, 2, dtype=torch.bool)
    assert not any(each.values.any() for each in encoders(replace(prepared, observed=absent)))


def test_a_second_method_encodes_and_decodes_nothing(tmp_path: Path, frozen: EncoderConfig) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    calls = count_pictures(encoders)
    encoders.prepare(fitted.inputs(data, ALL, data.natural()))
    assert sum(calls) == N  # the second view shows the same pictures
    n_decoded = PICTURES.n_decoded
    for separate in (False, True):
        others, fitted = built(data, frozen, separate=separate)
        calls = count_pictures(others)
        others(others.prepare(fitted.inputs(data, ALL, data.natural())))
        assert calls == []
    assert PICTURES.n_decoded == n_decoded


def test_absent_pictures_are_neither_encoded_nor_kept(
    tmp_path: Path, frozen: EncoderConfig
) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    calls = count_pictures(encoders)
    one = np.zeros((N, 2), bool)
    one[2, 0] = True
    inputs = fitted.inputs(data, ALL, data.natural())
    encoders.prepare(replace(inputs, observed=torch.from_numpy(one)))
    assert calls == [1]


def test_other_weights_give_other_tokens(tmp_path: Path, frozen: EncoderConfig) -> None:
    data = two_views(tmp_path)
    encoders, fitted = built(data, frozen)
    inputs = fitted.inputs(data, ALL, data.natural())
    before = encoders.prepare(inputs).content[0].tokens
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    after = built(data, frozen)[0].prepare(inputs).content[0].tokens
    assert before is not None
    assert after is not None
    assert not torch.allclose(before, after)
    assert len({each.name for each in entries() if each.kind == "tokens"}) == 2


@pytest.mark.parametrize("changes", [{"frozen": False}, {"weights": ""}])
def test_encoders_that_train_or_are_random_see_pictures(
    tmp_path: Path, frozen: EncoderConfig, changes: dict[str, object]
) -> None:
    data = two_views(tmp_path)
    config = EncoderConfig.model_validate(frozen.model_dump() | changes)
    encoders, fitted = built(data, config)
    prepared = encoders.prepare(fitted.inputs(data, ALL, data.natural()))
    assert all(each.pictures is not None for each in prepared.content)


# the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the hub's client an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_into_hub(hub: Path, repository: str, name: str) -> Path:
    """Lay a file where the hub's client would, and return its path."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    path = folder / "snapshots" / ("0" * 40) / name
    path.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return path


def test_published_weights_that_are_here_are_loaded_without_asking(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", pytest.fail)
    source: Any = timm.create_model("test_resnet", num_classes=1000)
    published: Any = timm.get_pretrained_cfg("test_resnet")
    save_file(source.state_dict(), put_into_hub(hub, published.hf_hub_id, "model.safetensors"))
    config = EncoderConfig.model_validate({"image": "test_resnet", "pretrained": True})
    statistics = PictureStatistics(shape=(32, 32, 1), mean=(0.5,), std=(0.25,))
    encoder = ImageEncoder(statistics, config)
    assert torch.equal(encoder.model.conv1[0].weight, source.conv1[0].weight)


@pytest.mark.parametrize("switched_off", [True, False])
def test_a_machine_without_a_network_asks_once_at_most(
    hub: Path, switched_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def nobody(url: str, **settings: object) -> None:
        asked.append(url)
        raise ConnectionError("name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", nobody)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", switched_off)
    config = EncoderConfig.model_validate({"image": "test_resnet", "pretrained": True})
    statistics = PictureStatistics(shape=(32, 32, 1), mean=(0.5,), std=(0.25,))
    reason = "HF_HUB_OFFLINE is set" if switched_off else "name or service not known"
    with pytest.raises(BadConfig, match=rf"weights of .*test_resnet cannot be had .*{reason}"):
        ImageEncoder(statistics, config)
    assert len(asked) == (0 if switched_off else 1)


def test_a_hub_that_answers_is_reachable_whatever_files_it_has(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_file(url: str, **settings: object) -> None:
        raise EntryNotFoundError("no config.json")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", no_such_file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    check_reachable("somebody/something")


# a whole study


def test_a_study_with_a_frozen_encoder_encodes_each_picture_once_and_reloads_without_its_weights(
    tmp_path: Path, frozen: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_toy_release(tmp_path / "release")
    encoded: list[int] = []
    forward = ImageEncoder.forward

    def counted(encoder: ImageEncoder, content: ModalityInput) -> torch.Tensor:
        assert content.pictures is not None
        encoded.append(len(content.pictures) if content.pictures.any() else 0)  # of its shape
        return forward(encoder, content)

    monkeypatch.setattr(ImageEncoder, "forward", counted)
    monkeypatch.chdir(tmp_path)
    asked = [
        "run",
        *included("toy_release", "singles"),
        *("--dataset", "toy-release", "--data-root", "release", "--folds", "0", "--no-floor"),
        *(f"--set=encoder.{key}={getattr(frozen, key)}" for key in ("image", "weights", "frozen")),
        *("--set", "recipe.epochs=2", "--quiet"),
    ]
    assert call(*asked, "-m", "concat:dropout", "-p", "singles") == 0
    assert sum(encoded) == 30
    n_decoded = PICTURES.n_decoded
    assert call(*asked, "-m", "elementwise-sum", "-p", "singles") == 0
    Path(frozen.weights).unlink()
    assert call(*asked, "-m", "concat:dropout") == 0
    assert sum(encoded) == 30
    assert PICTURES.n_decoded == n_decoded


def test_the_command_lists_adds_up_and_clears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    greys(viewed(picture_files(tmp_path)), [0], new_process())
    (entry,) = entries()
    for asked, said in (
        (["cache"], [f"pictures  144 B  {entry.name}", str(cache_folder()), "144 B"]),
        (["cache", "size"], ["144 B"]),
        (["cache", "clear", "--kind", "tokens"], ["freed 0 B"]),
        (["cache", "size", "--cache-dir", str(tmp_path / "other")], ["0 B"]),
    ):
        assert call(*asked) == 0
        assert capsys.readouterr().out.splitlines() == said
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    assert call("cache", "clear") == 0
    assert capsys.readouterr().out == "freed 144 B\n"
    assert call("cache", "clear", "--kind", "picture") == 2
