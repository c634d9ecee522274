"""Why a file's tensors are not a model's: names, shapes, kinds of numbers, ties; said by name, and not too long."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pocketforge.model.weight_files import plain

_MOST, _NEAR_AMONG = 8, 2000
_ENTRY = 100  # a name from a file may be of any length


@dataclass(slots=True)
class Faults:
    """What does not fit.

    Attributes:
        missing: Names that the model wants and the file lacks.
        unexpected: Names that the model does not know.
        shapes: Tensors of another shape, in words.
        kinds: Tensors of another kind of numbers, in words.
        untied: Names of one tensor in the model whose values differ in the file.
        said: Torch's own words, of a module's hooks for instance.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    untied: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        groups = (self.missing, self.unexpected, self.shapes, self.kinds, self.untied, self.said)
        return sum(len(group) for group in groups)

    def lines(self) -> list[str]:
        """A line for each sort of fault."""
        pool = self.unexpected[:_NEAR_AMONG]
        missing = [name + _near(name, pool) for name in self.missing[:_MOST]] + self.missing[_MOST:]
        rows = (
            (missing, "missing"),
            (self.unexpected, "unexpected"),
            (self.shapes, "of another shape"),
            (self.kinds, "of another kind"),
            (self.untied, "one tensor in the model, and not in the file"),
        )
        lines = [listed(names, what) for names, what in rows if names]
        return lines or [f"torch: {line[:300]}" for line in self.said[:_MOST]]

    def hint(self) -> str:
        if self.kinds:
            return "give the floating-point weights that they were made from; convert them where they were saved"
        if self.untied and self.count == len(self.untied):
            return "is the model another version, in which these are two tensors?"
        if any("parametrizations." in name for name in self.unexpected):
            return (
                "torch.nn.utils.parametrize.remove_parametrizations(module, name) before saving, or build the model "
                "with the same parametrizations"
            )
        return "is it another version of the model, or are model.args different from when it was trained?"


def listed(names: Sequence[str], what: str) -> str:
    more = f" … and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{len(names)} {what}: {', '.join(plain(name, 2 * _ENTRY) for name in names[:_MOST])}{more}"


def _near(name: str, others: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1)
    return f" (near it: {plain(near[0], _ENTRY)})" if near else ""


def shape_of(value: object) -> torch.Size | None:
    """The shape, or None of what has none yet (lazy), or has several (nested)."""
    try:
        return value.shape if isinstance(value, Tensor) else None
    except RuntimeError:
        return None


def kind_of(value: Tensor) -> str:
    """What may stand for each other: floating-point of any width, or whole numbers whose values are kept."""
    if value.is_quantized:
        return "quantized"
    if value.is_meta:
        return "without values"
    if value.is_nested:
        return "nested"
    if value.is_complex():
        return "complex"
    return "floating-point" if value.is_floating_point() else "whole"


def kind_fault(name: str, found: Tensor, wanted: Tensor) -> str:
    """Why `found` cannot stand for `wanted`, of the same shape; empty when it can."""
    mine, other = kind_of(wanted), kind_of(found)
    is_, for_ = (str(value.dtype).removeprefix("torch.") for value in (found, wanted))
    if other in ("without values", "nested"):
        return f"{name} is {other} ({is_})"
    if mine != other:
        return f"{name} is {is_}, the model's is {for_}"
    if (
        mine == "whole"
        and found.dtype != wanted.dtype
        and not torch.equal(found.to(wanted.dtype).to(found.dtype), found)
    ):
        return f"{name} is {is_} with values that the model's {for_} cannot hold"
    if mine == "floating-point" and found.dtype.itemsize < 2:
        try:
            found.to(torch.float32)
        except (RuntimeError, NotImplementedError):
            return f"{name} is {is_}, which torch cannot turn into {for_}"
    return ""


def quick_faults(shapes: Mapping[str, torch.Size | None], state: Mapping[str, object], optional: set[str]) -> Faults:
    """By names and shapes alone: what orders candidates. Torch, with the module's hooks, has the last word."""
    faults = Faults(
        missing=[name for name in shapes if name not in state and name not in optional],
        unexpected=[name for name in state if name not in shapes],
    )
    for name, shape in shapes.items():
        in_file = shape_of(state.get(name))
        if shape is not None and in_file is not None and in_file != shape:
            faults.shapes.append(f"{name} {list(in_file)} instead of {list(shape)}")
    return faults
