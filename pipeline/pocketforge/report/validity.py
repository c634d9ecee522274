"""Whether a report is one, by schema.json: asked when a report cannot be read or shown, to tell what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("schema.json")
Schema = Mapping[str, Any]  # JSON Schema: as deep as it likes

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def first_fault(data: object) -> str:
    """The first thing in a report that its schema does not allow, with its place; empty when there is none."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return next(_faults(data, schema, schema, "report"), "")


def _faults(value: object, schema: Schema, root: Schema, place: str) -> Iterator[str]:
    """By those keywords of JSON Schema that ours has. Keys that it does not name are harmless here."""
    if "$ref" in schema:
        yield from _faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, place)
    for choice in ("anyOf", "oneOf"):
        if choice in schema and not any(next(_faults(value, each, root, place), "") == "" for each in schema[choice]):
            yield f"{place} is none of what it may be, found {_short(value)}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _TYPES[k]) and (k == "boolean" or type(value) is not bool) for k in kinds):
        yield f"{place}: wanted {' or '.join(kinds)}, found {_short(value)}"
        return
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        yield f"{place}: wanted {_short(schema.get('enum', schema.get('const')))}, found {_short(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place}: wanted a finite number, found {_short(value)}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        more = schema.get("exclusiveMinimum")
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            yield f"{place}: found {_short(value)}, out of range"
        if more is not None and not value > more:
            yield f"{place}: wanted more than {more}, found {_short(value)}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or not re.search(schema.get("pattern", ""), value):
            yield f"{place}: found {_short(value)}"
    elif isinstance(value, list):
        yield from _in_array(value, schema, root, place)
    elif isinstance(value, dict):
        yield from _in_object(value, schema, root, place)


def _in_array(value: list[object], schema: Schema, root: Schema, place: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{place}: wanted {schema['minItems']} or more, found {len(value)}"
    for index, item in enumerate(value if "items" in schema else ()):
        yield from _faults(item, schema["items"], root, f"{place}[{index}]")


def _in_object(value: dict[str, object], schema: Schema, root: Schema, place: str) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{place}.{key} is missing"
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{place}: wanted at most {schema['maxProperties']} keys, found {len(value)}"
    others = schema.get("additionalProperties", True)
    for key, inner in value.items():
        inner_schema = schema.get("properties", {}).get(key, others)
        if isinstance(inner_schema, dict):
            yield from _faults(inner, inner_schema, root, f"{place}.{key}")


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
