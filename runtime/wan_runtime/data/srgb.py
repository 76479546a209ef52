"""The colours of a decoded picture as sRGB of 8 bits, laid over white. Pillow only."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageCms

from wan_runtime.data.rejected import PictureRejected

PROFILE_BYTES = 2**22
"""Size of an ICC profile, at most, in bytes: profiles of printers have 2 MB."""
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> mode of the pictures that it is for."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of a PNG's cICP, as ITU-T H.273 numbers them."""
SDR = (1, 6, 13)
"""Those that are shown as sRGB's."""
BT709 = 1
"""The primaries of sRGB."""
GAMMA, GAMMA_CLOSE = 1 / 2.2, 0.02
"""Value of a PNG's gAMA chunk that means sRGB, and its tolerance."""
CHROMATICITIES, CLOSE = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 0.01
"""White, red, green and blue of sRGB, as in a PNG's cHRM."""
SAVE = "save it as sRGB"
_SRGB = ImageCms.createProfile("sRGB")


def flat(picture: Image.Image, cicp: bytes = b"") -> Image.Image:
    """RGB: colours by the picture's ICC profile, else by the first of a PNG's cICP, sRGB, gAMA and
    cHRM; white where it is transparent. `cicp`: of that chunk, which Pillow leaves out.

    A profile that is broken, or for another kind of picture, is left aside, as browsers do. Raises
    PictureRejected.
    """
    if cicp and cicp[1] in HDR:
        raise PictureRejected(f"is HDR ({HDR[cicp[1]]}), which is not read: {SAVE}")
    colours, opacity = _apart(picture)
    converted = _by_profile(colours, picture.info.get("icc_profile") or b"")
    if converted is None:
        converted = _by_chunks(colours.convert("RGB"), picture.info, cicp)
    if opacity is None:
        return converted
    page = Image.new("RGB", converted.size, "white")
    page.paste(converted, mask=opacity)
    return page


def _apart(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours as L, RGB or CMYK; and how opaque each is, where some are not."""
    if picture.mode in ("I", "F"):
        raise PictureRejected("has 32 bits a pixel, which stand for no colour: save it with 8")
    if picture.mode.startswith("I;16"):
        return _of_16_bits(picture)
    grey = picture.mode in ("1", "L", "LA", "La")
    if not picture.has_transparency_data:
        return picture.convert("L" if grey else "CMYK" if picture.mode == "CMYK" else "RGB"), None
    whole = picture.convert("LA" if grey else "RGBA")
    return whole.convert("L" if grey else "RGB"), whole.getchannel("A")


def _of_16_bits(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    # Not by convert("L"), which makes all that is above 255 of 65535 white.
    whole, hidden = picture.convert("I"), picture.info.get("transparency")
    grey = whole.point([round(level / 257) for level in range(2**16)], "L")
    if hidden is None:
        return grey, None
    return grey, whole.point([255 * (level != hidden) for level in range(2**16)], "L")


def _by_profile(colours: Image.Image, icc: bytes) -> Image.Image | None:
    """None without a profile that can be gone by."""
    if len(icc) > PROFILE_BYTES:
        raise PictureRejected(
            f"has an ICC profile of more than {PROFILE_BYTES // 2**20} MiB: {SAVE}"
        )
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = SPACES[profile.profile.xcolor_space]
        if (colours.mode, mode) == ("L", "RGB"):
            colours = colours.convert("RGB")
        if colours.mode != mode:
            return None
        # Else dark greys are off by several levels: a coarse table stands for the curves.
        fine = ImageCms.Flags.HIGHRESPRECALC
        return ImageCms.profileToProfile(colours, profile, _SRGB, outputMode="RGB", flags=fine)
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
        return None


def _by_chunks(colours: Image.Image, info: dict[Any, Any], cicp: bytes) -> Image.Image:
    if cicp:
        if cicp[0] != BT709 or cicp[1] not in SDR:
            named = "/".join(map(str, cicp))
            raise PictureRejected(f"names its colours {named} (cICP) without a profile: {SAVE}")
        return colours
    if "srgb" in info:
        return colours
    given = info.get("chromaticity", CHROMATICITIES)
    if any(abs(one - other) > CLOSE for one, other in zip(given, CHROMATICITIES, strict=True)):
        raise PictureRejected(f"has primaries of its own (cHRM) without a profile: {SAVE}")
    gamma = info.get("gamma", GAMMA)
    if abs(gamma - GAMMA) <= GAMMA_CLOSE or gamma <= 0:
        return colours
    return colours.point([_encoded((level / 255) ** (1 / gamma)) for level in range(256)] * 3)


def _encoded(light: float) -> int:
    """IEC 61966-2-1, 5.2."""
    part = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * part)
