"""A text → token ids, by a tokenizer file."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError, ToolMissing
from pocketforge.files import refuse_special
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.version import install

_HINT = (
    "wanted a tokenizer.json of the library tokenizers: transformers' AutoTokenizer….save_pretrained(DIR) writes one"
)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer file, set up as a step says.

    Attributes:
        encoder: The library's, which cuts and pads by itself.
        sha256: Of the file.
        pad_id: The token that is padded with.
        pad_side: Where.
    """

    encoder: Any
    sha256: str
    pad_id: int
    pad_side: str


def tokenize(step: Tokenize, path: Path, raw: Array) -> tuple[Array, ...]:
    """A text, an array of shape () of text → (max_length,) each of what the step gives.

    Raises ModelError for what is no text, and for a file that is no tokenizer; ToolMissing without the library.
    """
    if raw.dtype.kind != "U" or raw.ndim:
        raise ModelError(f"data.preprocess: tokenize takes a text, found shape {raw.shape} {raw.dtype}")
    found = open_tokenizer(step, path).encoder.encode(str(raw[()]), add_special_tokens=step.special_tokens)
    values = {"ids": found.ids, "mask": found.attention_mask, "type_ids": found.type_ids}
    return tuple(np.asarray(values[name], step.dtype) for name in step.gives)


def open_tokenizer(step: Tokenize, path: Path) -> Tokenizer:
    """Read once for all samples. Raises ModelError, with the path, for a file that is no tokenizer."""
    try:
        refuse_special(path)
        about = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _open(step, path, (about.st_mtime_ns, about.st_size, about.st_ino))


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{_where(path)} cannot be read: {error.strerror or error}", _HINT)


def _where(path: Path) -> str:
    return f"data.preprocess: the tokenizer {path}"


@functools.lru_cache(maxsize=8)
def _open(step: Tokenize, path: Path, _: tuple[int, ...]) -> Tokenizer:
    """The last argument changes with the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    where = _where(path)
    try:
        import tokenizers
    except ImportError as error:
        raise ToolMissing("data.preprocess.tokenize needs tokenizers", install("text")) from error
    try:
        json.loads(content)  # first: of other files the library tells what its parser met
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is none: it is no JSON ({error})", _HINT) from error
    try:
        encoder = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare ones
        raise ModelError(f"{where} is none: {error}", _HINT) from error
    own = encoder.num_special_tokens_to_add(is_pair=False) if step.special_tokens else 0
    if own >= step.max_length:
        # The library would then cut nothing at all.
        raise ModelError(
            f"{where} adds {own} special tokens to each text, wanted a max_length of {own + 1} or more, found "
            f"{step.max_length}",
            "raise max_length, or write special_tokens = false",
        )
    padding, cutting = encoder.padding or {}, encoder.truncation or {}
    side = step.pad_side or padding.get("direction", "right")
    token, pad_id = _pad_token(step, encoder, padding, where)
    encoder.enable_truncation(step.max_length, direction=cutting.get("direction", "right"))
    type_id = padding.get("pad_type_id", 0)
    encoder.enable_padding(direction=side, pad_id=pad_id, pad_token=token, pad_type_id=type_id, length=step.max_length)
    return Tokenizer(encoder, hashlib.sha256(content).hexdigest(), pad_id, side)


def _pad_token(step: Tokenize, encoder: Any, written: dict[str, Any], where: str) -> tuple[str, int]:
    token = step.pad_token or written.get("pad_token", "")
    if not token:
        raise ModelError(
            f"{where} does not say what is padded with",
            'write pad_token, as the model was trained with: "[PAD]", "<pad>", "<|endoftext|>"',
        )
    number = encoder.token_to_id(token)
    if number is None:
        near = [name for name in ("[PAD]", "<pad>", "<|endoftext|>", "</s>") if encoder.token_to_id(name) is not None]
        known = f"; it has {', '.join(near)}" if near else ""
        raise ModelError(f"{where} has no token {token!r} to pad with{known}", "write pad_token")
    return token, int(number)
