"""The files of a checkpoint folder, without torch: a build copies one to where the user finds it.

checkpoint.json      what to build (definition, args, seed), the edits in order, the inputs it takes, how its
                     first weights were read
model.safetensors    the state dict after the edits
masks.safetensors    only after unstructured pruning: uint8, 0 where a weight stays zero
definition/          only in a portable one: the definition's own files
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pocketforge.errors import ModelError
from pocketforge.model.files import definition_files

FORMAT = 1
CHECKPOINT, WEIGHTS, MASKS, DEFINITION = "checkpoint.json", "model.safetensors", "masks.safetensors", "definition"
_WANTED = {"definition": str, "args": dict, "seed": int, "edits": list}


@dataclass(frozen=True, slots=True)
class CheckpointInput:
    """An input that the model takes.

    Attributes:
        name: The recipe's.
        shape: With the batch of 1 first.
        dtype: As torch names it.
        argument: Of forward(), that it goes to, as the recipe says; empty where it says none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """What checkpoint.json says.

    Attributes:
        definition: As a recipe's `model.definition`.
        args: Of the definition's build().
        seed: Of the random numbers that build() draws.
        edits: In order, as `surgery.edit_to_json` writes them.
        inputs: In a checkpoint that a build wrote for its user; else ().
        weights: How the first ones were read (`weights.Loaded`); empty where the definition brings its own.
        lazy: Parameters that the definition leaves open → the shapes that weights gave them.
    """

    definition: str
    args: Mapping[str, object]
    seed: int
    edits: Sequence[Mapping[str, object]]
    inputs: tuple[CheckpointInput, ...] = ()
    weights: Mapping[str, Any] = field(default_factory=dict)
    lazy: Mapping[str, Sequence[int]] = field(default_factory=dict)


def read_checkpoint_file(folder: Path) -> CheckpointFile:
    """The content of checkpoint.json. Raises ModelError when it is missing, damaged or of another format."""
    path = folder / CHECKPOINT
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder} is not a checkpoint: there is no {CHECKPOINT}", "a build writes one as build/NAME/checkpoint"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise ModelError(f"{path} has format {version!r}, this version reads {FORMAT}")
    wrong = [key for key, kind in _WANTED.items() if not isinstance(content.get(key), kind)]
    wrong += [key for key in ("weights", "lazy") if not isinstance(content.get(key, {}), dict)]
    if wrong:
        raise ModelError(f"{path} is not whole: {', '.join(wrong)} missing or not of the right kind")
    try:
        inputs = tuple(
            CheckpointInput(each["name"], tuple(each["shape"]), each["dtype"], each.get("argument", ""))
            for each in content.pop("inputs", ())
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not whole: inputs are not of the right kind ({error!r})") from error
    known = {each.name for each in fields(CheckpointFile)}
    return CheckpointFile(**{key: value for key, value in content.items() if key in known}, inputs=inputs)


def write_checkpoint_file(content: CheckpointFile, folder: Path) -> None:
    entries = {key: value for key, value in asdict(content).items() if value or key in _WANTED}
    text = json.dumps({"format": FORMAT, **entries}, indent=1, sort_keys=True)
    (folder / CHECKPOINT).write_text(text + "\n", "utf-8")


def bring_along(definition: str, resolve: Callable[[str], Path], folder: Path) -> str:
    """Copy the definition's files into `folder`; returns the definition as it is called from there.

    A library's model (torchvision:, timm:) has no files: it stays as it is.
    """
    files = definition_files(definition, resolve)
    if not files:
        return definition
    kind, colon, place = definition.partition(":")
    library = bool(colon) and kind == "transformers"
    source = resolve(place) if library else resolve(definition)
    root = source if library else source.parent
    for file in files:
        if library and file.suffix == ".safetensors":
            continue  # the weights are in the checkpoint's own file
        to = folder / DEFINITION / file.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    return f"transformers:{DEFINITION}" if library else f"{DEFINITION}/{source.name}"


def copy_portable(
    source: Path, to: Path, resolve: Callable[[str], Path], inputs: Sequence[CheckpointInput] = ()
) -> None:
    """Copy a step's checkpoint into the new folder `to`, with its definition's files, so that it loads anywhere.

    inputs: for readers that have no recipe. Raises OSError, ModelError.
    """
    content = read_checkpoint_file(source)
    to.mkdir(parents=True)
    for name in (WEIGHTS, MASKS):
        if (source / name).is_file():
            shutil.copyfile(source / name, to / name)
    definition = bring_along(content.definition, resolve, to)
    write_checkpoint_file(replace(content, definition=definition, inputs=tuple(inputs) or content.inputs), to)
