"""What an image file's values become: turned by EXIF, 0 to 255 by its format's largest value, or refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketforge.data import open_source
from pocketforge.data.dataset import Dataset
from pocketforge.data.preprocess import About
from pocketforge.data.preprocess_words import describe
from pocketforge.data.read_image import read_image
from pocketforge.data.split import Split
from pocketforge.errors import ModelError
from pocketforge.outcomes.data import Preprocessing

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
ORIENTATION = 0x112
# What EXIF's orientations 1 to 8 ask for, in numpy's words.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


def pixels(path: Path) -> np.ndarray:
    return read_image(path)[0]


def saved(path: Path, image: Image.Image, **options) -> np.ndarray:
    image.save(path, **options)
    return pixels(path)


@pytest.mark.parametrize("turn", TURNS)
def test_images_are_turned_as_exif_says(tmp_path, turn):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    wanted = TURNS[turn](RGB)
    for name, image in (("a.png", RGB), ("a.tiff", RGB), ("a.webp", RGB)):
        found = saved(
            tmp_path / name, Image.fromarray(image), exif=exif, **({"lossless": True} if "webp" in name else {})
        )
        assert np.array_equal(found, wanted), name
    deep = RNG.integers(0, 65536, (4, 6), dtype=np.uint16)
    found = saved(tmp_path / "deep.png", Image.fromarray(deep), exif=exif)
    assert np.allclose(found[:, :, 0], TURNS[turn](deep) / 257, atol=1e-4)
    palette = Image.fromarray(RGB).quantize(8)
    found = saved(tmp_path / "p.png", palette, exif=exif)
    assert np.array_equal(found, TURNS[turn](np.asarray(palette.convert("RGB"))))
    jpeg = saved(tmp_path / "a.jfif", Image.fromarray(RGB), exif=exif, quality=95, format="JPEG")
    assert (
        jpeg.shape == wanted.shape
        and np.abs(jpeg.astype(int) - wanted).mean() < np.abs(RGB[::-1].astype(int) - RGB).mean()
    )


def test_the_sidecar_says_that_images_are_turned(tmp_path):
    (tmp_path / "d" / "x").mkdir(parents=True)
    Image.fromarray(RGB).save(tmp_path / "d" / "x" / "1.png")
    source = open_source("imagefolder:d", lambda path: tmp_path / path)
    dataset = Dataset(source, Split((), (), (0,)), None, ("x",), "classification")
    said = describe(dataset.preprocess, dataset.about)
    assert isinstance(said, Preprocessing) and list(said.steps) == [
        {"step": "orient", "by": "exif"},
        {"step": "divide", "by": 255.0},
        {"step": "transpose", "from": "HWC", "to": "CHW"},
    ]
    assert "orient" not in str(describe(None, About(16.0)))


def tiff16(values: np.ndarray, *, bits: int = 16, photometric: int = 1, order: str = "<") -> bytes:
    """A TIFF of unsigned gray values, written by hand: Pillow saves only some of these."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        data = b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in pairs)
    else:
        data = values.astype(f"{order}u2").tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0"


def test_sixteen_bits_are_scaled_by_what_the_format_says(tmp_path):
    values = np.array([[0, 257, 1000], [32768, 65278, 65535]], np.uint16)
    wanted = values / 257.0
    Image.fromarray(values).save(tmp_path / "a.png")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    (tmp_path / "little.tif").write_bytes(tiff16(values))
    (tmp_path / "big.tif").write_bytes(tiff16(values, order=">"))
    Image.fromarray(values).save(tmp_path / "a.jp2", irreversible=False)
    for name in ("a.png", "a.pgm", "little.tif", "big.tif", "a.jp2"):
        found = pixels(tmp_path / name)
        assert found.dtype == np.float32 and np.allclose(found[:, :, 0], wanted, atol=1e-3), name
    # White is 0 here: not a negative.
    (tmp_path / "white.tif").write_bytes(tiff16(values, photometric=0))
    assert np.allclose(pixels(tmp_path / "white.tif")[:, :, 0], 255 - wanted, atol=1e-3)
    twelve = np.array([[0, 1], [2048, 4000], [4094, 4095]], np.uint16)
    (tmp_path / "12.tif").write_bytes(tiff16(twelve, bits=12))
    assert np.allclose(pixels(tmp_path / "12.tif")[:, :, 0], twelve / 4095 * 255, atol=1e-3)
    (tmp_path / "10.pgm").write_bytes(b"P5 3 2 1023\n" + np.array([[0, 1, 512], [900, 1022, 1023]], ">u2").tobytes())
    assert np.allclose(pixels(tmp_path / "10.pgm").ravel()[[0, 2, 5]], [0, 512 / 1023 * 255, 255], atol=0.01)


def test_values_without_a_largest_one_are_refused_by_name(tmp_path):
    for mode, value, words in (
        ("F", 300.5, "32-bit floats"),
        ("F", 0.5, "32-bit floats"),
        ("I", 70000, "integers of mode I"),
    ):
        Image.new(mode, (2, 2), value).save(tmp_path / "a.tiff")
        with pytest.raises(ModelError, match=rf"the image .*a\.tiff \(TIFF\) holds {words}") as caught:
            pixels(tmp_path / "a.tiff")
        assert "module.py:function" in caught.value.hint
    Image.fromarray(np.array([[-5, 5]], np.int16).astype(np.int32)).save(tmp_path / "s.tiff")
    (tmp_path / "f.pfm").write_bytes(b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 3.0))
    for name in ("s.tiff", "f.pfm"):
        with pytest.raises(ModelError, match=name):
            pixels(tmp_path / name)
    # FITS' 16 bits are signed, Pillow's are not.
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2"]
    cards += ["NAXIS1  =                    2", "NAXIS2  =                    1", "END"]
    (tmp_path / "a.fits").write_bytes(
        "".join(f"{card:80}" for card in cards).ljust(2880).encode() + b"\xff\xfe\x00\x01"
    )
    with pytest.raises(ModelError, match=r"a\.fits .*nothing says which value is white"):
        pixels(tmp_path / "a.fits")


