"""Photos of every kind as the model sees them, and what is said of those that are not read."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from photos import (
    ADOBE,
    DISPLAY_P3,
    SRGB,
    encoded,
    grey_profile,
    in_srgb,
    ink_profile,
    levels,
    light,
    png,
    profile_chunk,
    rgb_profile,
)
from wan_runtime.contract.service import Size
from wan_runtime.data.clips import ClipRejected, read_picture
from wan_runtime.data.picture import read
from wan_runtime.data.rejected import PictureRejected
from wan_runtime.serving.gateway.pictures import first_frame
from wan_runtime.serving.problems import Refusal

SIDE = 16
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
SEEN = np.where(np.arange(SIDE) < SIDE // 2, 255, 0).astype(np.uint8) + 0 * RAMP
"""How opaque: the left half."""
GREYS = np.repeat(RAMP[..., None], 3, axis=2)
HALF_WHITE = np.where(SEEN[..., None] == 0, 255, COLOURS)
DEEP = RAMP.astype(np.uint16) * 257
GAMMA = 2.19921875
"""Of AdobeRGB."""


def with_alpha(colours: NDArray[np.uint8], alpha: NDArray[np.uint8] = SEEN) -> Image.Image:
    return Image.fromarray(np.dstack([colours, alpha]))


def palette(mode: str = "P") -> Image.Image:
    """Of 256 greys."""
    image = Image.fromarray(RAMP, "L").convert("P")
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    return image.convert(mode)


def primaries(*values: int) -> tuple[bytes, bytes]:
    """A chunk: white, red, green and blue."""
    return b"cHRM", struct.pack(">8I", *values)


SRGB_PROFILE = rgb_profile(SRGB)
P3_PROFILE = rgb_profile(DISPLAY_P3)
EVERY_PNG = {
    "bilevel": (encoded(Image.fromarray(RAMP > 127), "PNG"), np.where(GREYS > 127, 255, 0)),
    "grey": (encoded(Image.fromarray(RAMP), "PNG"), GREYS),
    "grey with a transparent level": (
        encoded(Image.fromarray(RAMP), "PNG", transparency=100),
        np.where(GREYS == 100, 255, GREYS),
    ),
    **{
        f"grey of {bits} bits with a transparent level": (
            png(RAMP % 2**bits, (b"tRNS", b"\0\1"), kind=0, bits=bits),
            np.where(GREYS % 2**bits == 1, 255, GREYS % 2**bits * (255 // (2**bits - 1))),
        )
        for bits in (1, 2, 4)
    },
    "grey and alpha": (encoded(with_alpha(RAMP), "PNG"), np.where(SEEN[..., None], GREYS, 255)),
    "grey of 16 bits": (png(DEEP, kind=0), GREYS),
    "grey of 16 bits with a transparent level": (
        png(DEEP, (b"tRNS", struct.pack(">H", 100 * 257)), kind=0),
        np.where(GREYS == 100, 255, GREYS),
    ),
    "grey and alpha of 16 bits": (
        png(np.dstack([DEEP, SEEN.astype(np.uint16) * 257]), kind=4),
        np.where(SEEN[..., None], GREYS, 255),
    ),
    "colours of 16 bits": (png(COLOURS.astype(np.uint16) * 257), COLOURS),
    "colours and alpha of 16 bits": (
        png(np.dstack([COLOURS, SEEN]).astype(np.uint16) * 257, kind=6),
        HALF_WHITE,
    ),
    "palette": (encoded(palette(), "PNG"), GREYS),
    "palette with a transparent place": (
        encoded(palette(), "PNG", transparency=100),
        np.where(GREYS == 100, 255, GREYS),
    ),
    "palette with alphas": (
        encoded(palette(), "PNG", transparency=bytes(range(256))),
        GREYS * (GREYS / 255) + 255 - GREYS,
    ),
    "a transparent colour": (
        encoded(Image.fromarray(GREYS), "PNG", transparency=(100, 100, 100)),
        np.where(GREYS == 100, 255, GREYS),
    ),
    "cut out": (encoded(with_alpha(COLOURS), "PNG"), HALF_WHITE),
    "half transparent": (
        encoded(with_alpha(COLOURS, np.full_like(RAMP, 51)), "PNG"),
        COLOURS * 0.2 + 255 * 0.8,
    ),
    "sRGB's profile": (encoded(Image.fromarray(COLOURS), "PNG", icc_profile=SRGB_PROFILE), COLOURS),
    "Display P3": (
        encoded(Image.fromarray(COLOURS), "PNG", icc_profile=P3_PROFILE),
        in_srgb(light(COLOURS), DISPLAY_P3),
    ),
    "Display P3, cut out": (
        encoded(with_alpha(COLOURS), "PNG", icc_profile=P3_PROFILE),
        np.where(SEEN[..., None], in_srgb(light(COLOURS), DISPLAY_P3), 255),
    ),
    "AdobeRGB": (
        encoded(Image.fromarray(COLOURS), "PNG", icc_profile=rgb_profile(ADOBE, GAMMA)),
        in_srgb((COLOURS / 255) ** GAMMA, ADOBE),
    ),
    "grey with a grey profile": (
        encoded(Image.fromarray(RAMP), "PNG", icc_profile=grey_profile(1.8)),
        levels((GREYS / 255) ** 1.8),
    ),
    "grey of 16 bits with a grey profile": (
        png(DEEP, profile_chunk(grey_profile(1.8)), kind=0),
        levels((GREYS / 255) ** 1.8),
    ),
    "grey with a profile of RGB": (
        encoded(Image.fromarray(RAMP), "PNG", icc_profile=rgb_profile(SRGB, 1)),
        levels(GREYS / 255),
    ),
    "palette with a profile": (
        encoded(palette(), "PNG", icc_profile=rgb_profile(SRGB, 1)),
        levels(GREYS / 255),
    ),
    "a profile of another kind of picture": (
        encoded(Image.fromarray(COLOURS), "PNG", icc_profile=grey_profile(1)),
        COLOURS,
    ),
    "a broken profile": (png(COLOURS, profile_chunk(bytes(500))), COLOURS),
    "half a profile": (png(COLOURS, profile_chunk(P3_PROFILE[:300])), COLOURS),
    "a profile that does not unpack": (png(COLOURS, (b"iCCP", b"icc\0\0none")), COLOURS),
    "gAMA of sRGB": (png(COLOURS, (b"gAMA", struct.pack(">I", 45455))), COLOURS),
    "gAMA of light": (
        png(COLOURS, (b"gAMA", struct.pack(">I", 100000))),
        levels(COLOURS / 255),
    ),
    "gAMA beside sRGB": (
        png(COLOURS, (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))),
        COLOURS,
    ),
    "cHRM of sRGB": (
        png(COLOURS, primaries(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        COLOURS,
    ),
    "cICP of sRGB": (
        png(COLOURS, (b"cICP", bytes((1, 13, 0, 1))), (b"gAMA", struct.pack(">I", 100000))),
        COLOURS,
    ),
    "cICP of Display P3 beside its profile": (
        png(COLOURS, (b"cICP", bytes((12, 13, 0, 1))), profile_chunk(P3_PROFILE)),
        in_srgb(light(COLOURS), DISPLAY_P3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY_PNG)
def test_a_png_has_the_colours_that_a_browser_shows(name: str) -> None:
    data, expected = EVERY_PNG[name]
    image = read(data)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image) - np.asarray(expected, float)).max() <= 1.5


def test_other_formats_have_them_too() -> None:
    large = Image.fromarray(COLOURS).resize((64, 64), Image.Resampling.NEAREST)
    inks = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    see_through = Image.new("RGBA", (64, 64), (200, 30, 10, 0))
    gif = Image.fromarray(np.zeros((64, 64), np.uint8)).convert("P")
    gif.putpalette((200, 30, 10))
    for data, expected in (
        (encoded(large, "WEBP", lossless=True), np.asarray(large)),
        (encoded(large, "JPEG", quality=100, subsampling=0), np.asarray(large)),
        (encoded(inks, "JPEG", quality=100), (0, 255, 255)),
        (encoded(inks, "JPEG", quality=100, icc_profile=ink_profile((140, 90, 78))), (0, 151, 218)),
        (encoded(see_through, "WEBP", lossless=True, exact=True), 255),
        (encoded(gif, "GIF"), (200, 30, 10)),
        (encoded(gif, "GIF", transparency=0), 255),
        (
            encoded(large, "WEBP", lossless=True, icc_profile=P3_PROFILE),
            in_srgb(light(np.asarray(large)), DISPLAY_P3),
        ),
    ):  # fmt: skip
        assert np.abs(np.asarray(read(data)) - np.asarray(expected, float)).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO"])
def test_of_several_pictures_the_first_counts(kind: str) -> None:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert read(data).getpixel((16, 16)) == pytest.approx((255, 0, 0), abs=3)


def test_a_still_beside_the_frames_of_a_png_is_refused() -> None:
    """Browsers show the first frame, programs that know no animation the still."""
    still, *frames = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime"))
    data = encoded(still, "PNG", save_all=True, append_images=frames, default_image=True)
    with pytest.raises(PictureRejected, match="an animated PNG with a still picture beside its"):
        read(data)


def test_around_the_first_picture_of_a_gif_is_white() -> None:
    data = bytearray(encoded(palette().crop((0, 0, 8, 8)), "GIF"))
    data[6:10] = struct.pack("<HH", 16, 16)  # the screen
    at = data.index(b",", 13 + 3 * 2 ** (1 + (data[10] & 7)))
    data[at + 1 : at + 5] = struct.pack("<HH", 4, 6)  # the picture on it
    expected = np.full((16, 16, 3), 255)
    expected[6:14, 4:12] = GREYS[:8, :8]
    assert np.array_equal(np.asarray(read(bytes(data))), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_it_is_turned_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8, :8] = 255  # a mark at the top left
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), kind, exif=exif, quality=95)
    assert np.abs(np.asarray(read(data)).astype(int) - upright).max() < 40


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_xmp_turns_nothing(kind: str) -> None:
    xmp = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    options = {"pnginfo": text} if kind == "PNG" else {"xmp": xmp.encode()}
    data = encoded(Image.new("RGB", (40, 24)), kind, **options)
    assert xmp.encode() in data
    assert read(data).size == (40, 24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # of Pillow
def test_broken_exif_turns_nothing() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"none"):
        data = encoded(Image.new("RGB", (40, 24)), "JPEG", exif=exif)
        assert read(data).size == (40, 24)


JPEG = encoded(Image.fromarray(COLOURS).resize((256, 192)), "JPEG")
BIG = np.zeros((8, 8, 3), np.uint8)
HEIC, AVIF = (
    struct.pack(">I", 24) + b"ftyp" + major + b"\0\0\0\0mif1" + brand
    for major, brand in ((b"heic", b"heic"), (b"mif1", b"avif"))
)
DAMAGED = "cannot be decoded: it is damaged, or a part of it is missing"
WORST = {
    "nothing": (b"", "is empty"),
    "text": (b"not a picture at all", "is no picture of a known kind: send a JPEG or PNG"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "is a web page, which is not read"),
    "HEIC": (HEIC, "is HEIC, which is not read: send a JPEG or PNG"),
    "AVIF": (AVIF, "is AVIF, which is not read: send a JPEG or PNG"),
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG, which"),
    "TIFF": (encoded(Image.fromarray(COLOURS), "TIFF"), "is TIFF, which is not read"),
    "BMP": (encoded(Image.fromarray(COLOURS), "BMP"), "is BMP, which is not read"),
    "a video": (struct.pack(">I", 16) + b"ftypisom\0\0\2\0", "is a video, which is not read"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "a JPEG cut short": (JPEG[:900], DAMAGED),
    "a JPEG's first bytes": (JPEG[:3], DAMAGED),
    "a PNG cut short": (png(COLOURS)[:-60], DAMAGED),
    "a WebP cut short": (encoded(Image.fromarray(COLOURS), "WEBP")[:-40], DAMAGED),
    "a GIF cut short": (encoded(palette(), "GIF")[:40], DAMAGED),
    "a PNG's first bytes": (png(COLOURS)[:9], DAMAGED),
    "a wrong checksum": (png(COLOURS).replace(b"IHDR\0\0\0", b"IHDR\0\0\1"), DAMAGED),
    "no width": (png(BIG, size=(0, 8)), DAMAGED),
    "no height": (png(BIG, size=(8, 0)), DAMAGED),
    "a hundred megapixels": (png(BIG, size=(10_000, 10_000)), "has .*more than 89 million"),
    "a bomb": (png(BIG, size=(60_000, 60_000)), "has .*more than 89 million"),
    "a text that unpacks to 5 MB": (
        png(BIG, (b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000)))),
        "has a text or a profile of more than 1 MiB",
    ),
    "a profile that unpacks to 5 MB": (
        png(BIG, profile_chunk(bytes(5_000_000))),
        "has a text or a profile of more than 1 MiB",
    ),
    "a profile of 5 MB": (
        encoded(Image.fromarray(COLOURS), "JPEG", icc_profile=bytes(5_000_000)),
        "has an ICC profile of more than 4 MiB: save it as sRGB",
    ),
    "HDR": (png(BIG, (b"cICP", bytes((9, 16, 0, 1)))), r"is HDR \(PQ\), which is not read"),
    "colours without a profile": (
        png(BIG, (b"cICP", bytes((12, 13, 0, 1)))),
        r"names its colours 12/13/0/1 \(cICP\) without a profile: save it as sRGB",
    ),
    "primaries without a profile": (
        png(BIG, primaries(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
        r"has primaries of its own \(cHRM\) without a profile: save it as sRGB",
    ),
    "a transparent colour of 16 bits": (
        png(BIG.astype(np.uint16), (b"tRNS", bytes(6))),
        "has a transparent colour of 16 bits: save it with 8",
    ),
}  # fmt: skip
PYTHONS = re.compile(
    r"0x|Error|error|PIL|_io|cannot identify|image file|chunk|stream|codec|Traceback"
)


@pytest.mark.parametrize("name", WORST)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    data, text = WORST[name]
    with pytest.raises(PictureRejected, match=text) as caught:
        read(data)
    assert not PYTHONS.search(caught.value.message)
    with pytest.raises(Refusal, match=f"^input_reference {text}") as refused:
        first_frame(data, Size(width=16, height=16), 89_000_000)
    assert refused.value.param == "input_reference"
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(ClipRejected) as rejected:
        read_picture(path, width=16, height=16)
    assert rejected.value.message == caught.value.message


def test_the_limit_of_pixels_is_the_callers() -> None:
    assert read(png(BIG), 64).size == (8, 8)
    with pytest.raises(PictureRejected, match="has 8x8 pixels, more than 6e-05 million"):
        read(png(BIG), 60)


def test_damage_of_any_kind_is_a_picture_or_a_refusal() -> None:
    draw = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(COLOURS)
    files = [
        png(COLOURS, profile_chunk(P3_PROFILE)), encoded(palette(), "GIF"),
        encoded(image, "WEBP", icc_profile=P3_PROFILE, exif=exif),
        encoded(image, "JPEG", icc_profile=P3_PROFILE, exif=exif),
    ]  # fmt: skip
    ends = []
    for data in files * 100:
        broken = bytearray(data)
        for at in draw.integers(0, len(data), 3):
            broken[at] = draw.integers(256)
        ends.append(said(bytes(broken[: draw.integers(len(data) // 2, len(data) + 1)])))
    assert 0 < ends.count("") < len(ends)
    assert not [each for each in ends if PYTHONS.search(each)]


def said(data: bytes) -> str:
    """Why a picture is not read; nothing if it is."""
    try:
        assert read(data).mode == "RGB"
    except PictureRejected as rejected:
        return rejected.message
    return ""


@pytest.mark.parametrize("name", EVERY_PNG)
def test_serving_and_training_see_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(EVERY_PNG[name][0])
    served = first_frame(path.read_bytes(), Size(width=16, height=16), 10**6)
    trained_on = read_picture(path, width=16, height=16)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(served))), trained_on)
