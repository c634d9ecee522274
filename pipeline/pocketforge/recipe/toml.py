"""TOML → Recipe: strict, every fault of a file at once, each with its path.

Types are exact: `"8.7"` is not 8, `1` is not true, and limits may not be inf or nan.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import tomllib
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import cattrs
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.recipe.compress import KINDS, Auto, Compress
from pocketforge.recipe.device import KINDS as DEVICE_KINDS
from pocketforge.recipe.device import Device
from pocketforge.recipe.faults import Fault, WrongTable, join
from pocketforge.recipe.model import NO_MODEL, InputSpec
from pocketforge.recipe.names import check_file, check_keys, suggest
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.output_loss import OutputLoss
from pocketforge.recipe.preprocess import STEPS, InputSteps, Preprocess, Preprocessing, Step
from pocketforge.recipe.recipe import Recipe
from pocketforge.recipe.sizes import parse_shape
from pocketforge.registries import DEVICES

# TOML writes arrays of tables in the singular: [[target]].
_TABLE_NAMES = {
    "targets": "target",
    "devices": "device",
    "budgets": "budget",
    "waivers": "waiver",
    "inputs": "input",
    "libraries": "library",
    "objectives": "objective",
}
# model.outputs and verify.outputs are other keys than [[output]].
_OUTPUTS: Hint = tuple[Output, ...]
# Set by us, never by the file.
_HIDDEN = {"folder", "varying", "bucket"}
# No recipe comes near these; one that passes them would take minutes to refuse.
_MOST_ENTRIES, _MOST_FAULTS, _MOST_KEYS, _MOST_LETTERS = 1000, 50, 20, 1000
# A type as annotations have it, for which typing has no type.
Hint: TypeAlias = Any
Hook = Callable[[object, Hint], object]
Exact = TypeVar("Exact", str, int, bool, dict[str, object])
Kind = TypeVar("Kind")
_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "a table"}


def load_recipe(path: Path, for_pytorch: str = "") -> Recipe:
    """Read and check a recipe file; raises RecipeError with every fault found.

    for_pytorch: what needs the PyTorch model that a recipe of files made elsewhere is without, in words.
    """
    try:
        check_file(path)
        # With or without a byte-order mark, as some editors of Windows write it.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"no recipe file at {path}", "pocketforge init MODEL.py writes one") from None
    except (OSError, ValueError) as error:  # UnicodeDecodeError is one, a NUL in the path another, and check_file's
        reason = error.strerror if isinstance(error, OSError) else _not_text(error)
        raise RecipeError(f"cannot read the recipe {path}: {reason}") from None
    recipe = parse_recipe(text, str(path), os.path.dirname(os.path.realpath(path)))
    if for_pytorch and not recipe.model.is_pytorch:
        raise RecipeError(
            f"{for_pytorch} needs a PyTorch model, and {path} has none: its targets are files made elsewhere",
            "model.definition names one",
        )
    return recipe


def _short(fault: str) -> str:
    return fault if len(fault) <= _MOST_LETTERS else f"{fault[:_MOST_LETTERS]} …"


def _not_text(error: ValueError) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def parse_recipe(text: str, origin: str = "recipe", folder: str = "") -> Recipe:
    """As `load_recipe`, from text; `folder` is what the recipe's relative paths are relative to."""
    try:
        check_keys(text)
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: an integer of thousands of digits is Python's own ValueError.
        raise RecipeError(f"{origin} is not valid TOML: {error}") from None
    if "model" not in raw and _all_have_files(raw.get("target")):
        raw["model"] = {"definition": NO_MODEL.definition}
    try:
        recipe = _converter().structure(raw, Recipe)
        wrong = recipe.faults_of_fit()
    except BaseValidationError as error:
        wrong = _faults(error, "")
    if wrong:
        faults = sorted({_short(str(fault)) for fault in wrong})
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        more = [f"… and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        raise RecipeError(f"{origin} has {count}:", faults=[*faults[:_MOST_FAULTS], *more]) from None
    return dataclasses.replace(recipe, folder=folder)


def _all_have_files(targets: object) -> bool:
    """Whether all targets are files made elsewhere: such a recipe may be without a model."""
    return isinstance(targets, list) and bool(targets) and all(isinstance(t, dict) and "file" in t for t in targets)


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, functools.partial(_exact, wanted=str))
    converter.register_structure_hook(int, functools.partial(_exact, wanted=int))
    converter.register_structure_hook(bool, functools.partial(_exact, wanted=bool))
    converter.register_structure_hook(float, lambda value, _: _number(value))
    converter.register_structure_hook_func(_has_origin(typing.Literal), _literal)
    converter.register_structure_hook_func(_has_origin(typing.Annotated), _registered)
    converter.register_structure_hook_func(_is_optional, lambda value, t: converter.structure(value, _required(t)))
    converter.register_structure_hook_func(lambda cls: cls == float | Auto | None, lambda value, _: _ratio(value))
    converter.register_structure_hook_func(_has_origin(dict), functools.partial(_exact, wanted=dict))
    converter.register_structure_hook_func(lambda cls: cls == dict[str, float], lambda value, _: _numbers(value))
    converter.register_structure_hook_func(lambda cls: cls == dict[str, str], lambda value, _: _texts(value))
    converter.register_structure_hook_func(
        lambda cls: cls == Compress, lambda value, _: _typed(value, KINDS, converter)
    )
    converter.register_structure_hook_func(
        lambda cls: cls == Preprocessing, lambda value, _: _preprocessing(value, converter)
    )
    converter.register_structure_hook_func(lambda cls: cls == Step, lambda value, _: _typed(value, STEPS, converter))
    converter.register_structure_hook_func(lambda cls: cls == Device, lambda value, _: _device(value, converter))
    converter.register_structure_hook_factory(_has_origin(tuple), lambda t: _array_hook(t, converter))
    converter.register_structure_hook_factory(dataclasses.is_dataclass, lambda t: _table_hook(t, converter))
    return converter