def test_eight_bit_modes(tmp_path):
    rgba = np.concatenate([RGB, RNG.integers(0, 256, (4, 6, 1), dtype=np.uint8)], axis=2)
    gray = RGB[:, :, 0]
    path = tmp_path / "a.png"
    assert np.array_equal(saved(path, Image.fromarray(rgba)), rgba)
    assert np.array_equal(saved(path, Image.fromarray(gray))[:, :, 0], gray)
    two = np.stack([gray, rgba[:, :, 3]], axis=2)
    repeated = np.concatenate([gray[:, :, None].repeat(3, axis=2), rgba[:, :, 3:]], axis=2)
    assert np.array_equal(saved(path, Image.fromarray(two, "LA")), repeated)
    # The same picture, its transparency written as one gray level: it has four channels too.
    keyed = saved(path, Image.fromarray(gray), transparency=int(gray[0, 0]))
    assert keyed.shape == (4, 6, 4) and keyed[0, 0, 3] == 0 and np.array_equal(keyed[:, :, 1], gray)
    palette = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(saved(path, palette), np.asarray(palette.convert("RGB")))
    clear = saved(path, palette, transparency=palette.getpixel((0, 0)))
    assert clear.shape == (4, 6, 4) and clear[0, 0, 3] == 0
    bits = gray > 127
    assert np.array_equal(saved(path, Image.fromarray(bits))[:, :, 0], bits * np.uint8(255))
    cmyk = saved(tmp_path / "a.tiff", Image.new("CMYK", (2, 2), (255, 0, 0, 0)))
    assert cmyk.shape == (2, 2, 3) and cmyk[0, 0].tolist() == [0, 255, 255]
    assert saved(tmp_path / "a.tiff", Image.fromarray(RGB).convert("YCbCr")).shape == (4, 6, 3)
    assert saved(tmp_path / "a.tiff", Image.new("LAB", (2, 2), (255, 128, 128))).min() >= 254


def test_of_several_frames_the_first_is_read_and_it_is_said(tmp_path):
    frames = [Image.new("RGB", (3, 2), color) for color in ("red", "blue")]
    (tmp_path / "d" / "x").mkdir(parents=True)
    for name in ("a.gif", "b.tiff", "c.webp", "d.png"):
        frames[0].save(
            tmp_path / "d" / "x" / name,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if "w" in name else {}),
        )
    frames[0].save(tmp_path / "d" / "x" / "e.png")
    source = open_source("imagefolder:d", lambda path: tmp_path / path)
    for index in range(5):
        assert source.sample(index)[0][0][0, 0].tolist() == [255, 0, 0]
    assert source.notes() == ("4 images have several frames, of which the first is read: x/a.gif, x/b.tiff, x/c.webp",)


def hostile() -> dict[str, bytes]:
    good = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good, "PNG")
    jpeg = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(jpeg, "JPEG")
    png = good.getvalue()
    return {
        "empty.png": b"",
        "text.png": b"version https://git-lfs.github.com/spec/v1\n",
        "cut.png": png[:200],
        "cut.jpg": jpeg.getvalue()[:400],
        "crc.png": png[:60] + b"\xff" * 20 + png[80:],
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "tags.tif": b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
        "exif.jpg": jpeg.getvalue()[:2]
        + b"\xff\xe1\x00\x20Exif\0\0II*\0\xff\xff\xff\xff"
        + b"\x12" * 14
        + jpeg.getvalue()[2:200],
    }


@pytest.mark.parametrize("name", hostile())
def test_damaged_images_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(hostile()[name])
    with pytest.raises(ModelError, match=rf"the image .*/{name} cannot be read: .+"):
        pixels(tmp_path / name)


def test_mutated_images_are_read_or_named(tmp_path):
    rng = np.random.default_rng(1)
    kinds = [
        ("PNG", "a.png"),
        ("JPEG", "a.jpg"),
        ("TIFF", "a.tif"),
        ("GIF", "a.gif"),
        ("BMP", "a.bmp"),
        ("WEBP", "a.webp"),
    ]
    refused = 0
    for kind, name in kinds:
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, kind)
        for _ in range(15):
            data = bytearray(file.getvalue())
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(0, 256)
            kept = rng.integers(1, len(data)) if rng.random() < 0.3 else len(data)
            (tmp_path / name).write_bytes(bytes(data[:kept]))
            try:
                found = pixels(tmp_path / name)
            except ModelError as error:
                refused += name in error.message or pytest.fail(error.message)
            else:
                assert found.ndim == 3 and 0 <= found.min() <= found.max() <= 255
    assert 18 < refused < 84


def test_an_image_of_too_many_pixels_is_refused_by_name(tmp_path, monkeypatch):
    Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(ModelError, match=r"the image .*bomb\.png cannot be read: .*90000 pixels"):
        pixels(tmp_path / "bomb.png")
