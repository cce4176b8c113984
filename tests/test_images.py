"""Image files are read as the sRGB that they stand for or refused in one line, in memory that has a bound."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from latentcortex import _images
from latentcortex._images import FORMATS, ImageFiles, read_image
from latentcortex.errors import InputError

PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((24, 16))
)
PICTURE = Image.fromarray(PIXELS)
LOSSLESS = {
    "a.bmp": {},
    "a.png": {},
    "a.ppm": {},
    "a.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "a.jp2": {},
    "a.j2k": {},
    "a.webp": {"lossless": True},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_eight_bits_of_every_format_that_keeps_them_are_read_as_they_are(name: str, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    PICTURE.save(tmp_path / name, **LOSSLESS[name])
    np.testing.assert_array_equal(read_image(tmp_path / name), PIXELS)
    assert not caplog.records


def test_values_of_a_portable_map_are_those_that_its_white_gives_them(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 # not 65535\n1 1\n# nor 16 bits\n10\n" + bytes([0, 5, 10]))
    assert read_image(tmp_path / "a.ppm").tolist() == [[[0, 128, 255]]]


def png(bits: int, colour: int, rows: bytes, *, width: int = 2, height: int = 2, more: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + parts[0] + more + b"".join(parts[1:])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def jpeg_of_12_bits() -> bytes:
    content = bytearray(saved(PICTURE, "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = 12
    return bytes(content)


DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 15
THROUGH = Image.fromarray(np.dstack([PIXELS, np.full(PIXELS.shape[:2], 200, np.uint8)]))
TURNED = Image.Exif()
TURNED[0x0112] = 6
REFUSED = {
    "16-bit colour PNG": (lambda: png(16, 2, (b"\0" + b"\xff\x00" * 6) * 2), "16 bits per channel"),
    "16-bit grey PNG": (lambda: saved(Image.fromarray(DEEP), "PNG"), "16 bits per channel"),
    "16-bit colour PPM": (lambda: b"P6 2 2 65535\n" + bytes(24), "16 bits per channel"),
    "10-bit grey PPM": (lambda: b"P5 2 2 1023\n" + bytes(8), "10 bits per channel"),
    "16-bit PPM in words": (lambda: b"P3 1 1 65535\n1 2 3\n", "16 bits per channel"),
    "16-bit TIFF": (lambda: saved(Image.fromarray(DEEP), "TIFF"), "16 bits per channel"),
    "float TIFF": (lambda: saved(Image.fromarray(DEEP.astype(np.float32)), "TIFF"), "32 bits per channel"),
    "16-bit JPEG 2000": (lambda: saved(Image.fromarray(DEEP), "JPEG2000"), "16 bits per channel"),
    "16-bit codestream": (lambda: saved(Image.fromarray(DEEP), "JPEG2000", no_jp2=True), "16 bits per channel"),
    "12-bit JPEG": (jpeg_of_12_bits, "12 bits per channel"),
    "another format": (lambda: saved(PICTURE, "AVIF"), r"not an image of a format that is read \(BMP, GIF, JPEG"),
    "animated GIF": (lambda: saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]), "2 frames"),
    "animated PNG": (lambda: saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]), "2 frames"),
    "animated WebP": (lambda: saved(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)]), "2 frames"),
    "pages of a TIFF": (lambda: saved(PICTURE, "TIFF", save_all=True, append_images=[PICTURE]), "2 frames"),
    "transparent WebP": (lambda: saved(THROUGH, "WEBP", lossless=True), "partly transparent"),
    "transparent TIFF": (lambda: saved(THROUGH, "TIFF"), "partly transparent"),
    "premultiplied TIFF": (
        lambda: saved(THROUGH, "TIFF").replace(struct.pack("<HHIH", 338, 3, 1, 2), struct.pack("<HHIH", 338, 3, 1, 1)),
        "partly transparent",
    ),
    "transparent JPEG 2000": (lambda: saved(THROUGH, "JPEG2000"), "partly transparent"),
    "transparent colour of a PNG": (
        lambda: saved(Image.new("RGB", (4, 4)), "PNG", transparency=(0, 0, 0)),
        "partly transparent",
    ),
    "CIELAB TIFF": (lambda: saved(Image.new("LAB", (4, 4)), "TIFF"), "colours of kind LAB"),
    "profile that is none": (lambda: saved(PICTURE, "PNG", icc_profile=b"none" * 50), "profile that cannot be used"),
    "profile of other pixels": (
        lambda: saved(PICTURE.convert("CMYK"), "JPEG", icc_profile=adobe_rgb()),
        "pixels of kind CMYK and a profile for RGB",
    ),
    "header of a PNG of 3.6 gigapixels": (lambda: png(8, 2, b"", width=60000, height=60000), "too large"),
    "header of a PNG of 25 megapixels": (
        lambda: png(8, 2, b"", width=5000, height=5000),
        "too large: 5000 x 5000 pixels, and at most 16777216 are read",
    ),
    "header of a BMP of 100 megapixels": (
        lambda: saved(PICTURE, "BMP")[:18] + struct.pack("<ii", 10000, 10000) + saved(PICTURE, "BMP")[26:],
        "too large",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_would_be_cut_or_guessed_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    make, says = REFUSED[fault]
    (tmp_path / "x").write_bytes(make())
    with pytest.raises(InputError, match=says) as caught:
        read_image(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_only_an_image_that_was_turned_upright_is_said_to_be(kind: str, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    described = Image.Exif()
    described[0x010E] = "a scene"
    described[0x0112] = 1
    for exif in ({}, {"exif": described}):
        (tmp_path / "x").write_bytes(saved(PICTURE, kind, **exif))
        assert read_image(tmp_path / "x").shape == PIXELS.shape
    assert "upright" not in caplog.text
    (tmp_path / "x").write_bytes(saved(PICTURE, kind, exif=TURNED, **({"lossless": True} if kind == "WEBP" else {})))
    image = read_image(tmp_path / "x")
    assert caplog.text.count("turned upright") == 1
    if kind != "JPEG":
        np.testing.assert_array_equal(image, np.rot90(PIXELS, -1))
    assert image.shape == (24, 16, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_other_modes_become_rgb_and_it_is_logged(mode: str, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    image = PICTURE.convert(mode)
    image.save(path, **({"quality": 100} if mode == "CMYK" else {}))
    np.testing.assert_allclose(read_image(path).astype(int), np.asarray(image.convert("RGB")), atol=8)
    assert [r.getMessage() for r in caplog.records] == [f"An image was converted from {mode} to RGB."]


# Colour profiles


def adobe_rgb(gamma: float = 2.2) -> bytes:
    """Write an ICC profile with the primaries of Adobe RGB (1998), adapted to D50, as in its specification."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    words = b"wide\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + bytes(78)
    tags = {
        b"desc": described,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        **{name: xyz(*row) for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE.T, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    size = place + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""Linear red, green and blue -> XYZ of D50."""


def in_srgb(pixels: np.ndarray, gamma: float = 2.2) -> np.ndarray:
    """Convert Adobe RGB by the formulas of both specifications."""
    linear = np.clip((pixels / 255) ** gamma @ ADOBE.T @ np.linalg.inv(SRGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_an_embedded_profile_is_applied_and_it_is_logged(kind: str, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    how = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "x").write_bytes(saved(PICTURE, kind, icc_profile=adobe_rgb(), **how))
    image = read_image(tmp_path / "x")
    np.testing.assert_allclose(image, in_srgb(PIXELS), atol=2)
    assert np.abs(image.astype(int) - PIXELS).max() > 10
    assert [r.getMessage() for r in caplog.records] == [
        "An image was brought from its embedded colour profile to sRGB."
    ]
    assert caplog.records[0].facts["profile"] == "wide"


def test_profiles_that_pillow_does_not_look_at_are_applied(tmp_path: Path) -> None:
    plain, profile = saved(PICTURE, "JPEG2000"), adobe_rgb()
    place = plain.index(b"colr") - 4
    (length,) = struct.unpack(">I", plain[place : place + 4])
    box = struct.pack(">I", 11 + len(profile)) + b"colr" + bytes([2, 0, 0]) + profile
    header = plain.index(b"jp2h") - 4
    (size,) = struct.unpack(">I", plain[header : header + 4])
    content = plain[:header] + struct.pack(">I", size - length + len(box)) + plain[header + 4 : place] + box
    (tmp_path / "x.jp2").write_bytes(content + plain[place + length :])
    np.testing.assert_allclose(read_image(tmp_path / "x.jp2"), in_srgb(PIXELS), atol=2)

    plain = saved(PICTURE, "BMP")
    pixels = plain[54:]
    info = struct.pack("<I", 124) + plain[18:54] + bytes(16) + b"DEBM" + bytes(48)
    info += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    assert len(info) == 124
    start = b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels) + len(profile), 0, 0, 14 + 124)
    (tmp_path / "x.bmp").write_bytes(start + info + pixels + profile)
    np.testing.assert_allclose(read_image(tmp_path / "x.bmp"), in_srgb(PIXELS), atol=2)


def test_an_image_whose_profile_is_that_of_srgb_stays_as_it_is(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    PICTURE.save(tmp_path / "x.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), PIXELS)
    assert not caplog.records
    grey = PICTURE.convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.asarray(grey.convert("RGB")))


def test_other_colours_that_a_file_only_states_are_said(tmp_path: Path, caplog) -> None:
    rows = (b"\0" + bytes(6)) * 2
    (tmp_path / "x.png").write_bytes(png(8, 2, rows, more=chunk(b"gAMA", struct.pack(">I", 100000))))
    read_image(tmp_path / "x.png")
    assert "states a gamma of 1, which is not applied" in caplog.text
    caplog.clear()
    (tmp_path / "x.png").write_bytes(png(8, 2, rows, more=chunk(b"gAMA", struct.pack(">I", 45455))))
    read_image(tmp_path / "x.png")
    assert not caplog.records
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    PICTURE.save(tmp_path / "x.jpg", exif=exif)
    read_image(tmp_path / "x.jpg")
    assert "states in its EXIF data that it is Adobe RGB" in caplog.text


# Damage, and memory


def test_no_flipped_bit_ends_in_anything_but_pixels_or_one_line(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(1), tmp_path / "x"
    for kind in FORMATS:
        whole = saved(PICTURE, kind, **({"exif": TURNED} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}))
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(min(len(content), 300), size=2):
                content[place] ^= 1 << rng.integers(8)
            path.write_bytes(content)
            try:
                assert read_image(path).dtype == np.uint8
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_an_image_that_may_not_be_read_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "folder.png")
    if os.getuid():
        (tmp_path / "x.png").touch(mode=0)
        with pytest.raises(InputError):
            read_image(tmp_path / "x.png")


def test_images_that_are_kept_are_bounded_by_their_bytes(tmp_path: Path, monkeypatch) -> None:
    paths = {name: tmp_path / f"{name}.png" for name in "abc"}
    for path in paths.values():
        PICTURE.save(path)
    read: list[Path] = []
    whole: Callable[[Path], np.ndarray] = _images.read_image
    monkeypatch.setattr(_images, "read_image", lambda path: read.append(path) or whole(path))
    files = ImageFiles(paths, max_bytes=2 * PIXELS.nbytes)
    for name in "ababcbca":
        files(name)
    assert [path.stem for path in read] == ["a", "b", "c", "a"]
    none = ImageFiles(paths, max_bytes=PIXELS.nbytes - 1)
    np.testing.assert_array_equal(none("a"), PIXELS)
    np.testing.assert_array_equal(none("a"), PIXELS)
    assert len(read) == 6


MANY = """
import sys
from pathlib import Path
import psutil
from latentcortex._images import ImageFiles
files = ImageFiles({str(i): Path(sys.argv[1]) for i in range(40)})
before = psutil.Process().memory_info().rss
for i in range(40):
    assert files(str(i)).shape == (2048, 2048, 3)
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def test_many_large_images_take_no_more_memory_than_is_stated(tmp_path: Path) -> None:
    Image.new("RGB", (2048, 2048), (90, 120, 60)).save(tmp_path / "x.png")
    done = subprocess.run([sys.executable, "-c", MANY, tmp_path / "x.png"], check=True, capture_output=True, text=True)
    # 40 images are 480 MiB, of which 256 are kept.
    assert 200 < float(done.stdout) < 400
