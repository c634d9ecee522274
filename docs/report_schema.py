"""Write report/schema.json from the types in records/, and search/schema.json: `python docs/report_schema.py`.

tests/unit/test_report_schema.py holds the file against them. What a field holds is the line under `Attributes:` of its
class; what a value may be is its type, what it is annotated with, and its unit, which names carry.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pocketforge.recipe.budget import Budget, task_metrics
from pocketforge.recipe.compress import Finetune
from pocketforge.records import SCHEMA_VERSION, GateResult, Report, StepRecord, TargetRecord
from pocketforge.records.words import May
from pocketforge.report.validity import SCHEMA
from pocketforge.search.result import FIT_VERSION, FitResult
from pocketforge.search.result import SCHEMA as FIT_SCHEMA

Schema = dict[str, Any]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
# How a name ends → what the unit in it allows.
_BY_UNIT: tuple[tuple[str, Schema], ...] = (
    (r"(^|_)sha256$", {"pattern": "^[0-9a-f]{64}$"}),
    (r"_(bytes|ms|s|ghz)$|^(macs|parameters|samples|threads|warmup|max_abs_diff|max_diff_ratio|max_steps.*)$",
     {"minimum": 0}),
    (r"(_agreement|_share|^share|^coverage|^accuracy_top1)$", {"minimum": 0, "maximum": 1}),
)  # fmt: skip
# What no type can say: a verdict that is MISSING has nothing measured, any other has.
_RULES: dict[type, Schema] = {
    GateResult: {
        "if": {"properties": {"verdict": {"const": "MISSING"}}},
        "then": {"properties": {"measurement": {"type": "null"}, "value": {"type": "null"}}},
        "else": {"properties": {"measurement": {"type": "object"}, "value": {"type": "number"}}},
    }
}


# Keys that came when there were reports of this schema version already: they are in every report that is written now.
_CAME_LATER: dict[type, frozenset[str]] = {
    Finetune: frozenset({"type"}),
    GateResult: frozenset({"metric", "waiver"}),
    StepRecord: frozenset({"cpu_s", "began_s", "ended_s"}),
    Budget: frozenset({"baseline", "max_regression", "per", "slice"}),
    TargetRecord: frozenset({"hint"}),
}


class _Writer:
    """Schemas of classes, each once under $defs."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._classes: dict[str, type] = {}

    def of(self, kind: Any, name: str = "") -> Schema:
        """The schema of a type. name: of the field or the key that has it."""
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            limits = args[1] if isinstance(args[1], May) else May(names=tuple(args[1]))
            return _limited(self.of(args[0], name), limits)
        if origin in (Union, types.UnionType):
            return self._choice(args, name)
        if origin is Literal:
            return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
        if origin is tuple:
            return self._array(args)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._table(args[1], name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self._reference(kind)
        if kind in (object, Any):
            return {}
        return {"type": _PLAIN[kind], **_of_unit(kind, name)}

    def _choice(self, args: tuple[Any, ...], name: str) -> Schema:
        parts = [{"type": "null"} if each is types.NoneType else self.of(each, name) for each in args]
        plain = [part.get("type") for part in parts]
        if types.NoneType in args and len(parts) == 2 and all(isinstance(kind, str) for kind in plain):
            return {**next(part for part in parts if part["type"] != "null"), "type": plain}
        return {"anyOf": parts}

    def _array(self, args: tuple[Any, ...]) -> Schema:
        schema: Schema = {"type": "array", "items": self.of(args[0])}
        if args[-1] is not Ellipsis:
            schema |= {"minItems": len(args), "maxItems": len(args)}
        return schema

    def _table(self, values: Any, name: str) -> Schema:
        if name == "accuracy":
            each = dict.fromkeys(task_metrics(), self.of(values))
            return {"type": "object", "properties": each, "additionalProperties": self.of(values)}  # a user's metrics
        return {"type": "object", "additionalProperties": self.of(values) or True}

    def _reference(self, kind: type) -> Schema:
        name = kind.__name__
        if self._classes.setdefault(name, kind) is not kind:
            raise ValueError(f"two classes are called {name}: {kind.__module__} and {self._classes[name].__module__}")
        if name not in self.definitions:
            self.definitions[name] = {}  # of itself, should it hold one
            self.definitions[name] = self.of_class(kind)
        return {"$ref": f"#/$defs/{name}"}

    def of_class(self, kind: type) -> Schema:
        """An object with a property for each field; where a field's keys stand beside the others, with those."""
        properties, required, flat = dict[str, Schema](), list[str](), getattr(kind, "FLAT", "")
        hints = get_type_hints(kind, include_extras=True)
        told = _told(kind)
        for field in dataclasses.fields(kind):
            if field.name == flat:
                continue
            hint, optional = hints[field.name], _may_be_left_out(kind, field)
            schema = self.of(_without_none(hint) if optional and field.default is None else hint, field.name)
            properties[field.name] = {**schema, "description": told[field.name]}
            required += [] if optional or field.name in _CAME_LATER.get(kind, ()) else [field.name]
        about = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0]
        schema = {"description": " ".join(about.split()), **_object(properties, required), **_RULES.get(kind, {})}
        return self._beside(schema, hints[flat]) if flat else schema

    def _beside(self, schema: Schema, hint: Any) -> Schema:
        if get_origin(hint) in (Union, types.UnionType):
            return {
                "description": schema["description"],
                "anyOf": [_joined(schema, self.of_class(each)) for each in get_args(hint)],
            }
        limits = get_args(hint)[1] if get_origin(hint) is Annotated else May()
        return schema if limits.from_plugins else {**schema, "additionalProperties": True}


