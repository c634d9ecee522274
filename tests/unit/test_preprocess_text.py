"""Texts through a tokenizer file: ids and what goes with them, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.errors import ModelError, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.outcomes.data import Preprocessing
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.preprocess import InputSteps
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.recipe.toml import load_recipe

tokenizers = pytest.importorskip("tokenizers")
TEXT = np.array("Hello worlds")
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "hello": 4, "world": 5, "##s": 6}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a tokenizer.json as BERT's are."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(tmp_path / "plain.json"))
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", direction="left")
    tokenizer.enable_truncation(512)
    tokenizer.save(str(tmp_path / "padded.json"))
    return tmp_path


def told(folder: Path, text: np.ndarray, step: Tokenize) -> list[list[int]]:
    about = About(resolve=lambda file: folder / file)
    found = prepare((InputSteps((step,)),), (text,), about)
    assert all(array.dtype == step.dtype for array in found.inputs)
    return [array.tolist() for array in found.inputs]


def test_texts_become_ids_and_masks_of_one_length(folder: Path) -> None:
    plain = Tokenize("plain.json", 7, pad_token="[PAD]", gives=("ids", "mask", "type_ids"))
    assert told(folder, TEXT, plain) == [[2, 4, 5, 6, 3, 0, 0], [1, 1, 1, 1, 1, 0, 0], [0] * 7]
    assert told(folder, np.array(""), plain)[0] == [2, 3, 0, 0, 0, 0, 0]
    cut = Tokenize("plain.json", 4, pad_token="[PAD]", dtype="int32")
    assert told(folder, TEXT, cut) == [[2, 4, 5, 3], [1, 1, 1, 1]]
    bare = Tokenize("plain.json", 4, pad_token="[PAD]", special_tokens=False, gives=("mask", "ids"))
    assert told(folder, TEXT, bare) == [[1, 1, 1, 0], [4, 5, 6, 0]]
    assert told(folder, np.array("hello zebra"), bare)[1] == [4, 1, 0, 0]


def test_padding_is_the_files_unless_the_recipe_says_another(folder: Path) -> None:
    left = Tokenize("padded.json", 7)
    assert told(folder, TEXT, left)[0] == [0, 0, 2, 4, 5, 6, 3]
    assert told(folder, TEXT, Tokenize("padded.json", 7, pad_side="right"))[0] == [2, 4, 5, 6, 3, 0, 0]


def test_the_ids_are_transformerss_own(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "plain.json"), pad_token="[PAD]")
    for text in ("Hello worlds", "", "hello hello hello hello hello hello hello", "Wörld, hello!"):
        wanted = theirs(text, max_length=6, padding="max_length", truncation=True)
        found = told(folder, np.array(text), Tokenize("plain.json", 6, pad_token="[PAD]"))
        assert found == [wanted["input_ids"], wanted["attention_mask"]]


def test_the_sidecar_names_the_file_by_its_content(folder: Path) -> None:
    about = About(resolve=lambda file: folder / file)
    said = describe((InputSteps((Tokenize("plain.json", 7, pad_token="[PAD]"),)),), about)
    assert isinstance(said, Preprocessing)
    (step,) = said.steps
    assert (said.input, said.output, step["file"], step["pad_id"]) == ("text", None, "plain.json", 0)
    assert len(str(step["sha256"])) == 64 and step["gives"] == ["ids", "mask"]


@pytest.mark.parametrize(
    ("step", "text", "words"),
    [
        (Tokenize("absent.json", 7), TEXT, r"the tokenizer .*absent\.json cannot be read: No such file"),
        (Tokenize("vocab.txt", 7), TEXT, "is none: it is no JSON"),
        (Tokenize("config.json", 7), TEXT, "is none: "),
        (Tokenize("plain.json", 7), TEXT, "does not say what is padded with"),
        (Tokenize("plain.json", 7, pad_token="<pad>"), TEXT, r"has no token '<pad>' to pad with; it has \[PAD\]"),
        (Tokenize("plain.json", 2, pad_token="[PAD]"), TEXT, "adds 2 special tokens to each text"),
        (Tokenize("plain.json", 7, pad_token="[PAD]"), np.zeros(3), r"takes a text, found shape \(3,\) float64"),
        (Tokenize("plain.json", 7, pad_token="[PAD]"), np.array(["a", "b"]), r"takes a text, found shape \(2,\)"),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_or_no_text(folder: Path, step: Tokenize, text: np.ndarray, words: str) -> None:
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (folder / "config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(ModelError, match=words):
        told(folder, text, step)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    step = Tokenize("plain.json", 4, pad_token="[PAD]", special_tokens=False)
    assert told(folder, TEXT, step)[0] == [4, 5, 6, 0]
    text = (folder / "plain.json").read_text("utf-8")
    (folder / "plain.json").write_text(text.replace('"hello": 4', '"hello": 7').replace('"hello":4', '"hello":7'))
    assert told(folder, TEXT, step)[0] == [7, 5, 6, 0]


RECIPE = """
name = "text"
[model]
definition = "model.py"
[[model.input]]
shape = [1, 7]
dtype = "int64"
name = "input_ids"
[[model.input]]
shape = [1, 7]
dtype = "int64"
name = "attention_mask"
[data]
source = "data.py:samples"
[data.preprocess]
input = "input_ids"
step = [{ type = "tokenize", file = "plain.json", max_length = 7, pad_token = "[PAD]" }]
[[target]]
name = "t"
runtime = "onnx"
"""


def test_the_tokenizer_is_in_the_keys_of_what_reads_it(folder: Path) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "model.py").write_text("")
    (folder / "data.py").write_text("")

    def key() -> str:
        recipe = load_recipe(folder / "recipe.toml")
        return make_plan(recipe, gather(recipe)).data

    before = key()
    with (folder / "plain.json").open("a") as file:
        file.write("\n")
    assert key() != before
    (folder / "plain.json").unlink()
    with pytest.raises(RecipeError) as caught:
        key()
    assert caught.value.faults == (f"data.preprocess.step[0].file: no file {folder / 'plain.json'}",)
