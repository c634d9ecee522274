"""A .pte and the XNNPACK graphs in it as dataclasses: the parts of executorch's schemas that we read.

Names are the schemas' own (exir/_serialize/program.fbs, backends/xnnpack/serialization/schema.fbs). `flatc` writes a
flatbuffer as JSON by them, with every scalar and without what is null; `build` puts that into these classes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json = Mapping[str, object]
Table = TypeVar("Table", bound="DataclassInstance")
# Of each class its fields' types, once they were resolved.
_HINTS: dict[type, dict[str, object]] = {}


@dataclass(frozen=True, slots=True)
class Allocation:
    """Memory that is planned for a tensor.

    Attributes:
        memory_id: Which of the plan's buffers.
    """

    memory_id: int


@dataclass(frozen=True, slots=True)
class ExtraTensorInfo:
    """What few tensors have.

    Attributes:
        fully_qualified_name: The weight's name in the model.
        location: EXTERNAL where its data is in another file.
    """

    fully_qualified_name: str = ""
    location: str = "SEGMENT"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a plan.

    Attributes:
        scalar_type: Its dtype, as FLOAT.
        sizes: Its shape.
        data_buffer_idx: Of its data; 0 where it has none.
        shape_dynamism: STATIC, or else `sizes` are upper bounds.
        allocation_info: None for constants.
        extra_tensor_info: None for most.
    """

    scalar_type: str
    sizes: list[int]
    data_buffer_idx: int
    shape_dynamism: str
    allocation_info: Allocation | None = None
    extra_tensor_info: ExtraTensorInfo | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a plan.

    Attributes:
        val_type: Which kind of value, as Tensor or Int.
        val: Its own table, by the kind; empty for Null.
    """

    val_type: str
    val: Json = dataclasses.field(default_factory=dict)

    @property
    def tensor(self) -> Tensor | None:
        """Of a value that is one."""
        return build(Tensor, self.val) if self.val_type == "Tensor" else None


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator that a plan calls.

    Attributes:
        name: As aten::add.
        overload: As out.
    """

    name: str
    overload: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """What an instruction calls. Of the two places one is meant, by the instruction's type.

    Attributes:
        op_index: Of a kernel among the plan's operators.
        delegate_index: Of a delegate.
        args: Places of the values that it is given and gives.
    """

    op_index: int = 0
    delegate_index: int = 0
    args: list[int] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A step of a plan.

    Attributes:
        instr_args_type: KernelCall, DelegateCall, or one that calls nothing.
        instr_args: What is called.
    """

    instr_args_type: str
    instr_args: Call = Call()


@dataclass(frozen=True, slots=True)
class Chain:
    """A run of instructions.

    Attributes:
        instructions: In their order.
    """

    instructions: list[Instruction] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DataReference:
    """Where a delegate's data is.

    Attributes:
        location: SEGMENT or INLINE.
        index: Among the segments, or the program's inline data.
    """

    location: str
    index: int


@dataclass(frozen=True, slots=True)
class Delegate:
    """A part of a plan that a backend runs.

    Attributes:
        id: The backend's name.
        processed: Where what it runs is.
    """

    id: str
    processed: DataReference


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """A method of a program.

    Attributes:
        name: As forward.
        values: All that its instructions read and write.
        inputs: Places among the values.
        outputs: Places among the values.
        chains: Its instructions.
        operators: What kernel calls name.
        delegates: What delegate calls name.
    """

    name: str
    values: list[Value]
    operators: list[Operator] = dataclasses.field(default_factory=list)
    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    chains: list[Chain] = dataclasses.field(default_factory=list)
    delegates: list[Delegate] = dataclasses.field(default_factory=list)

    @property
    def instructions(self) -> list[Instruction]:
        """Of all chains, in order."""
        return [instruction for chain in self.chains for instruction in chain.instructions]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file behind the flatbuffer.

    Attributes:
        offset: In bytes, from where the segments begin.
        size: In bytes.
    """

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class NamedData:
    """Data that delegates find by a name.

    Attributes:
        key: The name.
        segment_index: Which segment it is.
    """

    key: str
    segment_index: int


