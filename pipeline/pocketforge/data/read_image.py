"""One image file as an array: turned as its EXIF says, and with values that the format gives a meaning to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketforge.data.base import Array, PreprocessStep
from pocketforge.data.image_files import image_formats
from pocketforge.errors import ModelError

if TYPE_CHECKING:
    from PIL import Image

# What is done before the steps of `preprocess.apply`, for whom feeds a file to the model as we did.
STEPS: tuple[PreprocessStep, ...] = ({"step": "orient", "by": "exif"},)

# Formats in which Pillow's 16-bit values are unsigned and go up to 65535 (but see _deep). FITS has signed ones.
_SIXTEEN_BITS = frozenset({"PNG", "TIFF", "JPEG2000", "PPM"})
_MODES_OF_16_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_SIXTEEN_BITS_AS_I = frozenset({"PNG", "PPM"})
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def read_image(path: Path, data: bytes | None = None) -> tuple[Array, bool]:
    """One image as H×W×C of 0 to 255, and whether it has more frames than this first one.

    data: its content, where the path only names it.

    uint8, or float32 from 16 bits; C is 1 for gray, 4 with transparency, else 3. Raises ModelError, with the path, for
    a damaged image, for one of too many pixels (Pillow's limit) and for values without a largest one (floats, 32-bit
    integers).
    """
    from PIL import Image, ImageOps

    try:
        # The formats whose endings are read: a file of another kind under such a name is not handed to other readers.
        with Image.open(
            io.BytesIO(data) if data is not None else path, formats=sorted(set(image_formats().values()) - {"MPO"})
        ) as image:
            # MPO: phones' photographs, whose further frames are previews and the other eye.
            frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            ImageOps.exif_transpose(image, in_place=True)
            return (_deep(image, path) if _is_deep(image) else _eight_bits(image)), frames
    except ModelError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise ModelError(
            f"data.source: the image {path} cannot be read: {error or type(error).__name__}",
            "repair it or take it out of the folder",
        ) from error


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("F", "I") or image.mode in _MODES_OF_16_BITS


def _eight_bits(image: Image.Image) -> Array:
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def _deep(image: Image.Image, path: Path) -> Array:
    """More than 8 bits a value: to 0 to 255 by the format's own largest value. Pillow's convert() would clip them."""
    known = {"F": frozenset[str](), "I": _SIXTEEN_BITS_AS_I}.get(image.mode, _SIXTEEN_BITS)
    if image.format not in known:
        kind = "32-bit floats" if image.mode == "F" else f"integers of mode {image.mode}"
        raise ModelError(
            f"data.source: the image {path} ({image.format}) holds {kind}: nothing says which value is white",
            "save it with 8 or 16 unsigned bits a value, or read it in a module.py:function source",
        )
    most = 65535.0
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF":
        bits = tags.get(_BITS_PER_SAMPLE, 16)
        most = float(2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
    values = np.asarray(image, np.float32) / np.float32(most / 255.0)
    if image.format == "TIFF" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = np.float32(255.0) - values  # Pillow turns these round for 8 bits and fewer only
    return values[:, :, None]
