"""Where the model comes from: its definition, its weights, its inputs and outputs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.names import check_args, check_name
from pocketforge.recipe.ranges import check_path
from pocketforge.recipe.sizes import SizeRange, Sizes, by_name
from pocketforge.registries import nearest_formats

SHARED_DEFINITIONS = ("torchvision:", "timm:", "transformers:")

InputType = Literal["float32", "uint8", "int8", "int16", "int32", "int64", "bool"]
# A word, or words with dots between.
_ARGUMENT = re.compile(r"[^\W\d]\w*(\.\w+)*\Z")

# One sample of 1 GB. Anything larger is a slip.
_MOST_DIMENSIONS, _MOST_VALUES = 8, 2**28


def definition_place(definition: str) -> str:
    """The file or folder that a definition names; empty for a library's model."""
    if not definition.startswith(SHARED_DEFINITIONS):
        return definition
    return definition.partition(":")[2] if definition.startswith("transformers:") else ""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One model input.

    Attributes:
        shape: With its batch dimension of 1 first, in the PyTorch model's layout; [1] of one number a sample. Of a size
            that varies the largest.
        name: In the shipped files; empty for the name that the traced model gives it. Inputs which all have the name of
            an argument of forward() go to that argument.
        dtype: Of its values.
        state: The output that is this input at the next step of a sequence; empty for what a sample gives. A state is 0
            at first, and its batch of 1 need not come first ([layers, 1, hidden]).
        argument: Of forward(), that the input goes to; `batch.image` for the key `image` of a dict that is argument
            `batch`. Empty: by its place, or its name.
        varying: The sizes of `shape` that vary; TOML writes them there.
    """

    shape: tuple[int, ...]
    name: str = ""
    dtype: InputType = "float32"
    argument: str = ""
    state: str = ""
    varying: tuple[SizeRange, ...] = ()

    def __post_init__(self) -> None:
        if self.state and 1 not in self.shape:
            raise ValueError(f"shape of a state must have a batch of 1, found {list(self.shape)}")
        if not self.state and (not self.shape or self.shape[0] != 1):
            raise ValueError(f"shape must begin with a batch of 1 (files are batch-1), found {list(self.shape)}")
        if self.state:
            check_name(self.state, "state")
            if self.dtype not in ("float32", "int32", "int64"):
                raise ValueError(f"a state is float32, int32 or int64, found {self.dtype}")
        if min(self.shape) < 1:
            raise ValueError(f"shape must have no empty dimension, found {list(self.shape)}")
        if len(self.shape) > _MOST_DIMENSIONS or math.prod(self.shape) > _MOST_VALUES:
            raise ValueError(
                f"shape must have at most {_MOST_DIMENSIONS} dimensions and {_MOST_VALUES:,} values in all, found "
                f"{list(self.shape)}"
            )
        if self.name:
            check_name(self.name, "an input's name")
        if self.argument and not _ARGUMENT.match(self.argument):
            raise ValueError(f"argument must be the name of one of forward()'s, found {self.argument!r}")
        if self.varying and self.state:
            raise ValueError("shape of a state is fixed: no size of it can vary")

    def at(self, sizes: Sizes) -> InputSpec:
        """The input with the lengths of `sizes`, by name; its shape is of those then, and may vary as before."""
        shape = list(self.shape)
        for each in self.varying:
            shape[each.axis] = sizes[each.name]
        return replace(self, shape=tuple(shape))

    @property
    def fixed(self) -> InputSpec:
        """With the shape that it has now, and no other."""
        return replace(self, varying=())


def names_of_inputs(inputs: Sequence[InputSpec]) -> tuple[str, ...]:
    """As shipped files have them."""
    own = [each.name or each.argument.replace(".", "_") for each in inputs]
    return tuple(name or ("input" if len(own) == 1 else f"input_{k}") for k, name in enumerate(own))


# Endings of what holds weights, TorchScript among them.
_WEIGHTS = (".pt", ".pth", ".jit", ".ts", ".ckpt", ".bin", ".safetensors")


def _of_weights(definition: str) -> str:
    """What to do with a definition that is a file of another kind; empty where it is none."""
    if definition.lower().endswith(_WEIGHTS):
        return (
            ": weights go into model.weights, beside a .py whose build() makes the module that they belong to (also "
            "TorchScript's, whose graph cannot be traced again)"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Model:
    """Where the model comes from.

    Attributes:
        definition: `file.py` (with `build(**args)`), `file.pt2` (a torch.export archive), `torchvision:NAME`,
            `timm:NAME` or `transformers:DIR`; or, in a recipe whose targets are all files made elsewhere, a model file
            whose answers are the reference. Empty only for no model at all (NO_MODEL).
        weights: File of safetensors or a PyTorch checkpoint; empty where the definition brings its own, or has none.
        args: What `build` or the library's constructor is called with: plain values.
        inputs: In the model's order; empty: as `example_inputs()` or the data give them.
        outputs: Their names in the shipped files, in the model's order; empty for the model's own (docs/inputs.md).
        weights_key: Which of several weights in the file (keys with dots between: `ema`, `state_dict.ema_model`; `.` is
            the file's top); empty where only one fits.
        eval_size: At which files are evaluated and timed, where sizes of inputs vary: a length for each name, in their
            order; empty for the largest.
    """

    definition: str
    weights: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    weights_key: str = ""
    eval_size: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.definition or self.is_file:
            self._check_alone()
            return
        shared = self.definition.startswith(SHARED_DEFINITIONS)
        if not shared and not self.definition.endswith((".py", ".pt2")):
            raise ValueError(
                "definition must be a .py file, a .pt2 file, torchvision:NAME, timm:NAME or transformers:DIR, "
                f"found {self.definition!r}{_of_weights(self.definition)}"
            )
        if self.definition.endswith(".pt2") and (self.weights or self.args):
            raise ValueError("a .pt2 definition holds its own weights and arguments: leave out weights and args")
        if self.weights_key and not self.weights:
            raise ValueError(f"weights_key says which weights of a file, and weights names none: {self.weights_key!r}")
        for name in self.outputs:
            check_name(name, "an output's name")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"outputs need names of their own, found {', '.join(self.outputs)}")
        check_path(self.definition.partition(":")[2] or self.definition, "definition")
        check_path(self.weights, "weights")
        check_args(self.args)

    def _check_alone(self) -> None:
        """Nothing is said of no model, and a model file says all of itself."""
        said = [each.name for each in fields(self) if each.name != "definition" and getattr(self, each.name)]
        if said and not self.definition:
            raise WrongTable(Fault("missing", "definition"))
        if said:
            raise ValueError(
                f"{said[0]} is for a PyTorch model, and {self.definition} says itself what it takes and gives"
            )
        check_path(self.definition, "definition")

    @property
    def is_file(self) -> bool:
        """Whether it is a model file, which a runtime answers for."""
        return PurePath(self.definition).suffix.lower() in nearest_formats()

    @property
    def is_pytorch(self) -> bool:
        """Whether there is a PyTorch model to trace, to train and to export."""
        return bool(self.definition) and not self.is_file

    @property
    def input_names(self) -> tuple[str, ...]:
        """Of [[model.input]], as shipped files have them; () where the recipe lists none."""
        return names_of_inputs(self.inputs)

    @property
    def given_names(self) -> tuple[str, ...]:
        """Of those that a sample gives: all but states."""
        return tuple(name for name, each in zip(self.input_names, self.inputs, strict=True) if not each.state)

    @property
    def states(self) -> tuple[InputSpec, ...]:
        """The inputs that are outputs of the step before."""
        return tuple(each for each in self.inputs if each.state)

    @property
    def varying(self) -> tuple[SizeRange, ...]:
        """The sizes of inputs that vary, each name once."""
        return tuple(by_name([each for given in self.inputs for each in given.varying]).values())

    @property
    def eval_sizes(self) -> dict[str, int]:
        """Name → length, of what is evaluated."""
        return self.sizes_of(self.eval_size or tuple(each.most for each in self.varying))

    def sizes_of(self, lengths: Sequence[int]) -> dict[str, int]:
        """Lengths in the order of the names, by name."""
        return {each.name: length for each, length in zip(self.varying, lengths, strict=True)}

    @property
    def eval_inputs(self) -> tuple[InputSpec, ...]:
        """The inputs, in the shapes that are evaluated."""
        return tuple(each.at(self.eval_sizes) for each in self.inputs)

    @property
    def fixed_inputs(self) -> tuple[InputSpec, ...]:
        """The same, of what takes no other shape."""
        return tuple(each.fixed for each in self.eval_inputs)

    def named_files(self) -> dict[str, str]:
        return {"weights": self.weights, "definition": definition_place(self.definition)}


# Of a recipe of files made elsewhere that are held against nothing but their targets.
NO_MODEL = Model("")
