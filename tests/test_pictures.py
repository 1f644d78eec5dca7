from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import pictures
from bench.data import ImageFiles
from bench.errors import BadData
from bench.pictures import read_deep_grey, read_grey, read_picture


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    width, height = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def deep_colour_png(path: Path) -> Path:
    """Write a 1 x 1 RGB picture with 16 bits per channel, which Pillow itself cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(b"\0" + b"\x01\x02" * 3)
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def refused(path: Path, because: str) -> None:
    with pytest.raises(BadData, match=because) as caught:
        read_picture(path, 8, 1)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bit_pictures_become_a_square_of_bytes(
    tmp_path: Path, mode: str, channels: int
) -> None:
    picture = read_picture(saved(tmp_path, noise(mode)), 16, channels)
    assert picture.shape == (16, 16, channels)
    assert picture.dtype == np.uint8
    assert picture.std() > 0


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.jpg", "a.tif", "a.webp"])
def test_the_usual_formats_are_read(tmp_path: Path, name: str) -> None:
    assert read_picture(saved(tmp_path, noise(), name), 16, 3).shape == (16, 16, 3)


def test_pixels_of_the_right_size_are_not_changed(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    picture = read_picture(saved(tmp_path, Image.fromarray(values)), 8, 1)
    assert (picture[..., 0] == values).all()


def test_scaling_down_averages_instead_of_picking(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    picture = read_picture(saved(tmp_path, Image.fromarray(stripes)), 8, 1)
    assert np.abs(picture[:, 1:-1].astype(int) - 100).max() <= 2


def test_a_bilevel_mask_gets_soft_edges(tmp_path: Path) -> None:
    mask = Image.new("1", (64, 64))
    mask.paste(1, (0, 0, 28, 64))
    values = set(read_picture(saved(tmp_path, mask), 8, 1).ravel().tolist())
    assert {0, 255} < values


def test_the_aspect_is_not_kept(tmp_path: Path) -> None:
    wide = np.zeros((10, 40), np.uint8)
    wide[:, 20:] = 255
    picture = read_picture(saved(tmp_path, Image.fromarray(wide)), 8, 1)[..., 0]
    assert picture[:, 0].max() == 0
    assert picture[:, -1].min() == 255


def test_a_palette_becomes_grey_by_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([255, 255, 255])
    assert read_picture(saved(tmp_path, image), 4, 1).min() == 255


def test_a_picture_at_its_own_size_keeps_its_grey_values(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (read_grey(saved(tmp_path, Image.fromarray(values))) == values).all()
    bilevel = Image.fromarray(values * 20).convert("1", dither=Image.Dither.NONE)
    assert np.unique(read_grey(saved(tmp_path, bilevel))).tolist() == [0, 255]
    with pytest.raises(BadData, match=r"gone.png: no such picture"):
        read_grey(tmp_path / "gone.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "gone.png", "no such picture file")


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("ID,Case\n")
    refused(path, "not a readable picture")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, noise(), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "not a readable picture")


def test_no_damage_escapes_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = saved(tmp_path, noise(size=(20, 20)))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(100):
        damaged = content.copy()
        damaged[rng.integers(8, len(content), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(BadData):
            assert read_picture(path, 8, 1).shape == (8, 8, 1)


def test_sixteen_bit_grey_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path, Image.fromarray(np.zeros((4, 4), np.uint16))), "more than 8 bits")


def test_sixteen_bit_colour_is_refused_and_not_cut_silently(tmp_path: Path) -> None:
    refused(deep_colour_png(tmp_path / "deep.png"), "more than 8 bits")


def test_a_floating_point_picture_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    refused(saved(tmp_path, image, "a.tif"), "more than 8 bits")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_refused(tmp_path: Path, mode: str) -> None:
    image = noise(mode)
    image.putpixel((3, 4), (*(9,) * (len(mode) - 1), 254))
    refused(saved(tmp_path, image), "transparency")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_alpha_channel_that_hides_nothing_is_dropped(tmp_path: Path, mode: str) -> None:
    plain = saved(tmp_path, noise(mode[:-1]))
    with_alpha = saved(tmp_path, noise(mode), "alpha.png")
    assert (read_picture(with_alpha, 8, 3) == read_picture(plain, 8, 3)).all()


def test_a_transparent_palette_entry_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path, noise("P"), transparency=0), "transparency")


def test_print_colours_are_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path, Image.new("CMYK", (4, 4)), "a.jpg"), "CMYK")


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif"])
def test_several_frames_are_refused(tmp_path: Path, name: str) -> None:
    more = [Image.new("L", (4, 4), 200)]
    path = saved(tmp_path, Image.new("L", (4, 4)), name, save_all=True, append_images=more)
    refused(path, "several frames")


def test_a_picture_above_the_pixel_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1199)
    refused(saved(tmp_path, noise()), "40 x 30 pixels, the limit is 1199")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_without_a_warning(tmp_path: Path, side: int) -> None:
    path = deep_colour_png(tmp_path / "bomb.png")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(bytes(content))
    refused(path, "the limit is")


def test_a_case_without_a_picture_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="has no picture"):
        read_picture(None, 8, 1)


def test_other_channel_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3"):
        read_picture(saved(tmp_path, noise()), 8, 4)


def test_image_files_read_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    paths = (
        saved(tmp_path, Image.new("L", (9, 9), 10), "a.png"),
        None,
        saved(tmp_path, Image.new("L", (9, 9), 30), "c.png"),
    )
    files = ImageFiles(paths, size=4)
    assert files.read(np.array([2, 0])).mean((1, 2, 3)).tolist() == [30, 10]
    assert files.read(np.array([], int)).shape == (0, 4, 4, 1)


def test_sixteen_bit_grey_keeps_its_values_and_size(tmp_path: Path) -> None:
    values = np.array([[0, 1, 32768], [40000, 65534, 65535]], np.uint16)
    read = read_deep_grey(saved(tmp_path, Image.fromarray(values)))
    assert read.dtype == np.uint16
    assert (read == values).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_what_is_not_sixteen_bit_grey_is_refused_as_such(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, noise().convert(mode))
    with pytest.raises(BadData, match=f"a.png: the picture is {mode}; 16-bit grey is wanted"):
        read_deep_grey(path)


def test_sixteen_bit_pictures_that_are_damaged_or_gone_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.zeros((50, 50), np.uint16)))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadData, match=r"a.png: not a readable picture"):
        read_deep_grey(path)
    with pytest.raises(BadData, match=r"b.png: no such picture file"):
        read_deep_grey(tmp_path / "b.png")


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.full((2, 2), 2**16, np.int32)), "a.tif")
    with pytest.raises(BadData, match=r"a.tif: the picture has more than 16 bits"):
        read_deep_grey(path)
