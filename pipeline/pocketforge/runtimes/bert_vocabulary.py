"""A tokenizer.json as readers of TFLite Metadata have it: the words of a BERT tokenizer in the order of their ids.

Source: the format of the library `tokenizers`, and metadata_schema.fbs (BertTokenizerOptions), which holds a list of
words and nothing else: what is done to a text before words are looked up is the reader's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What MediaPipe's tokenizer looks up by these names, whatever the file calls them.
_CLS, _SEP, _UNKNOWN, _PAD = "[CLS]", "[SEP]", "[UNK]", "[PAD]"
_GIVES = {"ids", "mask", "type_ids"}


def bert_vocabulary(content: Mapping[str, Any], step: Mapping[str, Any]) -> tuple[str, ...] | str:
    """The words by id; or, of a tokenizer that is another, why, in words.

    content: of a tokenizer.json. step: `tokenize` in the words of a sidecar.
    """
    why = next(_differences(content, step), "")
    if why:
        return why
    ids = {**content["model"]["vocab"], **{each["content"]: each["id"] for each in content.get("added_tokens", ())}}
    words = {number: word for word, number in ids.items()}
    if sorted(words) != list(range(len(ids))):
        return "its ids are not 0 to one less than it has words, and the metadata's list has no other numbers"
    if missing := [word for word in (_CLS, _SEP, _UNKNOWN, _PAD) if word not in ids]:
        return f"it has no word {', '.join(missing)}, which the reader looks up"
    if ids[_PAD]:
        return f"its {_PAD} is number {ids[_PAD]}, and the reader pads with 0"
    if bad := [word for word in ids if not word or {"\n", "\r"} & set(word)]:
        return f"its word {bad[0]!r} is no line of text, and the metadata's words are lines"
    return tuple(words[number] for number in range(len(words)))


def _differences(content: Mapping[str, Any], step: Mapping[str, Any]) -> Iterator[str]:
    model = content.get("model") or {}
    if model.get("type") != "WordPiece":
        yield f"its model is {model.get('type', 'of no named kind')}, wanted BERT's WordPiece"
    wanted = {"continuing_subword_prefix": "##", "unk_token": _UNKNOWN}
    for key, value in wanted.items():
        if model.get(key) != value:
            yield f"its {key} is {model.get(key)!r}, the reader's is {value!r}"
    normalizer = content.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        yield f"its normalizer is {normalizer.get('type', 'none')}, wanted BertNormalizer"
    if not normalizer.get("lowercase"):
        yield "it keeps capitals, and the reader lowers the letters of every text"
    if not normalizer.get("handle_chinese_chars"):
        yield "it keeps Chinese characters together, and the reader parts them"
    before = content.get("pre_tokenizer") or {}
    if before.get("type") != "BertPreTokenizer":
        yield f"its pre_tokenizer is {before.get('type', 'none')}, wanted BertPreTokenizer"
    if _around(content.get("post_processor") or {}) != (_CLS, _SEP):
        yield f"it does not put {_CLS} before a text and {_SEP} behind it"
    if not step["special_tokens"] or set(step["gives"]) != _GIVES or step["dtype"] != "int32":
        yield "the step tokenize gives other inputs than ids, mask and type_ids in int32, with special tokens"
    if step["pad_side"] != "right" or (content.get("truncation") or {}).get("direction", "Right") != "Right":
        yield "it pads or cuts on the left, and the reader on the right"


def _around(processor: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a processor puts before and behind one text."""
    if processor.get("type") == "BertProcessing":
        return processor["cls"][0], processor["sep"][0]
    if processor.get("type") != "TemplateProcessing":
        return None
    parts = [each["SpecialToken"]["id"] if "SpecialToken" in each else None for each in processor["single"]]
    return (parts[0], parts[2]) if len(parts) == 3 and parts[1] is None and parts[0] and parts[2] else None
