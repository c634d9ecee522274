"""Small data sets of every kind of SOURCES, of real samples: scikit-learn's digits, and its photographs behind them."""

from __future__ import annotations

import csv
import functools
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketforge.data.digits import Digits, digits_file
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import Data

Array = NDArray[Any]
TRAIN, EVAL = 8, 4
COUNT = TRAIN + EVAL
HEIGHT, WIDTH = 40, 56
RATE = 8000


@dataclass(frozen=True)
class Scene:
    """A photograph with digits in it.

    Attributes:
        image: (HEIGHT, WIDTH, 3), uint8.
        boxes: x1, y1, x2, y2 of each digit's ink.
        classes: Which digit each is.
        mask: 0 or digit + 1 of each pixel, uint8.
    """

    image: Array
    boxes: tuple[tuple[int, int, int, int], ...]
    classes: tuple[int, ...]
    mask: Array


@functools.cache
def photo() -> Array:
    # scikit-learn's load_sample_image("china.jpg"), without importing scikit-learn.
    return np.asarray(Image.open(digits_file().parents[1] / "images" / "china.jpg"))


@functools.cache
def digits() -> Digits:
    return Digits()


@functools.cache
def scene(number: int) -> Scene:
    """Two digits in a crop of a photograph; scene 5 has none."""
    top, left = 8 * number, 11 * number
    image = (photo()[top : top + HEIGHT, left : left + WIDTH] // 2).copy()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    boxes, classes = [], []
    for place in range(0 if number == 5 else 2):
        (pixels,), label = digits().sample(2 * number + place)
        ink = np.kron(pixels[:, :, 0] > 7, np.ones((3, 3), bool))
        y, x = 4 + number % 5, 3 + 27 * place
        image[y : y + 24, x : x + 24][ink] = 255
        mask[y : y + 24, x : x + 24][ink] = label + 1
        rows, columns = np.nonzero(ink)
        boxes.append((int(x + columns.min()), int(y + rows.min()), int(x + columns.max() + 1), int(y + rows.max() + 1)))
        classes.append(label)
    return Scene(image, tuple(boxes), tuple(classes), mask)


def split_of(number: int) -> str:
    return "train" if number < TRAIN else "val"


def save(image: Array, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def png(image: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def sound(number: int) -> Array:
    """Half a second: a digit's rows, played one after the other."""
    (pixels,), _ = digits().sample(number)
    return np.tile(pixels.reshape(-1) / 16 - 0.5, 63)[:4000].astype(np.float32)


def digit(number: int) -> tuple[Array, int]:
    (pixels,), label = digits().sample(number)
    return (pixels[:, :, 0] * 15).astype(np.uint8), label


def runs(inside: Array) -> list[int]:
    """COCO's RLE: column by column, first of what is outside."""
    flat = inside.T.reshape(-1).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    total = sum(counts)
    return [*counts, flat.size - total] if total < flat.size else counts


def coco(root: Path) -> Data:
    files: dict[str, dict[str, Any]] = {}
    for number in range(COUNT):
        split, seen = f"{split_of(number)}2017", scene(number)
        save(seen.image, root / "d" / split / f"{number:012}.png")
        content = files.setdefault(split, {"images": [], "annotations": [], "categories": categories()})
        content["images"].append({"id": number + 7, "file_name": f"{number:012}.png", "height": HEIGHT, "width": WIDTH})
        for place, ((x1, y1, x2, y2), label) in enumerate(zip(seen.boxes, seen.classes, strict=True)):
            ink = np.zeros_like(seen.mask, bool)
            ink[y1:y2, x1:x2] = seen.mask[y1:y2, x1:x2] == label + 1
            outline = [[x1, y1, x2, y1, x2, y2, x1, y2]] if place else {"size": [HEIGHT, WIDTH], "counts": runs(ink)}
            content["annotations"].append({
                "id": 100 * number + place, "image_id": number + 7, "category_id": 10 * label + 1,
                "iscrowd": int(place), "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(ink.sum()),
                "segmentation": outline,
            })  # fmt: skip
    for split, content in files.items():
        path = root / "d" / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return Data("coco:d")


def categories() -> list[dict[str, Any]]:
    return [{"id": 10 * label + 1, "name": f"digit {label}"} for label in range(10)]


def yolo(root: Path) -> Data:
    for number in range(COUNT):
        seen, name = scene(number), f"{split_of(number)}/{number}"
        save(seen.image, root / "d" / "images" / f"{name}.png")
        lines = [
            f"{label} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}"
            for (x1, y1, x2, y2), label in zip(seen.boxes, seen.classes, strict=True)
        ]
        if lines:
            write(root / "d" / "labels" / f"{name}.txt", "\n".join(lines) + "\n")
    names = "".join(f"  {label}: digit {label}\n" for label in range(10))
    write(root / "d" / "data.yaml", f"path: ../datasets/digits\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return Data("yolo:d")


def voc(root: Path) -> Data:
    folder = root / "d" / "VOCdevkit" / "VOC2012"
    for number in range(COUNT):
        seen, name = scene(number), f"2008_{number:06}"
        save(seen.image, folder / "JPEGImages" / f"{name}.png")
        mask = Image.fromarray(seen.mask)
        mask.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        (folder / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(folder / "SegmentationClass" / f"{name}.png")
        annotation = ElementTree.Element("annotation")
        size = ElementTree.SubElement(annotation, "size")
        for side, value in (("width", WIDTH), ("height", HEIGHT), ("depth", 3)):
            ElementTree.SubElement(size, side).text = str(value)
        for place, (box, label) in enumerate(zip(seen.boxes, seen.classes, strict=True)):
            found = ElementTree.SubElement(annotation, "object")
            ElementTree.SubElement(found, "name").text = f"digit {label}"
            ElementTree.SubElement(found, "difficult").text = str(place)
            corners = ElementTree.SubElement(found, "bndbox")
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), (box[0] + 1, box[1] + 1, *box[2:]), strict=True):
                ElementTree.SubElement(corners, side).text = str(value)
        write(folder / "Annotations" / f"{name}.xml", ElementTree.tostring(annotation, "unicode"))
    for kind in ("Main", "Segmentation"):
        for split in ("train", "val"):
            names = [f"2008_{number:06}" for number in range(COUNT) if split_of(number) == split]
            write(folder / "ImageSets" / kind / f"{split}.txt", "\n".join(names) + "\n")
        write(folder / "ImageSets" / kind / "digit 1_train.txt", f"2008_{0:06} -1\n")
    return Data("voc:d")


def masks(root: Path) -> Data:
    for number in range(COUNT):
        save(scene(number).image, root / "d" / "images" / split_of(number) / f"{number}.png")
        save(scene(number).mask, root / "d" / "masks" / split_of(number) / f"{number}_mask.png")
    write(root / "d" / "classes.txt", "background\n" + "".join(f"digit {label}\n" for label in range(10)))
    return Data("masks:d")


def imagefolder(root: Path) -> Data:
    for number in range(COUNT):
        image, _ = digit(number)
        save(image, root / "d" / split_of(number) / f"class{number % 2}" / f"{number}.png")
    return Data("imagefolder:d")


def audiofolder(root: Path) -> Data:
    import soundfile

    for number in range(COUNT):
        ending = "flac" if number % 2 else "wav"
        path = root / "d" / f"class{number % 2}" / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(number), RATE, subtype="PCM_16")
    names = [f"class{number % 2}/{number}.{'flac' if number % 2 else 'wav'}" for number in range(TRAIN, COUNT)]
    write(root / "d" / "testing_list.txt", "\n".join(names) + "\n")
    return Data("audiofolder:d")


def records(root: Path) -> list[dict[str, Any]]:
    """A table's, with the images that it names."""
    found = []
    for number in range(COUNT):
        image, label = digit(number)
        save(image, root / "d" / "images" / f"{number}.png")
        found.append({
            "path": f"images/{number}.png", "label": f"digit {label}", "split": split_of(number),
            "device": ("pixel4", "a53")[number % 2], "mean": float(image.mean()),
        })  # fmt: skip
    return found


COLUMNS = Columns(inputs=("path",), targets={"label": "label", "value": "mean"}, split="split", slices=("device",))


def csv_table(root: Path) -> Data:
    rows = records(root)
    with (root / "d" / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Data("csv:d/table.csv", columns=COLUMNS)


def parquet(root: Path) -> Data:
    import pyarrow
    from pyarrow import parquet as pq

    pq.write_table(pyarrow.Table.from_pylist(records(root)), root / "d" / "table.parquet")
    return Data("parquet:d/table.parquet", columns=COLUMNS)


TEXTS = ("one loop", "two strokes", "a bar", "three bows", "a chair")


def jsonl(root: Path) -> Data:
    for split in ("train", "val"):
        lines = [
            json.dumps({"text": f"{TEXTS[number % 5]} {number}", "tags": [number % 3, 1], "meta": {"device": "a53"}})
            for number in range(COUNT)
            if split_of(number) == split
        ]
        write(root / "d" / f"{split}.jsonl", "\n".join(lines) + "\n")
    return Data("jsonl:d", columns=Columns(inputs=("text",), targets={"tags": "tags"}, slices=("meta.device",)))


def webdataset(root: Path) -> Data:
    (root / "d").mkdir(parents=True)
    for split, shard in (("train", 0), ("train", 1), ("val", 0)):
        numbers = [number for number in range(COUNT) if split_of(number) == split]
        numbers = numbers[shard::2] if split == "train" else numbers
        with tarfile.open(root / "d" / f"digits-{split}-{shard:06}.tar", "w") as tar:
            for number in numbers:
                image, label = digit(number)
                about = json.dumps({"device": "pixel4", "mean": float(image.mean())}).encode()
                for ending, data in (("png", png(image)), ("cls", str(label).encode()), ("json", about)):
                    info = tarfile.TarInfo(f"some.folder/{number:03}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    columns = Columns(inputs=("png",), targets={"label": "cls"}, slices=("json.device",))
    return Data("webdataset:d", columns=columns)


def huggingface(root: Path) -> Data:
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=[f"digit {label}" for label in range(10)]),
            "device": datasets.Value("string"),
        }
    )
    splits = {}
    for split in ("train", "validation"):
        found = [digit(number) for number in range(COUNT) if split_of(number) == split[:5].replace("valid", "val")]
        content = {"image": [Image.fromarray(image) for image, _ in found], "label": [label for _, label in found]}
        splits[split] = datasets.Dataset.from_dict({**content, "device": ["a53"] * len(found)}, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(root / "d"))
    return Data("huggingface:d", columns=Columns(slices=("device",)))


def npz(root: Path) -> Data:
    found = [digit(number) for number in range(COUNT)]
    x, y = np.stack([image for image, _ in found]), np.asarray([label for _, label in found])
    (root / "d").mkdir(parents=True)
    np.savez(root / "d" / "a.npz", x=x[:TRAIN], y=y[:TRAIN], x_eval=x[TRAIN:], y_eval=y[TRAIN:])
    return Data("npz:d/a.npz")


CODE = """
import torch

from pocketforge.data.digits import Digits as Uci


class Digits(torch.utils.data.Dataset):
    classes = [f"digit {label}" for label in range(10)]

    def __init__(self, numbers):
        found = [Uci().sample(number) for number in numbers]
        self.images, self.labels = [image[:, :, 0] * 15 for (image,), _ in found], [label for _, label in found]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).to(torch.uint8)
        box = torch.tensor([[0, 0, 8, 8]])
        return image, {"boxes": box, "labels": torch.tensor([self.labels[index]]), "image_id": index}


def load():
    return {"train": Digits(range(8)), "eval": Digits(range(8, 12))}
"""


def function(root: Path) -> Data:
    write(root / "d" / "data.py", CODE)
    return Data("d/data.py:load")


def cifar10(root: Path) -> Data:
    """Crops of a photograph in the binary form."""
    (root / "d").mkdir(parents=True)
    for name, numbers in (("data_batch_1", range(TRAIN)), ("test_batch", range(TRAIN, COUNT))):
        rows = b""
        for number in numbers:
            crop = photo()[3 * number : 3 * number + 32, 5 * number : 5 * number + 32]
            rows += bytes([number % 10]) + crop.transpose(2, 0, 1).tobytes()
        (root / "d" / f"{name}.bin").write_bytes(rows)
    return Data("cifar10:d")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


MAKERS: Mapping[str, Callable[[Path], Data]] = {
    "digits": lambda root: Data("digits"),
    "cifar10": cifar10,
    "imagefolder": imagefolder,
    "audiofolder": audiofolder,
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "masks": masks,
    "csv": csv_table,
    "parquet": parquet,
    "jsonl": jsonl,
    "webdataset": webdataset,
    "huggingface": huggingface,
    "npz": npz,
    "function": function,
}
