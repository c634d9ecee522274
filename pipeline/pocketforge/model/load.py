"""A model definition and its weights → an nn.Module; weights without pickle; parameters, MACs and the traced graph."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.definitions import library_model, transformers_model
from pocketforge.model.user_code import load_file, sibling_imports, user_error

SAVE_SNIPPET = """save plain weights, where you trained the model:
    from safetensors.torch import save_file
    state = model.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, "weights.safetensors")"""


def build_model(
    definition: str, args: Mapping[str, Any], resolve: Callable[[str], Path], *, seed: int = 0
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


def _build_from_file(path: Path, args: Mapping[str, Any], seed: int) -> nn.Module:
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


def load_weights(module: nn.Module, path: Path) -> None:
    """Load safetensors, or a checkpoint that holds only tensors, into `module`: strictly, every key must fit.

    A checkpoint may nest the weights under "state_dict" or "model" and prefix every key with "module.".
    Raises ModelError: missing, damaged, a pickle of code, keys that do not fit, NaN or infinite weights.
    """
    state = read_weights(path)
    if state and all(name.startswith("module.") for name in state):  # nn.DataParallel's prefix
        state = {name.removeprefix("module."): value for name, value in state.items()}
    _check_keys(module.state_dict(), state, path)
    check_finite(state, str(path))
    module.load_state_dict(state, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name. Raises ModelError as `load_weights`."""
    if not path.is_file():
        raise ModelError(f"model.weights: there is no file {path}", "paths are relative to the recipe's folder")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file as load_safetensors

        try:
            tensors: dict[str, Tensor] = load_safetensors(path)
            return tensors
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"model.weights: {path} is not a whole safetensors file: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a newer pickle protocol is no news to the user
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names what it refused in the middle of half a page.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        raise ModelError(
            f"model.weights: {path} is "
            + (
                f"a pickle that runs code when it is loaded, not plain weights (it names {refused[1]})"
                if refused
                else "not a whole PyTorch checkpoint of plain weights"
            ),
            SAVE_SNIPPET,
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"model.weights: {path} is not a whole PyTorch checkpoint: {first}", SAVE_SNIPPET) from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(2):
        if not isinstance(content, dict):
            break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        content = content.get("state_dict", content.get("model"))
    raise ModelError(
        f"model.weights: {path} is not a state dict: wanted tensors by name, perhaps under 'state_dict' or 'model'",
        SAVE_SNIPPET,
    )


def _check_keys(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    # Batch norm's step counter is not used in inference, and old checkpoints lack it.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in wanted]
    wrong = [
        f"{name} {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    lines = [
        _listed(names, what)
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "of another shape"))
        if names
    ]
    if lines:
        raise ModelError(
            f"model.weights: {path} does not fit the model ({len(wanted)} entries):\n  " + "\n  ".join(lines),
            "is it another version of the model, or are model.args different from when it was trained?",
        )


def _listed(names: Sequence[str], what: str) -> str:
    more = f" … and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{len(names)} {what}: {', '.join(names[:8])}{more}"


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise ModelError naming the tensors that hold NaN or infinite values."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise ModelError(
            f"model.weights: {where} has NaN or infinite values:\n  {_listed(bad, 'tensors')}",
            "the training diverged: use an earlier checkpoint",
        )


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state dict as safetensors, atomically: the same weights give the same bytes.

    Tied weights (two names, one storage) are written under both names.
    """
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(module.state_dict().items())}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(save(state))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    module: nn.Module, example: tuple[Tensor, ...], *, dynamic_shapes: Any = None
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
