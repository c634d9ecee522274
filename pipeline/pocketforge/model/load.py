"""A model definition → an nn.Module; its parameters, MACs and traced graph. Weights are loaded by weights.py."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.definitions import library_model, transformers_model
from pocketforge.model.user_code import load_file, sibling_imports, user_error


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
        return load_exported(resolve(definition)).module()
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


def example_inputs(definition: str, resolve: Callable[[str], Path]) -> tuple[Tensor, ...] | None:
    """What the definition says to trace it with: its `example_inputs()`, or a .pt2's own; None when it says nothing.

    A single tensor counts as a tuple of one. Raises ModelError when the function fails or returns something else.
    """
    if definition.endswith(".pt2"):
        example = load_exported(resolve(definition)).example_inputs
        return tuple(example[0]) if example and not example[1] else None
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
                example = function()
        except Exception as error:
            raise user_error(error, path.parent, f"example_inputs() in {path} raised") from error
    inputs = (example,) if isinstance(example, Tensor) else example
    if not isinstance(inputs, (tuple, list)) or not all(isinstance(value, Tensor) for value in inputs) or not inputs:
        raise ModelError(f"example_inputs() in {path} returned {type(example).__name__}, not a tuple of tensors")
    return tuple(inputs)


def count_parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters together; buffers (batch norm's running figures) are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one forward pass of `example`: convolutions and matrix products.

    Counted by torch.utils.flop_counter, which gives two operations a MAC; additions, activations, norms and pooling are
    not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*example)
    return int(counter.get_total_flops()) // 2


def trace(
    module: nn.Module, example: tuple[Tensor, ...], *, dynamic_shapes: object = None
) -> torch.export.ExportedProgram:
    """Trace the module into a graph (`torch.export.export`, not strict) with fixed shapes, but for `dynamic_shapes`.

    Raises ModelError with the line of the user's code where tracing failed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
            return torch.export.export(module, example, dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:  # torch.export raises whatever the user's forward does, and many kinds of its own
        first = "\n".join(line for line in str(error).strip().splitlines()[:3] if line.strip())
        where = _line_outside_torch(error)
        shapes = ", ".join(str(list(value.shape)) for value in example)
        raise ModelError(
            f"the model cannot be traced with input {shapes}: {type(error).__name__}: {first}"
            + (f"\n  at {where}" if where else ""),
            "forward() must be plain tensor code: no branching on values, no .item(), no numpy; "
            "check the input shape too",
        ) from error


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
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model.definition: {path} is not a whole torch.export archive: {first}",
            f"torch.export.save(torch.export.export(model, example), {path.name!r}), with torch {torch.__version__}",
        ) from error
