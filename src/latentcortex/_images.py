"""Image files: read as the 8-bit sRGB pixels that they stand for; what was converted is logged."""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

FORMATS: Final = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow is asked to try; a file of any other format is refused."""
MAX_PIXELS: Final = 2**24
"""Pixels of the largest image that is read, as its header says: 4096 x 4096, twice what a display of 4K shows."""
CACHE_BYTES: Final = 2**28
"""Memory for images that are kept once they were read, 256 MiB."""
ORIENTATION: Final = 0x0112
TURNED: Final = range(2, 9)
"""Orientations of EXIF in which an image is not stored as it is to be shown."""
SAME_LEVELS: Final = 2
"""Levels of 255 by which a profile of sRGB differs from sRGB at most: such profiles are rounded differently."""
SRGB_GAMMA: Final = 1 / 2.2
MODES: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> Pillow's mode of the pixels that it is for."""
CONVERTED: Final = ("RGB", "L", "1", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
"""Pillow's modes of which RGB is made."""
UNREADABLE: Final = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
"""What Pillow may raise for a damaged file."""


class ImageFiles:
    """Images by name, read when they are asked for; of those that were read last some are kept.

    Parameters
    ----------
    paths : mapping of str to Path
    max_bytes : int
        Memory for decoded images that are kept.
    """

    def __init__(self, paths: Mapping[str, Path], *, max_bytes: int = CACHE_BYTES) -> None:
        self.paths, self.max_bytes = paths, max_bytes
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._n_bytes = 0

    def __call__(self, name: str) -> Pixels:
        """Read an image, or take it from those that are kept."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        image = read_image(self.paths[name])
        self._kept[name] = image
        self._n_bytes += image.nbytes
        while self._n_bytes > self.max_bytes:
            self._n_bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


def read_image(path: Path) -> Pixels:
    """Read an image as sRGB; log what had to be converted.

    Parameters
    ----------
    path : Path
        Of one of `FORMATS`, with at most `MAX_PIXELS` pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Upright, as its EXIF tag says; from its embedded colour profile, if it has one, brought to sRGB.

    Raises
    ------
    InputError
        If the file cannot be read or is too large, has more than 8 bits per channel, is animated or partly
        transparent, or has colours that sRGB cannot be made of.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = _read(file, path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} is too large: {error} At most {MAX_PIXELS} pixels are read.") from None
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read: {error}. Copy it anew from where it came.") from None
    for one in told:
        logger.warning("An image was read, with a warning: %s", one.message, extra={"facts": {"file": path.name}})
    return image


def _read(file: BinaryIO, path: Path) -> Pixels:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(8)
        if start.startswith(b"\xff\xd8"):
            _check_bits(_jpeg_bits(file, None), path)  # Pillow knows no other number of bits than 8
        raise InputError(
            f"{path} is not an image of a format that is read ({', '.join(FORMATS)}); it starts with {start!r}."
        ) from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{path} is too large: {width} x {height} pixels, and at most {MAX_PIXELS} are read; bring it to the "
                "size at which it was shown."
            )
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path} has {image.n_frames} frames; give a still image.")  # type: ignore[attr-defined]
        kind = str(image.format)
        _check_bits(BITS[kind](file, image) if kind in BITS else 8, path)
        profile = image.info.get("icc_profile") or (PROFILES[kind](file) if kind in PROFILES else b"")
        return _rgb(image, profile, path)


def _check_bits(bits: int, path: Path) -> None:
    if bits > 8:
        raise InputError(f"{path} has {bits} bits per channel; convert it to 8 bits.")


