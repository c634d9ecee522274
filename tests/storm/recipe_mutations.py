"""Recipes mutated by grammar and by bytes. Nothing here knows which of them are right."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import math
import random
import types
import typing
from collections.abc import Callable
from typing import Any

from pocketforge.recipe import Recipe

Path = tuple[Any, ...]  # keys and places from a recipe's root to one of its values

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 64, 98, 255, 1000, 65_535, 10**6, 2**31, 2**32, 2**63, 10**18, 10**30, -(2**63), 10**5000),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 1.5, 98.0, 1e-12, 1e-300, 1e18, 1e30, 1e308, -1e30, math.inf, -math.inf, math.nan),
)  # fmt: skip
STRANGE: tuple[str, ...] = (
    *("", " ", "\x00", "a\x00b", "\x1b[31mred\x1b[0m", "\r\n", "\x7f", "\u202e", "\u2028", "\ufeff", "é", "日本"),
    *("🙂", "-rf", "--help", "..", "../..", "/", "//", "~", "~nobody", "con", "a/b", "a\\b", "*", "[", "{", "%s"),
    *("{0}", "$HOME", f"{'x' * 252}", "y" * 300, "z" * 5000, "w" * 100_000, "é" * 200, "a" * 255),
    *("/" + "b" * 4096, "c/" * 3000, "nan", "inf", "1e999", "true", "null", "None", "auto", "digits", "digits:x"),
    *("npz:", "npz:/", "imagefolder:.", "cifar10:.", "/dev/null", "/dev/zero", "npz:/dev/zero", "fifo"),
    *("npz:fifo", "loop", "imagefolder:loop", "/proc/self/mem", "npz:/dev/null", "/etc"),
    *("imagefolder:/proc/self/fd", "model.py:", ":", "model.py:build"),
)  # fmt: skip
DATES = (
    datetime.date(2026, 11, 28),
    datetime.datetime(2026, 11, 28, 12, 30, tzinfo=datetime.UTC),
    datetime.time(7, 32, 1),
)


@dataclasses.dataclass(frozen=True)
class Deep:
    """Arrays or tables in each other, so many levels: only written out, as Python itself cannot walk them."""

    levels: int
    opens: str
    closes: str

    def __str__(self) -> str:
        return self.opens * self.levels + "1" + self.closes * self.levels


def dump(tree: dict[str, Any]) -> str:
    """TOML of these values, each top key on its line."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in tree.items())


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, Deep):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        # Python refuses to write integers of thousands of digits; hexadecimal ones are written in no time.
        return str(value) if value.bit_length() < 10_000 else f"1{'0' * 5000}"
    if isinstance(value, str):
        return _key(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    return "[" + ", ".join(map(_value, value)) + "]"


def places(value: Any, path: Path = ()) -> list[Path]:
    """Of every value in a tree, but for the root."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in ((*path, key), *places(inner, (*path, key)))]


def at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def put(tree: Any, path: Path, value: Any) -> None:
    at(tree, path[:-1])[path[-1]] = value


# Tables' names in TOML, and what each may hold.
_RENAMED = {"targets": "target", "devices": "device", "budgets": "budget", "inputs": "input", "libraries": "library"}


def known_keys(kind: Any = Recipe, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Where each key of a recipe stands (`compress`, `lr`), and its type."""
    found: list[tuple[tuple[str, ...], Any]] = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        here = (*path, _RENAMED.get(field.name, field.name))
        found.append((here, hints[field.name]))
        for inner in _tables(hints[field.name]):
            if len(here) < 5:
                found += known_keys(inner, here)
    return found


def _tables(hint: Any) -> list[Any]:
    if dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) in (tuple, types.UnionType, typing.Union):
        return [table for inner in typing.get_args(hint) for table in _tables(inner)]
    return []


KEYS = known_keys()


def literals(hint: Any) -> list[str]:
    """The words that a key takes."""
    if typing.get_origin(hint) is typing.Literal:
        return [str(word) for word in typing.get_args(hint)]
    if typing.get_origin(hint) is typing.Annotated:
        return list(hint.__metadata__[0])
    return [word for inner in typing.get_args(hint) for word in literals(inner)]


def some_value(rng: random.Random) -> Any:
    kind = rng.choice(["number", "number", "string", "bool", "date", "array", "table", "deep"])
    if kind == "number":
        return rng.choice(NUMBERS)
    if kind == "string":
        return rng.choice(STRANGE)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "date":
        return rng.choice(DATES)
    if kind == "array":
        one: Any = rng.choice((rng.choice(NUMBERS), rng.choice(STRANGE), {}, [], True))
        return [one] * rng.choice((0, 1, 2, 3, 1000))
    if kind == "table":
        return {rng.choice(STRANGE): rng.choice(NUMBERS)} if rng.random() < 0.7 else {}
    return Deep(rng.choice((3, 50, 900, 3000, 20_000)), *rng.choice((("[", "]"), ("{a=", "}"), ("[{a=", "}]"))))


def replace_number(tree: dict[str, Any], rng: random.Random) -> None:
    numeric = [p for p in places(tree) if type(at(tree, p)) in (int, float)]
    if numeric:
        put(tree, rng.choice(numeric), rng.choice(NUMBERS))


def replace_value(tree: dict[str, Any], rng: random.Random) -> None:
    put(tree, rng.choice(places(tree)), some_value(rng))


def replace_string(tree: dict[str, Any], rng: random.Random) -> None:
    texts = [p for p in places(tree) if type(at(tree, p)) is str]
    if texts:
        put(tree, rng.choice(texts), rng.choice(STRANGE))