def _table_hook(cls: Hint, converter: cattrs.Converter) -> Hook:
    # cattrs looks at types without what they are annotated with: names of registries would be any text.
    plain, hints = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    names = {f.name: _key(f.name, plain[f.name]) for f in dataclasses.fields(cls)}
    overrides = {
        name: override(
            rename=key if key != name else None,
            omit=True if name in _HIDDEN else None,
            struct_hook=_hook_of(hints[name], converter) if hints[name] != plain[name] else None,
        )
        for name, key in names.items()
    }
    structure = make_dict_structure_fn(cls, converter, **overrides)  # type: ignore[arg-type]

    def hook(value: object, _: object) -> object:
        if cls in (Post, OutputLoss) and isinstance(value, str):  # its type alone
            value = {"type": value}
        if not isinstance(value, dict):
            raise _wrong("a table", value)
        if cls is InputSpec and isinstance(value.get("shape"), list):
            lengths, varying = parse_shape(value["shape"])
            return dataclasses.replace(structure({**value, "shape": lengths}, cls), varying=varying)
        return structure(value, cls)

    return hook


def _key(name: str, hint: Hint) -> str:
    """How TOML writes a field of a table."""
    return "output" if name == "outputs" and hint == _OUTPUTS else _TABLE_NAMES.get(name, name)


def _hook_of(hint: Hint, converter: cattrs.Converter) -> Hook:
    return lambda value, _: converter.structure(value, hint)


