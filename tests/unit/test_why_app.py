"""`why --app`: each known mistake is made by the test's own arithmetic, and found; two at once; none; bad tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soxr
from PIL import Image

from pocketforge.data.preprocess import About
from pocketforge.errors import ModelError
from pocketforge.outcomes.files import from_json, to_json
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.why_app import AppExplained
from pocketforge.recipe.image_steps import Cast, CenterCrop, Color, Layout, Normalize, Resize, Scale
from pocketforge.recipe.preprocess import Step
from pocketforge.recipe.sound_steps import Mono, PadOrTrim, Resample
from pocketforge.why.app_chain import Chain, levels, real
from pocketforge.why.app_dumps import read_dumps
from pocketforge.why.app_explain import explain
from pocketforge.why.app_samples import named_samples

Array = np.ndarray


def f32(values: Any) -> Array:
    return np.asarray(values, np.float32)


MEAN, STD = f32([0.485, 0.456, 0.406]), f32([0.229, 0.224, 0.225])
OWN_MEAN, OWN_STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)
HEIGHT, WIDTH = 12, 16


def photo(seed: int, height: int = 37, width: int = 45) -> Array:
    """A slope with an edge and some noise: no two ways to turn or to resize it give the same."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    red, green, blue = (5 - seed) * x, (2 + seed) * y + 40, 200 - 3 * x - seed * y
    picture = np.stack([red, green, blue], 2) + rng.normal(0, 12, (height, width, 3))
    picture[seed * 3 : height // 3 + seed * 3, seed * 5 : width // 4 + seed * 5] += 60
    return np.clip(picture, 0, 255).astype(np.uint8)


PHOTOS = [photo(seed) for seed in range(4)]
PIXELS = About(255.0, as_images=True)
NORMALIZED = (Resize(size=(HEIGHT, WIDTH)), Scale(), Normalize(OWN_MEAN, OWN_STD))


def image_chain(*steps: Step, dtype: str = "float32", layout: str = "NHWC", channels: int = 3, **scale: Any) -> Chain:
    shape = (1, HEIGHT, WIDTH, channels) if layout == "NHWC" else (1, channels, HEIGHT, WIDTH)
    return Chain("image", steps, PIXELS, TensorSpec("x", shape, dtype, layout, **scale))


def verdict(
    chain: Chain, raw: Sequence[Array], folder: Path, *tensors: Array, samples: Sequence[str] = ()
) -> AppExplained:
    """Through files, as from a phone."""
    for number, each in enumerate(tensors):
        np.save(folder / f"dump{number}.npy", each)
    dumps = read_dumps([folder], chain.taken)
    ids = [f"cat/{number}.png" for number in range(len(raw))]
    found = explain(chain, raw, ids, dumps, named_samples(dumps, ids, samples)).explained
    assert from_json(to_json(found), AppExplained) == found
    return found


def resized(image: Array, how: Image.Resampling = Image.Resampling.BILINEAR) -> Array:
    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), how))


def normalized(pixels: Array, mean: Any = OWN_MEAN, std: Any = OWN_STD, by: float = 255) -> Array:
    return (f32(pixels) / f32(by) - f32(mean)) / f32(std)


