"""Preprocessing against the libraries that models are trained with: equal to the bit, or to a step that is said."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pocketforge.data import open_source
from pocketforge.data.dataset import Dataset
from pocketforge.data.preprocess import About, prepare
from pocketforge.data.split import Split
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Pad, Resize, Scale
from pocketforge.recipe.preprocess import InputSteps, Preprocess


@functools.cache
def transforms() -> ModuleType:
    """torchvision's, which takes seconds to import: not at every worker's collection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "e2e")
        importlib.import_module("torchvision_ops").usable_torchvision()
    return importlib.import_module("torchvision.transforms")


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(0)
# Heights and widths: odd and even differences, both orientations, smaller than what is asked, extreme aspects.
SIZES = ((500, 375), (375, 500), (333, 500), (224, 224), (64, 97), (61, 40), (300, 40), (257, 256))


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Noise over a slope, and not JPEG's: every rounding is met."""
    slope = np.add.outer(np.arange(height) * 255 / height, np.arange(width) * 255 / width)[:, :, None] / 2
    return np.clip(slope + RNG.normal(0, 40, (height, width, channels)), 0, 255).astype(np.uint8)


def done(image: np.ndarray, *steps) -> np.ndarray:
    (found,) = prepare((InputSteps(steps),), (image,), About(255.0)).inputs
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_imagenets_usual_steps_are_torchvisions_to_the_bit(size):
    image = photo(*size)
    theirs = transforms().Compose(
        [
            transforms().Resize(256),
            transforms().CenterCrop(224),
            transforms().ToTensor(),
            transforms().Normalize(MEAN, STD),
        ]
    )(Image.fromarray(image))
    ours = done(
        image, Resize(shorter=256), CenterCrop((224, 224)), Scale(by=255.0), Normalize(MEAN, STD), Layout("NCHW")
    )
    assert ours.dtype == np.float32 and np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resize_and_crop_of_pil_images_are_torchvisions_to_the_bit(size, filter_):
    image = photo(*size)
    way = {"area": "box"}.get(filter_, filter_)
    mode = transforms().InterpolationMode(way)
    crop = 29
    for ours, theirs in (
        (Resize(shorter=37, filter=filter_), transforms().Resize(37, mode)),
        (Resize(size=(45, 33), filter=filter_), transforms().Resize((45, 33), mode)),
    ):
        wanted = transforms().CenterCrop(crop)(theirs(Image.fromarray(image)))
        assert np.array_equal(done(image, ours, CenterCrop((crop, crop))), np.asarray(wanted))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pad_bgr_and_grayscale_are_torchvisions_and_pillows(size):
    image, picture = photo(*size), Image.fromarray(photo(*size))
    picture = Image.fromarray(image)
    for mode in ("constant", "edge", "reflect"):
        wanted = transforms().Pad((3, 1, 2, 4), fill=114, padding_mode=mode)(picture)
        assert np.array_equal(done(image, Pad(by=(3, 1, 2, 4), mode=mode, value=(114.0,))), np.asarray(wanted))
    assert np.array_equal(done(image, Color("grayscale"))[:, :, 0], np.asarray(picture.convert("L")))
    assert np.array_equal(done(image, Color("bgr")), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert np.array_equal(done(image, Color("bgr"), Color("grayscale")), done(image, Color("grayscale")))
    assert np.array_equal(done(image, Color("bgr"), Color("rgb")), image)
    contained = np.asarray(ImageOps.contain(picture, (64, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(done(image, Resize(fit=(48, 64))), contained)


def ultralytics_letterbox(image: np.ndarray, new_shape: tuple[int, int]) -> np.ndarray:
    """As ultralytics.data.augment.LetterBox(auto=False, scaleup=True) does it: by cv2's own functions."""
    shape = image.shape[:2]
    r = min(new_shape[0] / shape[0], new_shape[1] / shape[1])
    new_unpad = round(shape[1] * r), round(shape[0] * r)
    dw, dh = (new_shape[1] - new_unpad[0]) / 2, (new_shape[0] - new_unpad[1]) / 2
    if shape[::-1] != new_unpad:
        image = cv2.resize(image, new_unpad, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(dh - 0.1), round(dh + 0.1)
    left, right = round(dw - 0.1), round(dw + 0.1)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))


@pytest.mark.parametrize("box", [(640, 640), (384, 640), (97, 64)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_letterbox_is_ultralyticss_to_the_bit(size, box):
    image = photo(*size)
    wanted = ultralytics_letterbox(image, box).transpose(2, 0, 1) / np.float32(255)
    fit = Resize(longest=box[0], like="opencv") if box[0] == box[1] else Resize(fit=box, like="opencv")
    found = done(image, fit, Pad(size=box, value=(114.0,)), Scale(), Layout("NCHW"))
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_opencv_is_opencvs_own(filter_):
    ways = {"lanczos": "LANCZOS4", "bilinear": "LINEAR", "bicubic": "CUBIC"}
    way = getattr(cv2, f"INTER_{ways.get(filter_, filter_.upper())}")
    for values in (photo(61, 40), photo(61, 40, 1), photo(61, 40).astype(np.float32)):
        for height, width in ((30, 20), (17, 51), (61, 40), (122, 80)):
            wanted = cv2.resize(values, (width, height), interpolation=way).reshape(height, width, -1)
            assert np.array_equal(done(values, Resize(size=(height, width), filter=filter_, like="opencv")), wanted)


def opencv_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """INTER_LINEAR by its formula: centres at halves, the nearest two of each side, edges repeated, no antialias."""

    def taps(number: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = (np.arange(number) + 0.5) * side / number - 0.5
        low = np.floor(places).astype(int)
        return np.clip(low, 0, side - 1), np.clip(low + 1, 0, side - 1), places - low

    (a, b, down), (c, d, across) = taps(height, image.shape[0]), taps(width, image.shape[1])
    rows = image[a] * (1 - down)[:, None, None] + image[b] * down[:, None, None]
    return rows[:, c] * (1 - across)[None, :, None] + rows[:, d] * across[None, :, None]


def test_what_the_docs_say_of_opencvs_bilinear_is_within_a_level_of_it():
    for size in SIZES:
        image = photo(*size)
        found = done(image, Resize(size=(45, 33), like="opencv"))
        assert np.abs(found - opencv_bilinear(image.astype(float), 45, 33)).max() <= 1.0


def test_pils_resize_is_within_two_levels_of_torchvisions_on_tensors():
    """The difference that docs/preprocessing.md names, for who trained with tensors."""
    image = photo(333, 500)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    theirs = transforms().Resize((97, 97), antialias=True)(tensor).numpy().transpose(1, 2, 0)
    assert np.abs(done(image, Resize(size=(97, 97))).astype(int) - theirs).max() <= 2


def test_without_antialias_tensorflows_bilinear_is_torchs_interpolate():
    image = photo(61, 40)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None]
    for size in ((30, 20), (17, 51), (122, 80)):
        wanted = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()
        found = done(image, Resize(size=size, like="tf"), Layout("NCHW"))
        assert np.abs(found - wanted).max() < 2e-3
        smooth = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
        found = done(image, Resize(size=size, like="tf", antialias=True), Layout("NCHW"))
        assert np.abs(found - smooth[0].numpy()).max() < 2e-3


def test_the_short_table_is_its_list():
    image = photo(61, 40)
    short = Preprocess(resize=(32, 24), color="grayscale", mean=(0.5,), std=(0.25,))
    (wanted,) = prepare(short, (image,), About(255.0)).inputs
    steps = (Color("grayscale"), Resize(size=(32, 24)), Scale(), Normalize((0.5,), (0.25,)), Layout("NCHW"))
    assert np.array_equal(done(image, *steps), wanted)
    (plain,) = prepare(Preprocess(scale=0.0), (image,), About(255.0)).inputs
    assert np.array_equal(done(image, Cast("float32"), Layout("NCHW")), plain)


def test_every_kind_of_image_file_goes_through_imagenets_list_as_through_torchvisions(tmp_path):
    """Turned by EXIF, from a palette, gray, with transparency, from CMYK; 16 bits in floats, which Pillow has not."""
    folder = tmp_path / "d" / "x"
    folder.mkdir(parents=True)
    image = Image.fromarray(photo(70, 50))
    exif = Image.Exif()
    exif[0x112] = 6
    image.save(folder / "turned.jpg", exif=exif, quality=95)
    image.quantize(32).save(folder / "palette.png")
    image.convert("L").save(folder / "gray.png")
    Image.fromarray(photo(70, 50, 4)).save(folder / "clear.png")
    image.convert("CMYK").save(folder / "ink.tiff")
    deep = RNG.integers(0, 65_536, (70, 50), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    source = open_source("imagefolder:d", lambda path: tmp_path / path)
    steps = (
        Color("rgb"), Resize(shorter=36), CenterCrop((32, 32)), Scale(), Normalize(MEAN, STD), Layout("NCHW"),
    )  # fmt: skip
    dataset = Dataset(source, Split((), (), tuple(range(6))), (InputSteps(steps),), ("x",), "classification")
    found = {dataset.eval.name(k): inputs[0] for k, (inputs, _) in enumerate(dataset.eval)}
    usual = transforms().Compose(
        [
            transforms().Resize(36),
            transforms().CenterCrop(32),
            transforms().ToTensor(),
            transforms().Normalize(MEAN, STD),
        ]
    )
    for name, array in found.items():
        if "deep" not in name:
            with Image.open(tmp_path / "d" / name) as opened:
                wanted = usual(ImageOps.exif_transpose(opened).convert("RGB"))
            assert np.array_equal(array, wanted.numpy()), name
    planes = Image.fromarray((deep / np.float32(257.0)).astype(np.float32)).resize((36, 50), Image.Resampling.BILINEAR)
    wanted = (np.asarray(planes)[9:41, 2:34] / np.float32(255) - np.float32(MEAN[0])) / np.float32(STD[0])
    assert np.abs(found["x/deep.png"][0] - wanted).max() < 1e-4


@pytest.mark.parametrize("size", [(30, 41), (61, 40), (97, 20), (1, 1)], ids=str)
def test_align_corners_is_torchs_interpolate(size):
    image = photo(61, 40)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None]
    theirs = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=True)
    found = done(image, Resize(size=size, like="align_corners"))
    assert np.abs(found - theirs[0].permute(1, 2, 0).numpy()).max() <= 1e-3