def _object(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    if not properties:
        return {"type": "object", "maxProperties": 0}
    return {
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "required": sorted(required),
        "additionalProperties": False,
    }


def _joined(one: Schema, other: Schema) -> Schema:
    joined = _object({**one["properties"], **other["properties"]}, [*one["required"], *other["required"]])
    return {"description": other["description"], **joined}


def _may_be_left_out(kind: type, field: dataclasses.Field[Any]) -> bool:
    has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return has_default and bool(getattr(kind, "OMIT_UNSET", False))


def _without_none(hint: Any) -> Any:
    rest = tuple(each for each in get_args(hint) if each is not types.NoneType)
    return Union[rest] if get_origin(hint) in (Union, types.UnionType) else hint  # noqa: UP007 as many as there are


def _limited(schema: Schema, may: May) -> Schema:
    """A type's schema with what a value may be."""
    if may.least is not None:
        schema["minimum"] = may.least
    if may.most is not None:
        schema["maximum"] = may.most
    if may.pattern:
        schema["pattern"] = may.pattern
    if may.names:
        schema = {"enum": list(may.names)}
    if may.filled:
        schema["minItems" if schema["type"] == "array" else "minLength"] = 1
    if may.keys:
        schema["required"] = list(may.keys)
    return schema


def _of_unit(kind: type, name: str) -> Schema:
    for ending, schema in _BY_UNIT:
        if kind is not bool and re.search(ending, name) and (kind is str) == ("pattern" in schema):
            return schema
    return {}


def _told(kind: type) -> dict[str, str]:
    """Field → what its class says of it under `Attributes:`, the class or the one that it inherits from."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        told |= dict(_attributes(inspect.cleandoc(each.__dict__.get("__doc__") or "")))
    return told


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    _, _, lines = text.partition("Attributes:\n")
    for name, words in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", lines, re.MULTILINE):
        yield name, " ".join(words.split())


def schema() -> str:
    """The whole text of schema.json."""
    return _text(Report, f"report:{SCHEMA_VERSION}", "Pocketforge report", "the types in records/; docs/report.md")


def fit_schema() -> str:
    """The whole text of search/schema.json."""
    return _text(FitResult, f"fit:{FIT_VERSION}", "Pocketforge search", "search/result.py; docs/fit.md")


def _text(whole: type, name: str, title: str, told_by: str) -> str:
    writer = _Writer()
    body = writer.of_class(whole)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:pocketforge:{name}",
        "title": title,
        "$comment": f"Written by docs/report_schema.py from {told_by} says what may come.",
    }
    definitions = {"$defs": dict(sorted(writer.definitions.items()))}
    return json.dumps({**head, **body, **definitions}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FIT_SCHEMA.write_text(fit_schema(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