def planes(values: Array) -> Array:
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def padded_rows(pixels: Array, number: int) -> Array:
    rows = np.ascontiguousarray(pixels).reshape(HEIGHT, -1)
    wide = np.zeros((HEIGHT, -(-rows.shape[1] // number) * number), rows.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide.reshape(-1)[: rows.size]


Made = Callable[[Array], Array]
BY_IMAGE: dict[str, Made] = {
    "bgr": lambda raw: normalized(resized(raw)[:, :, ::-1]),
    "gray": lambda raw: normalized(resized(np.asarray(Image.fromarray(raw).convert("L").convert("RGB")))),
    "rotated_90": lambda raw: normalized(resized(np.rot90(raw, -1))),
    "rotated_180": lambda raw: normalized(resized(raw[::-1, ::-1])),
    "rotated_270": lambda raw: normalized(resized(np.rot90(raw, 1))),
    "mirrored": lambda raw: normalized(resized(raw[:, ::-1])),
    "flipped": lambda raw: normalized(resized(raw[::-1])),
    "transposed": lambda raw: normalized(resized(raw.transpose(1, 0, 2))),
    "transposed_back": lambda raw: normalized(resized(raw[::-1, ::-1].transpose(1, 0, 2))),
    "not_scaled": lambda raw: normalized(resized(raw), by=1),
    "scaled_twice": lambda raw: normalized(resized(raw), by=255 * 255),
    "not_normalized": lambda raw: f32(resized(raw)) / 255,
    "normalized_twice": lambda raw: normalized(normalized(resized(raw)), by=1),
    "no_mean": lambda raw: normalized(resized(raw), mean=0),
    "no_std": lambda raw: normalized(resized(raw), std=1),
    "normalized_first": lambda raw: normalized(resized(raw), by=1) / 255,
    "imagenet": lambda raw: normalized(resized(raw), MEAN, STD),
    "half": lambda raw: normalized(resized(raw), 0.5, 0.5),
    "reversed_mean": lambda raw: normalized(resized(raw), OWN_MEAN[::-1], OWN_STD[::-1]),
    "nearest_corner": lambda raw: normalized(cv2.resize(raw, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)),
    "nearest": lambda raw: normalized(resized(raw, Image.Resampling.NEAREST)),
    "bilinear_plain": lambda raw: normalized(cv2.resize(f32(raw), (WIDTH, HEIGHT))),
    "bicubic": lambda raw: normalized(resized(raw, Image.Resampling.BICUBIC)),
    "lanczos": lambda raw: normalized(resized(raw, Image.Resampling.LANCZOS)),
    "area": lambda raw: normalized(cv2.resize(f32(raw), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)),
    "axes": lambda raw: planes(normalized(resized(raw))).reshape(HEIGHT, WIDTH, 3),
    "rows_of_128": lambda raw: padded_rows(normalized(resized(raw)), 128),
    "byte_order": lambda raw: normalized(resized(raw)).byteswap(),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_IMAGE)
def test_each_mistake_with_a_picture_is_found(name: str, tmp_path: Path) -> None:
    found = verdict(image_chain(*NORMALIZED), PHOTOS, tmp_path, BY_IMAGE[name](PHOTOS[2]))
    assert (found.verdict, found.explanations[0].mistakes) == ("mistake", (name,)), found.sentence
    assert found.tensors[0].sample == "cat/2.png"  # nobody said which
    assert found.explanations[0].words in found.sentence


def rgba(raw: Array) -> Array:
    return np.dstack([resized(raw), np.full((HEIGHT, WIDTH, 1), 255, np.uint8)])


UINT8_PIXELS = image_chain(Resize(size=(HEIGHT, WIDTH)), dtype="uint8")
INT8 = image_chain(*NORMALIZED, dtype="int8", scale=0.035, zero_point=-9)
CROPPED = image_chain(Resize(shorter=18), CenterCrop((HEIGHT, WIDTH)), Scale(), Layout("NCHW"), layout="NCHW")


def as_levels(raw: Array, zero_point: int = -9) -> Array:
    return np.clip(np.rint(normalized(resized(raw)) / 0.035) + zero_point, -128, 127).astype(np.int8)


def cropped(image: Array) -> Array:
    top, left = (round((side - to) / 2) for side, to in zip(image.shape, (HEIGHT, WIDTH), strict=False))
    return image[top : top + HEIGHT, left : left + WIDTH]


def letterboxed(raw: Array, value: int) -> Array:
    high, wide = (round(side * min(HEIGHT / raw.shape[0], WIDTH / raw.shape[1])) for side in raw.shape[:2])
    box = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    top, left = (HEIGHT - high) // 2, (WIDTH - wide) // 2
    box[top : top + high, left : left + wide] = Image.fromarray(raw).resize((wide, high), Image.Resampling.BILINEAR)
    return box


def shorter(raw: Array, to: int) -> Array:
    high, wide = (to, int(to * raw.shape[1] / raw.shape[0]))
    return np.asarray(Image.fromarray(raw).resize((wide, high), Image.Resampling.BILINEAR))


OTHERS: dict[str, tuple[Chain, Made]] = {
    "rgba": (UINT8_PIXELS, lambda raw: rgba(raw).reshape(-1)[: HEIGHT * WIDTH * 3]),
    "argb": (UINT8_PIXELS, lambda raw: np.roll(rgba(raw), 1, 2).reshape(-1)[: HEIGHT * WIDTH * 3]),
    "rows_of_128": (UINT8_PIXELS, lambda raw: padded_rows(resized(raw), 128)),
    "scaled": (image_chain(NORMALIZED[0], Cast("float32")), lambda raw: f32(resized(raw)) / 255),
    "half": (image_chain(*NORMALIZED[:2]), lambda raw: f32(resized(raw)) / 127.5 - 1),
    "imagenet": (image_chain(*NORMALIZED[:2]), lambda raw: normalized(resized(raw), MEAN, STD)),
    "bilinear_smooth": (image_chain(Resize(size=(HEIGHT, WIDTH), like="opencv"), Scale()),
                        lambda raw: f32(resized(raw)) / 255),
    "stretched": (CROPPED, lambda raw: planes(f32(resized(raw)) / 255)),
    "cropped": (CROPPED, lambda raw: planes(f32(cropped(shorter(raw, 16))) / 255)),
    "cropped_only": (CROPPED, lambda raw: planes(f32(cropped(raw)) / 255)),
    "letterboxed": (CROPPED, lambda raw: planes(f32(letterboxed(raw, 0)) / 255)),
    "letterboxed_gray": (CROPPED, lambda raw: planes(f32(letterboxed(raw, 114)) / 255)),
    "bgr": (image_chain(Color("bgr"), NORMALIZED[0], Layout("NCHW"), layout="NCHW"), lambda raw: planes(resized(raw))),
    "no_zero_point": (INT8, lambda raw: as_levels(raw, 0)),
    "other_sign": (INT8, lambda raw: (as_levels(raw).astype(np.int16) + 128).astype(np.uint8)),
    "not_quantized": (INT8, lambda raw: np.trunc(normalized(resized(raw))).astype(np.int8)),
    "pixels": (INT8, resized),
    "pixels_less_128": (INT8, lambda raw: (resized(raw).astype(np.int16) - 128).astype(np.int8)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_each_mistake_with_other_files_is_found(name: str, tmp_path: Path) -> None:
    chain, made = OTHERS[name]
    found = verdict(chain, PHOTOS, tmp_path, made(PHOTOS[1]))
    assert (found.verdict, found.explanations[0].mistakes) == ("mistake", (name,)), found.sentence
    assert found.tensors[0].sample == "cat/1.png"


def mediapipes(raw: Array) -> Array:
    """A half as large, its pixels are those from the corner."""
    return normalized(raw[::2, ::2])


def aligned(raw: Array) -> Array:
    import torch

    x = torch.from_numpy(raw).permute(2, 0, 1)[None].float()
    found = torch.nn.functional.interpolate(x, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
    return normalized(found[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("name", "size", "made"), [
    ("corner_sampled", (24, 32), mediapipes), ("align_corners", (30, 29), aligned),
    ("cropped_with_margin", (37, 45), lambda raw: normalized(cropped(shorter(raw, 18)))),
])  # fmt: skip
def test_other_ways_to_a_size_are_found(name: str, size: tuple[int, int], made: Made, tmp_path: Path) -> None:
    raw = [photo(seed, *size) for seed in range(2)]
    steps = NORMALIZED[1:]
    first = Resize(size=(HEIGHT, WIDTH))
    found = verdict(image_chain(first, *steps), raw, tmp_path, made(raw[1]))
    assert name in {each for way in found.explanations if way.explains for each in way.mistakes}, found.sentence
    assert found.explanations[0].error < 1e-4


PAIRS: dict[frozenset[str], Made] = {
    frozenset({"bgr", "not_scaled"}): lambda raw: normalized(resized(raw)[:, :, ::-1], by=1),
    frozenset({"not_scaled", "not_normalized"}): resized,
    frozenset({"rotated_90", "bgr"}): lambda raw: normalized(resized(np.rot90(raw, -1))[:, :, ::-1]),
    frozenset({"axes", "not_normalized"}): lambda raw: planes(f32(resized(raw)) / 255),
    frozenset({"nearest", "half"}): lambda raw: normalized(resized(raw, Image.Resampling.NEAREST), 0.5, 0.5),
    frozenset({"byte_order", "mirrored"}): lambda raw: normalized(resized(raw[:, ::-1])).byteswap(),
}  # fmt: skip


@pytest.mark.parametrize("names", PAIRS, ids=lambda names: "+".join(sorted(names)))
def test_two_at_once_are_found(names: frozenset[str], tmp_path: Path) -> None:
    found = verdict(image_chain(*NORMALIZED), PHOTOS, tmp_path, PAIRS[names](PHOTOS[3]))
    assert found.verdict == "mistake" and frozenset(found.explanations[0].mistakes) == names, found.sentence
    assert len(found.explanations[0].fixes) >= 1


RATE_HZ = 16_000
WAVES = [f32(np.sin(np.arange(40_000) ** 1.3 / 300 + seed) * np.linspace(0.2, 0.9, 40_000)) for seed in range(3)]
STEREO = [np.stack([wave, np.roll(wave, 37) / 2], 1) for wave in WAVES]
LENGTH = 12_000
HEARD = Chain("sound", (Resample(RATE_HZ), Mono(), PadOrTrim(LENGTH), Layout("NT")), About(rate_hz=RATE_HZ),
              TensorSpec("x", (1, LENGTH), "float32"))  # fmt: skip


def pcm(wave: Array) -> Array:
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


BY_SOUND: dict[str, tuple[list[Array], Made]] = {
    "rate_44100": (WAVES, lambda wave: soxr.resample(wave, RATE_HZ, 44_100)),
    "rate_8000": (WAVES, lambda wave: soxr.resample(wave, RATE_HZ, 8_000)),
    "interleaved": (STEREO, lambda wave: wave.reshape(-1)),
    "one_channel": (STEREO, lambda wave: wave[:, 0]),
    "int16": (WAVES, lambda wave: pcm(wave)),
    "twice_divided": (WAVES, lambda wave: wave / 32768),
    "eight_bits": (WAVES, lambda wave: np.rint(wave * 128) / f32(128)),
    "unsigned": (WAVES, lambda wave: (np.rint(wave * 128) + 128).clip(0, 255) / f32(128)),
    "pcm_order": (WAVES, lambda wave: pcm(wave).byteswap() / f32(32768)),
}


@pytest.mark.parametrize("name", BY_SOUND)
def test_each_mistake_with_sound_is_found(name: str, tmp_path: Path) -> None:
    sounds, made = BY_SOUND[name]
    chain = HEARD
    if name == "eight_bits":  # of loud samples 8 bits are near enough to be right but for rounding
        sounds = [wave / 20 for wave in sounds]
    fed = f32(made(sounds[1]))[:LENGTH]
    fed = np.pad(fed, (0, LENGTH - len(fed)))
    found = verdict(chain, sounds, tmp_path, fed)
    assert (found.verdict, found.explanations[0].mistakes) == ("mistake", (name,)), found.sentence
    assert found.tensors[0].sample == "cat/1.png"


@pytest.mark.parametrize(("chain", "raw", "made"), [
    (image_chain(*NORMALIZED), PHOTOS, lambda raw: normalized(resized(raw))),
    (INT8, PHOTOS, as_levels),
    (INT8, PHOTOS, lambda raw: normalized(resized(raw))),  # dumped before it was quantized
    (CROPPED, PHOTOS, lambda raw: planes(f32(cropped(shorter(raw, 18))) / 255)),
    (HEARD, STEREO, lambda wave: wave.mean(1)[:LENGTH]),
    (Chain("", (Normalize((3.0,), (2.0,)),), About(), TensorSpec("x", (1, 5), "float32")),
     [np.arange(5) + k for k in range(3)], lambda raw: (f32(raw) - 3) / 2),
])  # fmt: skip
def test_the_right_input_is_said_to_be_right(chain: Chain, raw: list[Array], made: Made, tmp_path: Path) -> None:
    found = verdict(chain, raw, tmp_path, made(raw[0]))
    assert (found.verdict, found.is_right, found.cost) == ("right", True, ()), found.sentence
    assert "is right" in found.sentence and found.explanations[0].mistakes == ()


def test_a_quantized_files_numbers_are_what_its_runner_makes_of_their_real_values() -> None:
    every = np.arange(-128, 128, dtype=np.int8)
    taken = dataclasses.replace(INT8.taken, shape=(1, 256))
    assert (levels(real(every, taken), taken) == every).all()


def test_another_decoders_rounding_is_near(tmp_path: Path) -> None:
    raw = [each.astype(np.int16) for each in PHOTOS]
    noisy = np.clip(raw[1] + np.random.default_rng(0).integers(-2, 3, raw[1].shape), 0, 255).astype(np.uint8)
    found = verdict(image_chain(*NORMALIZED), PHOTOS, tmp_path, normalized(resized(noisy)))
    assert (found.verdict, found.is_right) == ("near", True), found.sentence


def test_several_mistakes_that_explain_it_equally_are_all_said_and_more_tensors_tell_them_apart(tmp_path: Path) -> None:
    mirror = np.concatenate([PHOTOS[0], PHOTOS[0][::-1]])  # upside down it is the same
    raw = [mirror, PHOTOS[1]]
    fed = [normalized(resized(each[:, ::-1])) for each in raw]
    found = verdict(image_chain(*NORMALIZED), raw, tmp_path, fed[0])
    assert found.verdict == "several" and "2 mistakes" in found.sentence
    assert {each.mistakes for each in found.explanations} == {("mirrored",), ("rotated_180",)}
    found = verdict(image_chain(*NORMALIZED), raw, tmp_path, *fed)
    assert (found.verdict, found.explanations[0].mistakes) == ("mistake", ("mirrored",))
    assert [each.sample for each in found.tensors] == ["cat/0.png", "cat/1.png"]


def test_nothing_known_explains_noise_and_the_nearest_is_said(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    found = verdict(image_chain(*NORMALIZED), PHOTOS, tmp_path, noise)
    assert (found.verdict, found.is_right) == ("nothing", False)
    assert found.sentence.startswith("nothing known explains") and "nearest is" in found.sentence
    assert not any(each.explains for each in found.explanations)


@pytest.mark.parametrize("filled", [0.0, 0.004])
def test_a_buffer_that_nobody_filled_is_explained_by_nothing(filled: float, tmp_path: Path) -> None:
    """A flat tensor has no spread to measure an error by: a picture divided twice is as good as black."""
    fed = np.full((HEIGHT, WIDTH, 3), filled, np.float32)
    found = verdict(image_chain(Resize(size=(HEIGHT, WIDTH)), Scale()), PHOTOS, tmp_path, fed)
    assert (found.verdict, found.is_right) == ("nothing", False), found.sentence


def test_tensors_with_a_mistake_each_are_told_apart(tmp_path: Path) -> None:
    fed = [normalized(resized(PHOTOS[0][::-1])), normalized(resized(PHOTOS[1][:, ::-1]))]
    found = verdict(image_chain(*NORMALIZED), PHOTOS, tmp_path, *fed, samples=["dump0=0", "dump1.npy=cat/1.png"])
    assert found.verdict == "unlike" and [each.named for each in found.tensors] == [True, True]
    assert [each.best for each in found.tensors] == [("flipped",), ("mirrored",)]


def test_a_tensor_is_taken_for_the_sample_of_its_name(tmp_path: Path) -> None:
    chain = image_chain(*NORMALIZED)
    arrays: dict[str, Any] = {"3": normalized(resized(PHOTOS[3])), "1": normalized(resized(PHOTOS[1]))}
    np.savez(tmp_path / "all.npz", **arrays)
    dumps = read_dumps([tmp_path / "all.npz"], chain.taken)
    ids = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(4)]
    assert named_samples(dumps, ids[:4], ()) == [3, 1]
    assert named_samples(dumps, ids, ()) == [None, None]  # there are two of each name
    assert named_samples(dumps, ids, ["all.npz:3=dog/3.png"]) == [7, None]


def test_the_sample_is_found_among_large_pictures(tmp_path: Path) -> None:
    """Not each is tried with each mistake then: the picture is looked for, however it is turned."""
    raw = [photo(seed, 300, 400)[seed * 5 :] for seed in range(6)]
    chain = dataclasses.replace(
        image_chain(Resize(size=(200, 240)), Scale()), taken=TensorSpec("x", (1, 200, 240, 3), "float32", "NHWC")
    )
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(raw[4], -1)))
    fed = f32(turned.resize((240, 200), Image.Resampling.BILINEAR)) / 255
    many = [*raw] * 5  # 4.3 million numbers
    found = verdict(chain, many, tmp_path, fed)
    assert found.explanations[0].mistakes == ("rotated_90",) and found.tried < 6 * 60
    assert int(Path(found.tensors[0].sample).stem) % 6 == 4


def save(folder: Path, name: str, values: Any) -> Path:
    path = folder / name
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        np.save(path, values)
    return path


COUNT = HEIGHT * WIDTH * 3


@pytest.mark.parametrize(("name", "values", "how", "words"), [
    ("a.npy", np.zeros(COUNT // 3 * 4, np.float32), {}, "wanted 576: the file takes x float32"),
    ("a.npy", np.zeros(COUNT // 3 * 4, np.float32), {}, "RGBA"),
    ("a.npy", np.zeros(7, np.float32), {}, "one sample a file"),
    ("a.npy", np.array(["a"]), {}, "holds <U1, wanted numbers"),
    ("a.npy", b"nothing", {}, "a.npy cannot be read"),
    ("a.npz", b"nothing", {}, "a.npz cannot be read"),
    ("a.txt", b"1", {}, "wanted one of .npy, .npz, .raw, .bin, found .txt"),
    ("a.raw", b"12345", {}, "has 5 bytes, and float32 has 4 each"),
    ("a.raw", bytes(COUNT * 4), {"shape": (3, 5)}, "--shape [3, 5] has others"),
    ("a.raw", bytes(COUNT * 4), {"dtype": "uint8"}, "read as bytes: give --dtype float32"),
])  # fmt: skip
def test_a_tensor_that_cannot_be_compared_is_refused(
    name: str, values: Any, how: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = save(tmp_path, name, values)
    with pytest.raises(ModelError) as caught:
        read_dumps([path], image_chain(*NORMALIZED).taken, **how)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_nan_and_unknown_samples_are_said_by_name(tmp_path: Path) -> None:
    chain = image_chain(*NORMALIZED)
    fed = normalized(resized(PHOTOS[0]))
    fed[0, 0, 0] = np.nan
    other_size = dataclasses.replace(chain, steps=chain.steps[1:])
    with pytest.raises(ModelError, match="make no input of this file's size"):
        verdict(other_size, PHOTOS, tmp_path, normalized(resized(PHOTOS[0])))
    with pytest.raises(ModelError, match=r"dump0\.npy has 1 of 576 values that are NaN or infinite"):
        verdict(chain, PHOTOS, tmp_path, fed)
    for given, words in (
        ("cat/9.png", "no eval sample is named 'cat/9.png'; did you mean"),
        ("b=0", "no tensor is named"),
    ):
        with pytest.raises(ModelError, match=words):
            verdict(chain, PHOTOS, tmp_path, normalized(resized(PHOTOS[0])), samples=[given])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"holds no \.npy"):
        read_dumps([empty], chain.taken)