def set_known_key(tree: dict[str, Any], rng: random.Random) -> None:
    """A key where it belongs, with a number, one of its words, or anything."""
    path, hint = rng.choice([key for key in KEYS if len(key[0]) > 1])
    words = literals(hint)
    draw = rng.random()
    value = rng.choice(words) if words and draw < 0.7 else rng.choice(NUMBERS) if draw < 0.8 else some_value(rng)
    here: Any = tree
    for step in path[:-1]:
        if isinstance(here, list):
            here = rng.choice(here) if here else {}
        if not isinstance(here, dict):
            return
        here = here.setdefault(step, {})
    if isinstance(here, list) and here:
        here = rng.choice(here)
    if isinstance(here, dict):
        here[path[-1]] = value


def remove_key(tree: dict[str, Any], rng: random.Random) -> None:
    path = rng.choice(places(tree))
    del at(tree, path[:-1])[path[-1]]


def misspell_key(tree: dict[str, Any], rng: random.Random) -> None:
    keys = [p for p in places(tree) if isinstance(p[-1], str) and p[-1]]
    path = rng.choice(keys)
    table, key = at(tree, path[:-1]), path[-1]
    place = rng.randrange(len(key))
    other = rng.choice(
        (key[:place] + key[place + 1 :], key[:place] + key[place] + key[place:], key.upper(), rng.choice(STRANGE))
    )
    table[other] = table.pop(key)


def copy_elsewhere(tree: dict[str, Any], rng: random.Random) -> None:
    """A value under another key, or in another table."""
    everything = places(tree)
    source, target = rng.choice(everything), rng.choice(everything)
    put(tree, target, copy.deepcopy(at(tree, source)))


def double_entry(tree: dict[str, Any], rng: random.Random) -> None:
    arrays = [p for p in places(tree) if isinstance(at(tree, p), list) and at(tree, p)]
    if arrays:
        array = at(tree, rng.choice(arrays))
        array.extend(copy.deepcopy(rng.choice(array)) for _ in range(rng.choice((1, 1, 2, 50))))


def swap_names(tree: dict[str, Any], rng: random.Random) -> None:
    """Targets named by each other's files (a, a.ort, A), for what is shipped."""
    targets = tree.get("target")
    if isinstance(targets, list) and len(targets) > 1 and all(isinstance(t, dict) for t in targets):
        one, other = rng.sample(targets, 2)
        name = str(one.get("name", "a"))
        other["name"] = rng.choice(
            (name.upper(), f"{name}.ort", f"{name}.json", f"{name}.onnx", "SHA256SUMS", "report")
        )


GRAMMAR: dict[str, Callable[[dict[str, Any], random.Random], None]] = {
    "a number": replace_number,
    "another type": replace_value,
    "a string": replace_string,
    "a known key": set_known_key,
    "a key removed": remove_key,
    "a key misspelt": misspell_key,
    "copied elsewhere": copy_elsewhere,
    "entries doubled": double_entry,
    "shipped names": swap_names,
}


def line_doubled(text: bytes, rng: random.Random) -> bytes:
    lines = text.split(b"\n")
    place = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines) + 1), lines[place])
    return b"\n".join(lines)


def span_cut(text: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(text))
    return text[:start] + text[start + rng.choice((1, 2, 5, 20, 200)) :]


def span_moved(text: bytes, rng: random.Random) -> bytes:
    start, to = rng.randrange(len(text)), rng.randrange(len(text))
    return text[:to] + text[start : start + rng.choice((1, 5, 30))] + text[to:]


def truncated(text: bytes, rng: random.Random) -> bytes:
    return text[: rng.randrange(len(text))]


def bits_flipped(text: bytes, rng: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def bytes_inserted(text: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(text))
    more = rng.choice(
        (b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x1b[2J", b'"""', b"[[", b"]]", b"=", b".", b"\r")
    )
    return text[:start] + more + text[start:]


def digits_replaced(text: bytes, rng: random.Random) -> bytes:
    spans = [n for n, byte in enumerate(text) if chr(byte).isdigit()]
    place = rng.choice(spans or [0])
    return text[:place] + rng.choice((b"-", b"9" * 20, b"1e", b"0x", b"nan", b"inf", b"_", b"")) + text[place + 1 :]


def recoded(text: bytes, rng: random.Random) -> bytes:
    words = text.decode("utf-8", "replace")
    how = rng.randrange(6)
    if how == 0:
        return words.encode("utf-16")
    if how == 1:
        return words.encode("utf-8-sig")
    if how == 2:
        return words.replace('"', '"é', 1).encode("latin-1", "replace")
    if how == 3:
        return words.replace("\n", rng.choice(("\r\n", "\r", "\u2028", "\x0b"))).encode()
    if how == 4:
        return words.encode("utf-32")
    return b""


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes: a line doubled": line_doubled,
    "bytes: a span cut": span_cut,
    "bytes: a span moved": span_moved,
    "bytes: truncated": truncated,
    "bytes: bits flipped": bits_flipped,
    "bytes: bytes inserted": bytes_inserted,
    "bytes: digits replaced": digits_replaced,
    "bytes: recoded": recoded,
}


def mutate(text: bytes, tree: dict[str, Any], rng: random.Random) -> tuple[str, bytes]:
    """One to three changes of one kind; by grammar three times in four."""
    times = rng.choice((1, 1, 1, 2, 3))
    if rng.random() < 0.25:
        kind = rng.choice(list(BYTES))
        for _ in range(times):
            text = BYTES[kind](text, rng) or b"\n"
        return kind, text
    kind = rng.choice(list(GRAMMAR))
    tree = copy.deepcopy(tree)
    for _ in range(times):
        if places(tree):
            GRAMMAR[kind](tree, rng)
    return kind, dump(tree).encode("utf-8", "replace")
