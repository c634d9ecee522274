"""A model file made elsewhere: what is in it, whether it is whole and alone, and what its runtime sees in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import ModelError, PocketforgeError, ToolFailed
from pocketforge.files import hash_file
from pocketforge.measure.file_fit import Given
from pocketforge.outcomes.data import PreprocessingOfInputs, Sampled, layouts_of
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.describe import Description, describe

_CUSTOM = "custom_ops"


def opened(path: Path, name: str) -> Description:
    """What is in the file. name: its own, for errors. Raises ModelError for one that is damaged, of another kind than
    its ending says, or not the whole of a model."""
    described = describe(path)
    if f".{described.format}" != PurePath(name).suffix.lower():
        raise ModelError(
            f"{name} is a .{described.format} file by its content", f"give it that ending: .{described.format}"
        )
    external = described.metadata.get("external_data")
    if external:
        raise ModelError(
            f"{name} has weights in other files ({external}): one file is judged and shipped, and would not be whole",
            "write one file: onnx.save(onnx.load(PATH), FILE), or export without external data",
        )
    signatures, methods = (described.metadata.get(key, "") for key in ("signatures", "methods"))
    if signatures or methods not in ("", "forward"):
        what = f"signatures {signatures}" if signatures else f"methods {methods}"
        raise ModelError(
            f"{name} has {what}: which of them an app calls is not said",
            "export a file for each, with one "
            + ("signature, of its first subgraph" if signatures else "method, forward"),
        )
    return described


def look_at(path: Path, runtime: str, name: str) -> RunAnswer:
    """What the file takes and gives as its runtime sees it, in a new process that loads it and runs nothing.

    Raises ToolFailed, with the operators that no runtime has by itself where the file has such.
    """
    request = RunRequest(
        session=RUNTIMES[runtime].session,
        model=path,
        sha256=hash_file(path),
        inputs=(),
        outputs=path.parent,
        look=True,
    )
    try:
        return host.run(request)
    except ToolFailed as error:
        raise _with_operators(error, path, name) from None


def _with_operators(error: ToolFailed, path: Path, name: str) -> ToolFailed:
    try:
        custom = describe(path).metadata.get(_CUSTOM, "")
    except PocketforgeError:
        custom = ""
    hint = "it needs another build of the runtime, or was made for a newer one: pocketforge inspect shows its operators"
    if custom:
        hint = f"operators that no runtime has by itself: {custom}; {hint}"
    what = [word.replace(path.name, name) for word in error.argv]
    return ToolFailed(what, error.returncode, error.stderr_tail, hint=hint)


def given_samples(sampled: Sampled, names: Sequence[str] | None) -> list[Given]:
    """What a sample has for each input. names: of the model's inputs, where there is one; else those that
    preprocessing gives them."""
    prepared = sampled.preprocess
    if names is None:
        own = prepared.inputs if isinstance(prepared, PreprocessingOfInputs) else ()
        names = [each.name for each in own] if all(each.gives == 1 for each in own) else []
    layouts = layouts_of(prepared, len(sampled.inputs))
    known = names if len(names) == len(sampled.inputs) else [""] * len(sampled.inputs)
    return [
        Given(name, each.shape, each.dtype, layout if layout in ("NCHW", "NHWC") and len(each.shape) == 3 else "")
        for name, each, layout in zip(known, sampled.inputs, layouts, strict=True)
    ]
