"""Read a picture file as uint8, as a square or at its own size, or say why it cannot be used.

What is read: pictures of 8 bits or less per channel without transparency (an alpha channel that
hides nothing is dropped), one frame per file (PNG, JPEG, TIFF, BMP, GIF, WebP). For a square the
whole picture is scaled: the aspect is not kept, nothing is cropped. Scaling is bilinear over the
full footprint of each new pixel (antialiased) and works on uint8. An orientation tag is not obeyed:
a lesion mask has none, and both must agree.

Anything that would need a decision on the data (which frame, what shows through, how 16 bits become
8) is refused rather than guessed. `read_deep_grey` gives the 16 bits to a dataset that knows what
they mean.
"""

# H, W height and width of the file's picture

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from bench.errors import BadData

MAX_PIXELS = 64 * 1024 * 1024  # H x W; a small file can claim to be larger and fill the memory
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MODES = frozenset({"1", "L", "P", "RGB"})
ALPHA_MODES = frozenset({"LA", "RGBA"})
DEEP_MODES = frozenset({"I", "I;16", "I;16B"})  # what Pillow calls 16-bit grey, by its version
OPAQUE = 255
UPRIGHT = 1  # the orientation tag of a picture that is as it is to be seen
DEEP_WHITE = 2**16 - 1
# What Pillow's decoders let through on damaged files.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def read_picture(path: Path | None, size: int, channels: int) -> np.ndarray:
    """Return a picture as uint8 (size, size, channels).

    Colour becomes grey by luma (ITU-R 601); grey becomes colour by repetition.

    Args:
        path: the file; None is refused: absent pictures are not read.
        size: pixels of a side.
        channels: 1 for grey, 3 for RGB.

    Raises:
        BadData: no such file, no picture, damaged, more than 8 bits, transparent, animated, or
            larger than `MAX_PIXELS`; the file is named.
        ValueError: no path, or channels that are neither 1 nor 3.
    """
    if path is None:
        raise ValueError("path is None: this case has no picture, read the rows that have one")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    # Palettes and bilevel pictures would be scaled by nearest neighbour, so the mode changes first.
    image = _converted(_loaded(path), "L" if channels == 1 else "RGB")
    scaled = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(scaled).reshape(size, size, channels)


def read_grey(path: Path) -> np.ndarray:
    """Return a picture as grey values at its own size: uint8 (H, W).

    Raises:
        BadData: as for `read_picture`.
    """
    return np.asarray(_converted(_loaded(path), "L"))


def read_deep_grey(path: Path) -> np.ndarray:
    """Return a picture of 16-bit grey at its own size: uint16 (H, W).

    Raises:
        BadData: as for `read_picture`, but that 16 bits are wanted and anything else is refused.
    """
    values = np.asarray(_loaded(path, _check_deep))
    if values.min() < 0 or values.max() > DEEP_WHITE:
        raise BadData(f"{path}: the picture has more than 16 bits per pixel; convert it to 16 bits")
    return values.astype(np.uint16)


def is_turned(path: Path) -> bool:
    """Say whether a picture's orientation tag asks for a turn or a flip; it is not obeyed."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "PNG" and "exif" not in image.info:
                return False  # Pillow would decode the picture to look for a tag behind it
            return image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) not in (0, UPRIGHT)
    except (*DAMAGE, Image.DecompressionBombError):
        return False  # the reader names it


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """Return the picture as grey (`L`) or `RGB`; a palette becomes grey from its colours."""
    return (image.convert("RGB") if image.mode == "P" else image).convert(mode)


def _check(image: Image.Image, path: Path) -> None:
    """Refuse what cannot become 8-bit grey or RGB without a decision on the data."""
    _check_extent(image, path)
    if _is_deep(image):
        raise BadData(f"{path}: the picture has more than 8 bits per channel; convert it to 8 bits")
    if "transparency" in image.info:
        raise _transparent(path)
    if image.mode not in MODES | ALPHA_MODES:
        raise BadData(f"{path}: the picture is {image.mode}; convert it to 8-bit grey or RGB")


def _check_deep(image: Image.Image, path: Path) -> None:
    """Refuse what is not 16-bit grey."""
    _check_extent(image, path)
    if image.mode not in DEEP_MODES:
        raise BadData(f"{path}: the picture is {image.mode}; 16-bit grey is wanted, as released")


def _check_extent(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} x {height}")
    if getattr(image, "n_frames", 1) > 1:
        raise BadData(f"{path}: the file holds several frames; keep the one that is meant")


def _loaded(path: Path, check: Callable[[Image.Image, Path], None] = _check) -> Image.Image:
    """Return the decoded picture, without alpha; `check` refuses it before it is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                check(image, path)
                image.load()
                return _without_alpha(image, path)
    except FileNotFoundError as error:
        raise BadData(f"{path}: no such picture file; complete the release") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(path, "more") from error
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error).removesuffix(f" {str(path)!r}")
        raise BadData(f"{path}: not a readable picture ({reason}); get the file again") from error


def _without_alpha(image: Image.Image, path: Path) -> Image.Image:
    """Drop an alpha channel that hides nothing: some programs write one into every picture."""
    if image.mode not in ALPHA_MODES:
        return image
    if image.getchannel("A").getextrema() != (OPAQUE, OPAQUE):
        raise _transparent(path)
    return image.convert(image.mode.removesuffix("A"))


def _transparent(path: Path) -> BadData:
    return BadData(f"{path}: the picture has transparency; convert it to grey or RGB")


def _is_deep(image: Image.Image) -> bool:
    """Say whether the file has more than 8 bits per channel.

    The mode tells it for grey; Pillow cuts 16-bit colour to 8 bits without a word, and only the
    decoder's arguments show it.
    """
    if image.mode.startswith(("I", "F")):
        return True
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _too_large(path: Path, pixels: str) -> BadData:
    return BadData(
        f"{path}: the picture has {pixels} pixels, the limit is {MAX_PIXELS}; scale it down first"
    )
