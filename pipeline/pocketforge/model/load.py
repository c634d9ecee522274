"""A model definition → an nn.Module; its parameters, MACs and traced graph. Weights are loaded by weights.py."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.arguments import arguments_for, bind
from pocketforge.model.definitions import library_model, transformers_model
from pocketforge.model.packed_sequences import packed_hint
from pocketforge.model.programs import by_place, call_of, named_values
from pocketforge.model.structure import OutputPath, flat
from pocketforge.model.user_code import load_file, sibling_imports, user_error
from pocketforge.model.zip_kinds import is_torchscript


def build_model(
    definition: str, args: Mapping[str, object], resolve: Callable[[str], Path], *, seed: int = 0
) -> nn.Module:
    """Build the module in eval mode, with the weights that the definition itself sets; `seed` is for random ones.

    `file.py` (its `build(**args)`), `file.pt2`, `torchvision:NAME`, `timm:NAME` (never downloads: pretrained is off) or
    `transformers:DIR`. Raises ModelError when the definition is missing or fails (with the user's file and line),
    ToolMissing when its library is not installed.
    """
    kind, colon, place = definition.partition(":")
    if colon and kind in ("torchvision", "timm"):
        module = library_model(kind, place, args, seed)
    elif colon and kind == "transformers":
        module = transformers_model(resolve(place), args, seed)
    elif definition.endswith(".pt2"):
        # The archive's module refuses eval(): its mode was fixed when it was traced.
        return by_place(load_exported(resolve(definition))).module
    else:
        module = _build_from_file(resolve(definition), args, seed)
    return module.eval()


def _build_from_file(path: Path, args: Mapping[str, object], seed: int) -> nn.Module:
    if not path.is_file():
        raise ModelError(f"model.definition: there is no file {path}", "paths are relative to the recipe's folder")
    with sibling_imports(path.parent):
        file = load_file(path, "model definition")
        build = getattr(file, "build", None)
        if not callable(build):
            raise ModelError(
                f"the model definition {path} has no function build()",
                "def build(**args) -> torch.nn.Module, called with the recipe's model.args",
            )
        try:
            # Weights that a definition draws at random are the same in every build.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                module = build(**args)
        except (Exception, SystemExit) as error:
            raise user_error(error, path.parent, f"build() in {path} raised") from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"build() in {path} returned a {type(module).__name__}, not a torch.nn.Module", "return the model itself"
        )
    return module


@dataclass(frozen=True, slots=True)
class Example:
    """What a definition says to trace its model with.

    Attributes:
        tensors: In the order of the model's inputs.
        arguments: Of forward(), which they are for; none where all go by position.
    """

    tensors: tuple[Tensor, ...]
    arguments: tuple[str, ...] = ()


def example_inputs(definition: str, resolve: Callable[[str], Path]) -> tuple[Tensor, ...] | None:
    """The tensors of `example`."""
    found = example(definition, resolve)
    return found.tensors if found is not None else None


def example(definition: str, resolve: Callable[[str], Path]) -> Example | None:
    """What the definition says to trace it with: its `example_inputs()`, or a .pt2's own; None when it says nothing.

    A single tensor counts as a tuple of one; a dict is arguments by name. Raises ModelError when the function fails or
    returns something else.
    """
    if definition.endswith(".pt2"):
        called = call_of(load_exported(resolve(definition)))
        return Example(*called) if called else None
    if not definition.endswith(".py"):
        return None
    path = resolve(definition)
    with sibling_imports(path.parent):
        function = getattr(load_file(path, "model definition"), "example_inputs", None)
        if function is None:
            return None
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                given = function()
        except Exception as error:
            raise user_error(error, path.parent, f"example_inputs() in {path} raised") from error
    named = dict(named_values(given)) if isinstance(given, Mapping) else {}
    inputs = (given,) if isinstance(given, Tensor) else tuple(named.values()) if named else given
    if not isinstance(inputs, (tuple, list)) or not all(isinstance(value, Tensor) for value in inputs) or not inputs:
        raise ModelError(
            f"example_inputs() in {path} returned {type(given).__name__}, not a tuple of tensors",
            "return the tensors in their order, or a dict of them by the names of forward()'s arguments",
        )
    return Example(tuple(inputs), tuple(named))


def bind_inputs(
    module: nn.Module, definition: str, names: Sequence[str], arguments: Sequence[str], resolve: Callable[[str], Path]
) -> nn.Module:
    """Let the module take its inputs in their order, as stages give them. Raises ModelError as `arguments_for` does.

    names, arguments: the recipe's; without them as `example` says.
    """
    if definition.endswith(".pt2"):
        return module  # by position already
    if not any(names) and not any(arguments):
        found = example(definition, resolve)
        arguments = found.arguments if found is not None else ()
    return bind(module, arguments_for(module, names, arguments))


def count_parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters together; buffers (batch norm's running figures) are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one forward pass of `example`: convolutions and matrix products.

    Recurrent layers are matrix products, too; additions, activations, norms and pooling are not counted.
    """
    from pocketforge.model.macs import counter

    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:  # the counter asks for gradients of what layers are given, and a view has none here
            parameter.requires_grad_(False)
        with torch.no_grad(), counter() as counting:
            module(*example)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return int(counting.get_total_flops()) // 2


@dataclass(frozen=True, slots=True)
class TracedGraph:
    """A model as a graph that gives a tensor, or a tuple of tensors.

    Attributes:
        program: The graph.
        outputs: The way to each output in what forward() answers.
    """

    program: torch.export.ExportedProgram
    outputs: tuple[OutputPath, ...]


def trace(
    module: nn.Module, example: tuple[Tensor, ...], *, dynamic_shapes: object = None
) -> torch.export.ExportedProgram:
    """The program of `traced`."""
    return traced(module, example, dynamic_shapes=dynamic_shapes).program


def traced(module: nn.Module, example: tuple[Tensor, ...], *, dynamic_shapes: object = None) -> TracedGraph:
    """Trace the module into a graph (`torch.export.export`, not strict) with fixed shapes, but for `dynamic_shapes`.

    Answers in dicts, dataclasses and the like become a tuple (structure.py). Raises ModelError with the line of the
    user's code where tracing failed.
    """
    outputs: list[OutputPath] = []
    try:
        with warnings.catch_warnings(), flat(module, outputs):
            warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
            program = torch.export.export(module, example, dynamic_shapes=dynamic_shapes, strict=False)
    except ModelError:
        raise
    except Exception as error:  # torch.export raises whatever the user's forward does, and many kinds of its own
        first = "\n".join(line for line in str(error).strip().splitlines()[:3] if line.strip())
        where = _line_outside_torch(error)
        shapes = ", ".join(str(list(value.shape)) for value in example)
        packed = packed_hint(error)
        told = "it packs sequences by their lengths" if packed else f"{type(error).__name__}: {first}"
        raise ModelError(
            f"the model cannot be traced with input {shapes}: {told}" + (f"\n  at {where}" if where else ""),
            'an operator needs what not all lengths of a range have: give it a step ("H:32..64:32"), or targets '
            "sizes = [[…], […]]: files of fixed shapes"
            if dynamic_shapes is not None and "onstraint" in first
            else packed
            or "forward() must be plain tensor code: no branching on values, no .item(), no numpy; "
            "check the input shape too",
        ) from error
    return TracedGraph(program, tuple(outputs))


def _line_outside_torch(error: BaseException) -> str:
    """The innermost line that is neither torch's nor ours: the user's own."""
    import traceback

    libraries = (str(Path(torch.__file__).parent), __file__, os.path.dirname(os.__file__), "<")
    where = ""
    current: BaseException | None = error
    while current is not None and not where:
        for frame in traceback.extract_tb(current.__traceback__):
            if not frame.filename.startswith(libraries):
                where = f"{frame.filename}:{frame.lineno} in {frame.name}"
        current = current.__cause__ or current.__context__
    return where


def load_exported(path: Path) -> torch.export.ExportedProgram:
    """Load a .pt2 archive. Raises ModelError when it is missing, damaged or of another format."""
    if not path.is_file():
        raise ModelError(f"model.definition: there is no file {path}", "paths are relative to the recipe's folder")
    try:
        # torch prints its own words for a damaged archive before it raises.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # a damaged archive fails anywhere in torch's readers
        if is_torchscript(path):
            raise ModelError(
                f"model.definition: {path} is a TorchScript file, whose graph cannot be traced again",
                "write a .py whose build() makes the module; its weights: "
                f'torch.save(torch.jit.load("{path.name}").state_dict(), "weights.pt"), if you trust it',
            ) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model.definition: {path} is not a whole torch.export archive: {first}",
            f"torch.export.save(torch.export.export(model, example), {path.name!r}), with torch {torch.__version__}",
        ) from error
