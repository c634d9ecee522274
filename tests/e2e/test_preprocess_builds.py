"""An image, a vector and a text through a whole build: each input has its list, and the sidecar tells it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import in_process

tokenizers = pytest.importorskip("tokenizers")
WORDS = ("alpha", "beta", "gamma", "delta")

MODEL = """
import torch
from torch import nn

class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.words = nn.Embedding(6, 4)
        self.head = nn.Linear(11, 3)

    def forward(self, image, sensors, ids, mask):
        words = self.words(ids) * mask.unsqueeze(-1).to(torch.float32)
        return self.head(torch.cat([self.image(image), sensors, words.mean(1)], 1))

def build():
    torch.manual_seed(0)
    return Three()
"""
DATA = f"""
import numpy as np

WORDS = {WORDS!r}

def samples():
    rng = np.random.default_rng(0)
    found = []
    for k in range(60):
        image = rng.integers(0, 256, (40 + k % 5, 30, 3), dtype=np.uint8)
        words = " ".join(WORDS[i] for i in rng.integers(0, 4, 1 + k % 7))
        found.append(((image, rng.normal(9, 2, 3).astype(np.float32), np.array(words)), k % 3))
    return found
"""
RECIPE = """
name = "three"
model = { definition = "model.py", input = [
  { shape = [1, 3, 24, 24], name = "image" },
  { shape = [1, 3], name = "sensors" },
  { shape = [1, 5], name = "ids", dtype = "int64" },
  { shape = [1, 5], name = "mask", dtype = "int64" },
] }

[data]
source = "data.py:samples"
calibration_samples = 20

[[data.preprocess]]
input = "image"
step = [
  { type = "resize", longest = 24 },
  { type = "pad", size = [24, 24], value = [114] },
  { type = "scale", by = 255 },
  { type = "layout", to = "NCHW" },
]

[[data.preprocess]]
input = "sensors"
step = [{ type = "normalize", mean = [9], std = [2] }]

[[data.preprocess]]
input = "ids"
step = [{ type = "tokenize", file = "words.json", max_length = 5, pad_token = "[PAD]" }]

[[target]]
name = "phone"
runtime = "tflite"
layout = "NHWC"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: k for k, word in enumerate(WORDS, 2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    for name, content in (("model.py", MODEL), ("data.py", DATA), ("recipe.toml", RECIPE)):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_an_image_a_vector_and_a_text_ship_together_with_their_steps(folder: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    done = in_process("build", folder / "recipe.toml", "--out", out, cache=cache, cwd=folder)
    assert done.code == 0, done.stderr
    sidecar = json.loads((out / "release" / "phone.json").read_text("utf-8"))
    image, sensors, text = sidecar["preprocessing"]["inputs"]
    taken = {tensor["name"]: tensor for tensor in sidecar["inputs"]}
    assert [name for each in (image, sensors, text) for name in each["inputs"]] == list(taken)
    # The file takes NHWC: nothing is moved for it.
    assert [step["step"] for step in image["steps"]] == ["resize", "pad", "divide"]
    assert image["output"] == taken[image["inputs"][0]]["layout"] == "NHWC"
    assert image["steps"][0].items() >= {"fit_height": 24, "fit_width": 24, "like": "pil"}.items()
    assert sensors["steps"] == [{"step": "normalize", "mean": [9.0], "std": [2.0]}]
    (tokenize,) = text["steps"]
    assert tokenize["file"] == "words.json" and tokenize["gives"] == ["ids", "mask"] and tokenize["pad_id"] == 0
    digest = hashlib.sha256((folder / "words.json").read_bytes()).hexdigest()
    assert tokenize["sha256"] == digest
    assert (out / "release" / "words.json").read_bytes() == (folder / "words.json").read_bytes()


def test_what_does_not_fit_a_sample_is_named_with_it(folder: Path, tmp_path: Path) -> None:
    recipe = (folder / "recipe.toml").read_text("utf-8")
    crop = recipe.replace('type = "resize", longest = 24', 'type = "center_crop", size = [24, 31]')
    (folder / "recipe.toml").write_text(crop.replace("size = [24, 24]", "size = [32, 32]"))
    done = in_process("build", folder / "recipe.toml", "--out", tmp_path / "out", cache=tmp_path / "cache", cwd=folder)
    assert done.code == 2, done.stderr
    assert "input 'image': data.preprocess: center_crop to 24 × 31 is larger than the image" in done.stderr
    assert "data.source: sample '" in done.stderr
