"""Which tokenizer.json files are tokenizers that readers of TFLite Metadata have, and why others are not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pocketforge.runtimes.bert_vocabulary import bert_vocabulary

STEP = {
    "special_tokens": True,
    "gives": ["mask", "ids", "type_ids"],
    "dtype": "int32",
    "pad_side": "right",
}
BERT: dict[str, Any] = {
    "added_tokens": [{"id": 4, "content": "[MASK]"}, {"id": 0, "content": "[PAD]"}],
    "normalizer": {"type": "BertNormalizer", "lowercase": True, "handle_chinese_chars": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
    },
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "vocab": {"[UNK]": 1, "[PAD]": 0, "[CLS]": 2, "##s": 5, "[SEP]": 3},
    },
}


def test_words_are_in_the_order_of_their_ids() -> None:
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##s")
    assert bert_vocabulary(BERT, STEP) == words
    other = {**BERT, "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}
    assert bert_vocabulary(other, STEP) == words


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("model", "type"), "BPE", "its model is BPE, wanted BERT's WordPiece"),
        (("model",), None, "its model is of no named kind"),
        (("model", "continuing_subword_prefix"), "@@", "its continuing_subword_prefix is '@@', the reader's is '##'"),
        (("model", "unk_token"), "<unk>", "its unk_token is '<unk>'"),
        (("normalizer",), None, "its normalizer is none"),
        (("normalizer", "lowercase"), False, "it keeps capitals, and the reader lowers"),
        (("normalizer", "handle_chinese_chars"), False, "keeps Chinese characters together"),
        (("pre_tokenizer", "type"), "Whitespace", "its pre_tokenizer is Whitespace"),
        (("post_processor",), None, "it does not put [CLS] before a text"),
        (("post_processor", "single"), BERT["post_processor"]["single"][:2], "it does not put [CLS] before a text"),
        (("truncation",), {"direction": "Left"}, "it pads or cuts on the left"),
        (("added_tokens",), [], "its ids are not 0 to"),
        (("added_tokens",), [{"id": 4, "content": "two\nlines"}], "its word 'two\\nlines' is no line of text"),
        (("model", "vocab"), {"[PAD]": 1, "[UNK]": 0, "[CLS]": 2, "##s": 5, "[SEP]": 3}, "its [PAD] is number 1"),
        (("model", "vocab"), {"[PAD]": 0, "[unk]": 1, "[CLS]": 2, "[SEP]": 3}, "it has no word [UNK]"),
    ],
)
def test_why_a_tokenizer_is_another(place: tuple[str, ...], value: object, why: str) -> None:
    content = copy.deepcopy(BERT)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if place == ("model", "vocab") and value["[PAD]"]:  # type: ignore[index]
        content["added_tokens"] = [{"id": 4, "content": "[MASK]"}]
    found = bert_vocabulary(content, STEP)
    assert isinstance(found, str) and why in found


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("gives", ["ids", "mask"], "the step tokenize gives other inputs"),
        ("dtype", "int64", "the step tokenize gives other inputs"),
        ("special_tokens", False, "the step tokenize gives other inputs"),
        ("pad_side", "left", "it pads or cuts on the left"),
    ],
)
def test_why_a_step_is_another(key: str, value: object, why: str) -> None:
    found = bert_vocabulary(BERT, {**STEP, key: value})
    assert isinstance(found, str) and why in found