@dataclass(frozen=True, slots=True)
class ConstantSegment:
    """The segment that holds constants.

    Attributes:
        segment_index: Which it is.
        offsets: Of each buffer in it, in bytes.
    """

    segment_index: int
    offsets: list[int] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InlineData:
    """A delegate's data inside of the flatbuffer.

    Attributes:
        data: Its bytes.
    """

    data: list[int] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProgramTables:
    """The flatbuffer of a .pte.

    Attributes:
        execution_plan: Its methods; those that only give a constant too.
        segments: What follows the flatbuffer.
        named_data: Segments with names.
        constant_segment: None in a file without constants of its own.
        backend_delegate_data: Data of delegates, where it is inline.
    """

    execution_plan: list[ExecutionPlan] = dataclasses.field(default_factory=list)
    segments: list[Segment] = dataclasses.field(default_factory=list)
    named_data: list[NamedData] = dataclasses.field(default_factory=list)
    constant_segment: ConstantSegment | None = None
    backend_delegate_data: list[InlineData] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class XnnTensor:
    """A value of an XNNPACK graph.

    Attributes:
        datatype: As xnn_datatype_fp32.
        constant_buffer_idx: Of its data; 0 where it is computed.
        id_out: By which nodes name it.
        dims: Its shape.
    """

    datatype: str
    constant_buffer_idx: int
    id_out: int
    dims: list[int] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class XnnScales:
    """How a value is quantized.

    Attributes:
        scale_buffer_idx: Of its scales; 0 where they are elsewhere.
    """

    scale_buffer_idx: int = 0


@dataclass(frozen=True, slots=True)
class XnnQuantized:
    """A quantized value.

    Attributes:
        tensor_value: The value.
        quant_params: Its scales.
    """

    tensor_value: XnnTensor
    quant_params: XnnScales | None = None


@dataclass(frozen=True, slots=True)
class XnnValue:
    """A value of either kind.

    Attributes:
        xvalue_union_type: Which.
        xvalue_union: Its own table, by the kind.
    """

    xvalue_union_type: str
    xvalue_union: Json

    @property
    def parts(self) -> tuple[XnnTensor, XnnScales | None]:
        """The value, and how it is quantized."""
        if self.xvalue_union_type != "XNNQuantizedTensorValue":
            return build(XnnTensor, self.xvalue_union), None
        quantized = build(XnnQuantized, self.xvalue_union)
        return quantized.tensor_value, quantized.quant_params


@dataclass(frozen=True, slots=True)
class XnnNode:
    """An operator of an XNNPACK graph.

    Attributes:
        xnode_union_type: Its kind, as XNNConv2d.
        xnode_union: Its own table; fields that end in _id name values.
    """

    xnode_union_type: str
    xnode_union: Mapping[str, object]

    @property
    def kind(self) -> str:
        """As in Conv2d."""
        return self.xnode_union_type.removeprefix("XNN")

    @property
    def ids(self) -> dict[str, int]:
        """Field → the value that it names."""
        return {
            field: value
            for field, value in self.xnode_union.items()
            if field.endswith("_id") and isinstance(value, int)
        }


@dataclass(frozen=True, slots=True)
class XnnData:
    """Where constant data is.

    Attributes:
        offset: In bytes, from where the delegate's constants begin.
        size: In bytes.
        named_key: Of the program's named data, in place of the offset.
    """

    offset: int
    size: int
    named_key: str = ""


@dataclass(frozen=True, slots=True)
class XnnGraph:
    """What one delegate computes.

    Attributes:
        xvalues: All values.
        xnodes: Operators, in order.
        constant_data: What values' constant_buffer_idx means.
    """

    xvalues: list[XnnValue]
    xnodes: list[XnnNode]
    constant_data: list[XnnData] = dataclasses.field(default_factory=list)


def build(table: type[Table], raw: object) -> Table:
    """One table and all below it. Raises KeyError for what has to be there and is not, TypeError for another type."""
    if not isinstance(raw, Mapping):
        raise TypeError(f"a {table.__name__} is a {type(raw).__name__}")
    fields = {name: _value(kind, raw[name]) for name, kind in _fields(table).items() if raw.get(name) is not None}
    absent = _required(table) - fields.keys()
    if absent:
        raise KeyError(f"a {table.__name__} has no {min(absent)}")
    return table(**fields)


def _value(kind: object, raw: object) -> object:
    if typing.get_origin(kind) is types.UnionType:
        (kind,) = [each for each in typing.get_args(kind) if each is not types.NoneType]
    if typing.get_origin(kind) is list:
        if not isinstance(raw, list):
            raise TypeError(f"a list is a {type(raw).__name__}")
        (inner,) = typing.get_args(kind)
        return [_value(inner, each) for each in raw]
    return build(kind, raw) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else raw


def _fields(table: type[Table]) -> dict[str, object]:
    if table not in _HINTS:
        _HINTS[table] = typing.get_type_hints(table)
    return _HINTS[table]


def _required(table: type[Table]) -> set[str]:
    missing = dataclasses.MISSING
    fields = table.__dataclass_fields__.values()
    return {f.name for f in fields if f.default is missing and f.default_factory is missing}