def _array_hook(cls: Hint, converter: cattrs.Converter) -> Hook:
    # cattrs keeps the index of each fault for lists.
    as_list: Hint = types.GenericAlias(list, typing.get_args(cls)[:1])
    structure = converter.get_structure_hook(as_list)

    def hook(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise _wrong("an array", value)
        if len(value) > _MOST_ENTRIES:
            raise _wrong_value(f"wanted at most {_MOST_ENTRIES:,} entries, found {len(value):,}")
        return tuple(structure(value, as_list))

    return hook


def _exact(value: object, _: object, *, wanted: type[Exact]) -> Exact:
    if type(value) is not wanted or not isinstance(value, wanted):
        raise _wrong(_WORDS[wanted], value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _wrong_value(f"wanted an integer of at most 64 bits, found one of {value.bit_length()}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise _wrong_value("wanted a finite number, found an integer too large for one") from None
    if not math.isfinite(number):
        raise _wrong_value(f"wanted a finite number, found {value}")
    return number + 0.0  # -0.0 is 0.0, in keys too


def _ratio(value: object) -> float | str:
    if not isinstance(value, str):
        return _number(value)
    if value != "auto":
        raise _wrong_value(f'wanted a number or "auto", found {value!r}')
    return value


def _numbers(value: object) -> dict[str, float]:
    return {name: _number(number) for name, number in _exact(value, None, wanted=dict).items()}


def _texts(value: object) -> dict[str, str]:
    return {name: _exact(text, None, wanted=str) for name, text in _exact(value, None, wanted=dict).items()}


def _typed(value: object, kinds: Mapping[str, type[Kind]], converter: cattrs.Converter) -> Kind:
    """An entry of [[compress]] or [[data.preprocess.step]]: its `type` says what else it may hold."""
    if not isinstance(value, dict):
        raise _wrong("a table", value)
    if "type" not in value:
        raise WrongTable(Fault(f"missing: one of {', '.join(map(repr, kinds))}", "type"))
    return converter.structure(value, _kind(value["type"], kinds, "type"))


def _preprocessing(value: object, converter: cattrs.Converter) -> Preprocessing:
    """One table for one input, [[data.preprocess]] for several; the short table is one without steps."""
    if isinstance(value, list) and value:
        lists: Hint = tuple[InputSteps, ...]
        several: tuple[InputSteps, ...] = converter.structure(value, lists)
        return several
    if not isinstance(value, dict) or not {"step", "input"} & set(value):
        return converter.structure(value, Preprocess)
    return (converter.structure(value, InputSteps),)


def _device(value: object, converter: cattrs.Converter) -> Device:
    """An entry of [[device]]: its `via` says what else it may hold; the host when it says nothing."""
    if not isinstance(value, dict):
        raise _wrong("a table", value)
    via = value.get("via", "host")
    kind = _kind(via, DEVICE_KINDS, "via")
    with DEVICES.calling(via, DEVICES[via].entry, ours=(Exception,)):
        return converter.structure(value, kind)


def _kind(name: object, known: Mapping[str, Kind], at: str) -> Kind:
    if not isinstance(name, str) or name not in known:
        raise WrongTable(Fault(f"unknown value {name!r}{suggest(str(name), known)}", at))
    return known[name]


def _literal(value: object, cls: Hint) -> str:
    return _word(value, [word for word in typing.get_args(cls) if word])  # no word is what is not written


def _registered(value: object, cls: Hint) -> str:
    """A name of the registry that the type is annotated with (recipe/names.py)."""
    (registry,) = typing.get_args(cls)[1:]
    return _word(value, registry)


def _word(value: object, known: Collection[str]) -> str:
    if not isinstance(value, str):
        raise _wrong(f"one of {', '.join(map(repr, known))}", value)
    if value not in known:
        raise _wrong_value(f"unknown value {value!r}{suggest(value, known)}")
    return value


def _wrong_value(message: str) -> WrongTable:
    return WrongTable(Fault(message))


def _wrong(wanted: str, value: object) -> WrongTable:
    shown = repr(value) if isinstance(value, str | int | float | bool) and not _endless(value) else ""
    kind = _WORDS.get(type(value), f"a {type(value).__name__}")
    return _wrong_value(f"wanted {wanted}, found {kind} {shown}".rstrip())


def _endless(value: object) -> bool:
    """A number whose digits Python refuses to write (hexadecimal ones may have as many as they like)."""
    return isinstance(value, int) and value.bit_length() > _MOST_ENTRIES


def _has_origin(kind: Hint) -> Callable[[Hint], bool]:
    return lambda cls: typing.get_origin(cls) is kind


def _is_optional(cls: Hint) -> bool:
    origin: object = typing.get_origin(cls)
    return (origin is types.UnionType or origin is typing.Union) and types.NoneType in typing.get_args(cls)


def _required(cls: Hint) -> Hint:
    (inner,) = [t for t in typing.get_args(cls) if t is not types.NoneType]
    return inner


def _faults(error: BaseException, place: str) -> list[Fault]:
    """What cattrs' nested groups hold. place: of the table or key that the error is of."""
    if isinstance(error, PluginFailed):
        raise error from None  # not the recipe's fault
    if isinstance(error, BaseValidationError):
        return [fault for inner in error.exceptions for fault in _faults(inner, join(place, _step(inner)))]
    if isinstance(error, ForbiddenExtraKeysError):
        hints = typing.get_type_hints(error.cl)
        known = [_key(f.name, hints[f.name]) for f in dataclasses.fields(error.cl) if f.name not in _HIDDEN]
        extra = sorted(error.extra_fields)
        faults = [Fault(f"unknown key{suggest(key, known)}", key) for key in extra[:_MOST_KEYS]]
        if len(extra) > _MOST_KEYS:
            faults.append(Fault(f"{len(extra) - _MOST_KEYS} more unknown keys", "…"))
    elif isinstance(error, KeyError):
        faults = [Fault("missing", str(error.args[0]))]
    elif isinstance(error, WrongTable):
        faults = list(error.faults)
    else:
        faults = [Fault(str(error))]
    return [fault.inside(place) for fault in faults]


def _step(error: BaseException) -> str:
    """From a table to what it holds that the error is of: a key or an index."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, cattrs.errors.AttributeValidationNote):
            # A missing key is named by the KeyError itself.
            return "" if type(error) is KeyError else _key(note.name, note.type)
        if isinstance(note, cattrs.errors.IterableValidationNote):
            return f"[{note.index}]"
    return ""