def _rgb(image: Image.Image, profile: bytes, path: Path) -> Pixels:
    """Turn an image upright, and bring its colours to sRGB."""
    facts = {"facts": {"file": path.name}}
    # Pillow turns a TIFF while it is decoded, so the tag is asked for before.
    if image.getexif().get(ORIENTATION) in TURNED:
        logger.info("An image was turned upright by its EXIF tag.", extra=facts)
    for said in _of_other_colours(image) if not profile else ():
        logger.warning("An image %s, which is not applied: its values are taken as sRGB.", said, extra=facts)
    file_mode = image.mode
    if file_mode.startswith(("I", "F")):
        raise InputError(f"{path} has more than 8 bits per channel ({file_mode}); convert it to 8 bits.")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if {"A", "a"} & set(upright.getbands()) or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        if upright.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{path} is partly transparent; lay it on the background that was shown.")
        upright = upright.convert("L" if file_mode in ("LA", "La") else "RGB")
    if file_mode not in CONVERTED:
        raise InputError(f"{path} has colours of kind {file_mode}; convert it to sRGB.")
    if file_mode != "RGB":
        logger.info("An image was converted from %s to RGB.", file_mode, extra=facts)
    if profile:
        upright = _from_profile(upright, profile, path)
    return np.asarray(upright.convert("RGB"))


def _of_other_colours(image: Image.Image) -> Iterator[str]:
    """Say what an image without a profile tells of its colours that is not so of sRGB."""
    gamma = image.info.get("gamma", SRGB_GAMMA)
    if "srgb" not in image.info and abs(gamma - SRGB_GAMMA) > 0.01:
        yield f"states a gamma of {gamma:.3g}"
    if image.getexif().get_ifd(0xA005).get(1) == "R03":
        yield "states in its EXIF data that it is Adobe RGB"


# Colours


def _from_profile(image: Image.Image, profile: bytes, path: Path) -> Image.Image:
    """Bring an image to sRGB; it stays as it is where its profile is that of sRGB."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        if space == "RGB" and image.mode != "CMYK":
            image = image.convert("RGB")
        elif space == "GRAY" and image.mode == "1":
            image = image.convert("L")
        if MODES.get(space) != image.mode:
            raise InputError(f"{path} has pixels of kind {image.mode} and a profile for {space}; convert it to sRGB.")
        transform = _transform(profile, image.mode)
        if transform is None:
            return image
        turned = ImageCms.applyTransform(image, transform)
    except InputError:
        raise
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise InputError(f"{path} has a colour profile that cannot be used ({error}); convert it to sRGB.") from None
    if turned is None:
        raise InputError(f"{path} has a colour profile that cannot be used; convert it to sRGB.")
    about = {"file": path.name, "profile": ImageCms.getProfileDescription(given).strip()}
    logger.info("An image was brought from its embedded colour profile to sRGB.", extra={"facts": about})
    return turned


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Make the way from a profile to sRGB; None where it moves no colour by more than profiles of sRGB differ."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 16, 3)
    swatches = Image.fromarray(colours if mode == "RGB" else levels[None])
    turned = ImageCms.applyTransform(swatches, transform)
    moved = np.asarray(turned, dtype=np.int16) - np.asarray(swatches.convert("RGB"), dtype=np.int16)
    return None if np.abs(moved).max() <= SAME_LEVELS else transform


# What a format's own header says


def _numbers(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """Read numbers of a layout of `struct`; `struct.error` where the file ends before them."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _png_bits(file: BinaryIO, image: Image.Image | None) -> int:
    file.seek(12)
    first, _, _, bits = _numbers(file, ">4sIIB")
    if first != b"IHDR":
        raise SyntaxError("it does not begin with its header")
    return int(bits)


def _jpeg_bits(file: BinaryIO, image: Image.Image | None) -> int:
    """Read the precision of the frame, behind the segments before it."""
    file.seek(2)
    while True:
        start, code = _numbers(file, ">BB")
        if start != 0xFF:
            raise SyntaxError("a segment is missing")
        if code == 0xFF:  # padding
            file.seek(-1, io.SEEK_CUR)
        elif code != 0x01 and not 0xD0 <= code <= 0xD8:
            (length,) = _numbers(file, ">H")
            if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
                return int(_numbers(file, ">B")[0])
            file.seek(length - 2, io.SEEK_CUR)


