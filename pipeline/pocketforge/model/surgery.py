"""Architecture edits as data, and the checkpoint of an edited model: definition + edits + safetensors, no pickle.

Load one with `load_checkpoint(folder).module`; its files are told in checkpoint_files.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.model.checkpoint_files import (
    CHECKPOINT,
    MASKS,
    WEIGHTS,
    CheckpointFile,
    CheckpointInput,
    bring_along,
    read_checkpoint_file,
    write_checkpoint_file,
)
from pocketforge.model.lazy import materialize
from pocketforge.model.load import build_model
from pocketforge.model.weights import load_weights, read_weights, save_weights


@dataclass(frozen=True, slots=True)
class KeepChannels:
    """Keep part of some tensors.

    Attributes:
        tensors: State-dict name → {dimension: kept indices}; a dimension that is not named stays whole.
        attributes: Module name → {attribute: new value} (out_channels, num_features, groups …).
    """

    tensors: dict[str, dict[int, tuple[int, ...]]]
    attributes: dict[str, dict[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replace:
    """Put another module in a module's place.

    Attributes:
        module: Name of the one that goes.
        by: {"kind": "skip" | "linear" | "conv2d", …its arguments}.
    """

    module: str
    by: dict[str, object]


Edit = KeepChannels | Replace


class Skip(nn.Module):
    """Stands where a block was: gives its first input back, and leaves nothing in a traced graph.

    as_tuple: the block returned a tuple whose first element was its output (transformers' layers do).
    """

    def __init__(self, as_tuple: bool = False) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x: Tensor, *_: object, **__: object) -> object:
        return (x,) if self.as_tuple else x


_REPLACEMENTS: dict[str, Callable[..., nn.Module]] = {"skip": Skip, "linear": nn.Linear, "conv2d": nn.Conv2d}


@dataclass(slots=True)
class Checkpoint:
    """A model, and how it came from its definition.

    Attributes:
        module: In eval mode, with the edits made and weights loaded.
        definition: As a recipe's `model.definition`.
        args: Of the definition's build().
        seed: Of the random numbers that build() draws.
        edits: In order.
        masks: State-dict name → true where a weight may be other than zero.
        inputs: In a checkpoint that a build wrote for its user.
        weights: How the first ones were read (`weights.Loaded`).
        lazy: Parameters that the definition leaves open → the shapes that weights gave them.
    """

    module: nn.Module
    definition: str
    args: Mapping[str, object]
    seed: int
    edits: list[Edit]
    masks: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[CheckpointInput] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    lazy: dict[str, list[int]] = field(default_factory=dict)


def apply_edits(module: nn.Module, edits: Sequence[Edit]) -> nn.Module:
    """Make the edits in place, in order; returns `module`. Weights keep the values that belong to kept indices.

    Raises ModelError when an edit does not fit the module (its definition changed since).
    """
    for edit in edits:
        if isinstance(edit, Replace):
            replace_module(module, edit)
        else:
            _keep(module, edit)
    return module


def replace_module(module: nn.Module, edit: Replace) -> nn.Module:
    """Make one Replace in place; returns the new submodule (with fresh weights, in eval mode)."""
    owner, name = _owner(module, edit.module)
    arguments = dict(edit.by)
    kind = arguments.pop("kind", "")
    if kind not in _REPLACEMENTS:
        raise ModelError(f"the checkpoint replaces {edit.module} by {kind!r}; known: {', '.join(_REPLACEMENTS)}")
    # Weights are loaded or fitted afterwards: until then, the same ones at every load.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            new = _REPLACEMENTS[kind](**arguments).eval()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"the checkpoint replaces {edit.module} by {kind!r}, but not as one: {error}") from error
    setattr(owner, name, new)
    return new


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, last = name.rpartition(".")
    try:
        owner = module.get_submodule(parent)
        owner.get_submodule(last)
    except AttributeError:
        raise ModelError(
            f"the model has no module {name!r}, which the checkpoint edits", "has its definition changed since?"
        ) from None
    return owner, last


def _keep(module: nn.Module, edit: KeepChannels) -> None:
    for name, dimensions in edit.tensors.items():
        owner, last = _tensor_owner(module, name)
        old = getattr(owner, last)
        new = keep_indices(old.detach(), dimensions, name)
        if isinstance(old, nn.Parameter):
            setattr(owner, last, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            setattr(owner, last, new)
    for name, values in edit.attributes.items():
        parent, last = _owner(module, name) if name else (module, "")
        owner = parent.get_submodule(last)
        for attribute, value in values.items():
            setattr(owner, attribute, tuple(value) if isinstance(value, list) else value)


def _tensor_owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, last = name.rpartition(".")
    try:
        owner = module.get_submodule(parent)
        if isinstance(getattr(owner, last), Tensor):
            return owner, last
    except AttributeError:
        pass
    raise ModelError(
        f"the model has no tensor {name!r}, which the checkpoint edits", "has its definition changed since?"
    )


def keep_indices(tensor: Tensor, kept: Mapping[int, Sequence[int]], name: str = "tensor") -> Tensor:
    """The part of `tensor` at the kept indices of each named dimension. ModelError when one is out of range."""
    for dim, indices in kept.items():
        wrong = [i for i in indices if not 0 <= dim < tensor.ndim or not 0 <= i < tensor.shape[dim]]
        if wrong or not 0 <= dim < tensor.ndim:
            raise ModelError(
                f"the checkpoint keeps index {wrong[0] if wrong else 0} of dimension {dim} of {name}, which has shape "
                f"{list(tensor.shape)}",
                "has the model's definition changed since?",
            )
        tensor = tensor.index_select(dim, torch.tensor(list(indices), dtype=torch.int64))
    return tensor.clone()


def keep_masks(masks: Mapping[str, Tensor], edits: Sequence[Edit], module: nn.Module) -> dict[str, Tensor]:
    """Masks after `edits` (made on `module` already): cut as the weights were; of replaced modules dropped."""
    cut = dict(masks)
    for edit in edits:
        if isinstance(edit, KeepChannels):
            cut = {n: keep_indices(m, edit.tensors[n], n) if n in edit.tensors else m for n, m in cut.items()}
        else:
            cut = {n: m for n, m in cut.items() if not n.startswith(f"{edit.module}.")}
    sizes = {name: value.shape for name, value in module.state_dict().items()}
    return {name: mask for name, mask in cut.items() if sizes.get(name) == mask.shape}


def record_kept(module: nn.Module, prune: Callable[[nn.Module], None]) -> KeepChannels:
    """What `prune` keeps of every tensor of `module`, found by running it on a copy whose values are their own indices.

    `prune` may be anything that selects whole slices of tensors (index_select along dimensions) and sets plain
    attributes, in place. `module` itself is left alone. Raises ValueError when it did something else.
    """
    twin = copy.deepcopy(module)
    shapes: dict[str, torch.Size] = {}
    for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
        if tensor.ndim:
            shapes[name] = tensor.shape
            # float64 holds every index below 2^53 exactly; integer buffers hold theirs.
            kind = torch.float64 if tensor.is_floating_point() else torch.int64
            tensor.data = torch.arange(tensor.numel(), dtype=kind).reshape(tensor.shape)
    attributes = {name: _plain_attributes(m) for name, m in twin.named_modules()}
    prune(twin)
    tensors: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
        if name in shapes and tensor.shape != shapes[name]:
            tensors[name] = _kept_of(tensor.detach().to(torch.int64), shapes[name], name)
    changed = {}
    for name, m in twin.named_modules():
        now = {k: v for k, v in _plain_attributes(m).items() if attributes.get(name, {}).get(k) != v}
        if now:
            changed[name] = now
    return KeepChannels(tensors, changed)


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    """Attributes that decide shapes, as JSON can hold them: integers, floats and tuples of integers."""
    attributes: dict[str, object] = {}
    for name, value in vars(module).items():
        if type(value) in (int, float) or (
            isinstance(value, tuple) and value and all(type(item) is int for item in value)
        ):
            attributes[name] = tuple(value) if isinstance(value, tuple) else value
    return attributes


def _kept_of(values: Tensor, shape: torch.Size, name: str) -> dict[int, tuple[int, ...]]:
    where = torch.unravel_index(values, shape)
    by_dimension: dict[int, tuple[int, ...]] = {}
    for dim, size in enumerate(shape):
        first = where[dim].movedim(dim, 0).reshape(values.shape[dim], -1)
        if not (first == first[:, :1]).all():
            raise ValueError(f"pruning {name} did not select whole slices of dimension {dim}")
        indices = tuple(int(i) for i in first[:, 0])
        if indices != tuple(range(size)):
            by_dimension[dim] = indices
    return by_dimension


def save_checkpoint(checkpoint: Checkpoint, folder: Path, resolve: Callable[[str], Path] | None = None) -> None:
    """Write the checkpoint into an empty or new `folder`; the same model gives the same bytes.

    resolve: how the definition's path is found; given, the definition's own files come along and the folder can be
    loaded anywhere (a library's model, torchvision: or timm:, needs that library there).
    """
    folder.mkdir(parents=True, exist_ok=True)
    definition = checkpoint.definition
    if resolve is not None:
        definition = bring_along(definition, resolve, folder)
    content = CheckpointFile(
        definition=definition,
        args=checkpoint.args,
        seed=checkpoint.seed,
        edits=[edit_to_json(edit) for edit in checkpoint.edits],
        inputs=tuple(checkpoint.inputs),
        weights=checkpoint.weights,
        lazy=checkpoint.lazy,
    )
    write_checkpoint_file(content, folder)
    save_weights(checkpoint.module, folder / WEIGHTS)
    if checkpoint.masks:
        from safetensors.torch import save_file

        packed = {name: mask.to(torch.uint8).contiguous() for name, mask in sorted(checkpoint.masks.items())}
        save_file(packed, folder / MASKS)


def load_checkpoint(
    folder: str | Path, *, resolve: Callable[[str], Path] | None = None, definition: str = ""
) -> Checkpoint:
    """Load a checkpoint. `resolve` and `definition` say where the definition is when it did not come along.

    Raises ModelError when the folder is no whole checkpoint, or does not fit its definition.
    """
    folder = Path(folder)
    content = read_checkpoint_file(folder)
    module = build_model(definition or content.definition, content.args, resolve or resolver(folder), seed=content.seed)
    edits = [edit_from_json(edit) for edit in content.edits]
    materialize(module, content.lazy)
    apply_edits(module, edits)
    load_weights(module, folder / WEIGHTS)
    masks = {}
    if (folder / MASKS).is_file():
        masks = read_weights(folder / MASKS)
    return Checkpoint(
        module.eval(),
        content.definition,
        dict(content.args),
        content.seed,
        edits,
        masks,
        list(content.inputs),
        dict(content.weights),
        {name: list(shape) for name, shape in content.lazy.items()},
    )


def edit_to_json(edit: Edit) -> dict[str, object]:
    if isinstance(edit, Replace):
        return {"edit": "replace", "module": edit.module, "by": edit.by}
    tensors = {name: {str(dim): list(indices) for dim, indices in dims.items()} for name, dims in edit.tensors.items()}
    return {"edit": "keep_channels", "tensors": tensors, "attributes": edit.attributes}


def edit_from_json(data: object) -> Edit:
    """Raises ModelError for what is no edit."""
    try:
        match data:
            case {"edit": "replace", "module": str(module), "by": dict(by)}:
                return Replace(module, dict(by))
            case {"edit": "keep_channels", "tensors": dict(tensors), "attributes": dict(attributes)}:
                indices = {
                    str(name): {int(dim): tuple(map(int, places)) for dim, places in dims.items()}
                    for name, dims in tensors.items()
                }
                return KeepChannels(indices, {str(name): dict(values) for name, values in attributes.items()})
            case {"edit": str(kind)} if kind not in ("replace", "keep_channels"):
                raise ModelError(f"{CHECKPOINT} holds an edit of kind {kind!r}; known: keep_channels, replace")
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{CHECKPOINT} holds a broken edit: {error!r}") from error
    raise ModelError(f"{CHECKPOINT} holds a broken edit: {data!r}")