def _ppm_bits(file: BinaryIO, image: Image.Image | None) -> int:
    """Read the bits of the value that stands for white."""
    file.seek(0)
    words = re.sub(rb"#[^\r\n]*", b" ", file.read(2**16)).split(None, 4)
    if words[0] in (b"P1", b"P4"):
        return 1
    if words[0] not in (b"P2", b"P3", b"P5", b"P6"):
        raise SyntaxError(f"a portable map of kind {words[0]!r}")
    return int(words[3]).bit_length()


def _tiff_bits(file: BinaryIO, image: Any) -> int:
    bits = int(np.max(image.tag_v2.get(258, 1)))
    if bits <= 8 and set(np.ravel(image.tag_v2.get(339, 1))) - {1, 4}:
        raise SyntaxError("its samples have a sign")
    return bits


def _jpeg2000_bits(file: BinaryIO, image: Image.Image | None) -> int:
    """Read the bits of the components, or of the colours of the palette that these point into."""
    boxes = _jpeg2000_boxes(file)
    if b"pclr" in boxes:
        file.seek(boxes[b"pclr"][0])
        _, n = _numbers(file, ">HB")
        depths = _numbers(file, f">{n}B")
    else:
        file.seek(boxes[b"jp2c"][0] + 40)
        (n,) = _numbers(file, ">H")
        depths = _numbers(file, f">{3 * n}B")[::3]
    if any(depth & 0x80 for depth in depths):
        raise SyntaxError("its samples have a sign")
    return max(int(depth & 0x7F) + 1 for depth in depths)


def _jpeg2000_profile(file: BinaryIO) -> bytes:
    """Read the colour profile, if there is one."""
    boxes = _jpeg2000_boxes(file)
    if b"colr" not in boxes:
        return b""
    start, end = boxes[b"colr"]
    file.seek(start)
    method, _, _ = _numbers(file, ">BBB")
    return file.read(end - start - 3) if method in (2, 3) else b""


def _jpeg2000_boxes(file: BinaryIO) -> dict[bytes, tuple[int, int]]:
    """Find the content of the boxes, (start, end) by type, those of the header and the codestream among them."""
    file.seek(0)
    if file.read(4) == b"\xff\x4f\xff\x51":
        return {b"jp2c": (0, 0)}
    size = file.seek(0, io.SEEK_END)
    boxes: dict[bytes, tuple[int, int]] = {}
    place = 0
    while place < size and b"jp2c" not in boxes:
        file.seek(place)
        length, kind = _numbers(file, ">I4s")
        start = place + 8
        if length == 1:
            (length,) = _numbers(file, ">Q")
            start += 8
        end = place + length if length else size
        boxes.setdefault(kind, (start, end))
        place = start if kind == b"jp2h" else max(end, start)
    return boxes


def _bmp_profile(file: BinaryIO) -> bytes:
    """Read the colour profile that a header of version 5 may point to."""
    file.seek(14)
    (length,) = _numbers(file, "<I")
    if length < 124:
        return b""
    file.seek(14 + 56)
    kind = file.read(4)
    file.seek(14 + 112)
    start, size = _numbers(file, "<II")
    file.seek(14 + start)
    return file.read(size) if kind == b"DEBM" else b""


BITS: Final[dict[str, Callable[[BinaryIO, Any], int]]] = {
    "JPEG": _jpeg_bits,
    "JPEG2000": _jpeg2000_bits,
    "PNG": _png_bits,
    "PPM": _ppm_bits,
    "TIFF": _tiff_bits,
}
"""Where a format says how many bits a sample has; those of the others have 8 at most."""
PROFILES: Final[dict[str, Callable[[BinaryIO], bytes]]] = {"BMP": _bmp_profile, "JPEG2000": _jpeg2000_profile}
"""Where formats keep a colour profile that Pillow does not look at."""
