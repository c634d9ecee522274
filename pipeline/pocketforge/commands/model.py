"""A model's layers: what `pocketforge model show` prints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from pocketforge.errors import ModelError
from pocketforge.files import Resolve, resolver
from pocketforge.model import load
from pocketforge.model.lazy import settle
from pocketforge.model.surgery import Checkpoint, Edit, Replace, edit_to_json, load_checkpoint
from pocketforge.model.weights import load_weights
from pocketforge.recipe import Recipe


def summarize(recipe: Recipe) -> dict[str, object]:
    """Layers (name, kind, parameters, output shape for batch 1), totals. Raises ModelError as building does.

    What libraries warn of is not shown: a build's log has it.

    The input is the recipe's model.input, else the definition's example_inputs(), else a preprocessed sample's shape.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _of_recipe(recipe)


def summarize_checkpoint(folder: Path) -> dict[str, object]:
    """As `summarize`, of a checkpoint folder, with its edits. Raises ModelError when it is no whole checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = load_checkpoint(folder)
        if checkpoint.inputs:
            example: tuple[torch.Tensor, ...] | None = tuple(
                torch.zeros(i.shape, dtype=getattr(torch, i.dtype)) for i in checkpoint.inputs
            )
        else:
            example = load.example_inputs(checkpoint.definition, resolver(folder))
        _bind(checkpoint, resolver(folder))
        if example is None:
            raise ModelError(f"{folder} does not say what its model takes", "a build's build/NAME/checkpoint does")
        summary = _summarize(str(folder), checkpoint.definition, checkpoint.module, tuple(t[:1] for t in example))
    masked = {name: int((mask == 0).sum()) for name, mask in sorted(checkpoint.masks.items())}
    return {**summary, "edits": [_in_short(edit) for edit in checkpoint.edits], "masked_weights": masked}


def _bind(checkpoint: Checkpoint, resolve: Resolve) -> None:
    """Let the module take its inputs in their order. Without a recipe's arguments example_inputs() may say them: inputs
    have their names then."""
    names = [each.name for each in checkpoint.inputs]
    arguments = [each.argument for each in checkpoint.inputs]
    said = load.example(checkpoint.definition, resolve) if names and not any(arguments) else None
    if said is not None and [argument.replace(".", "_") for argument in said.arguments] == names:
        arguments = list(said.arguments)
    load.bind_inputs(checkpoint.module, checkpoint.definition, names, arguments, resolve)


def _in_short(edit: Edit) -> Mapping[str, object]:
    """An edit as JSON; of kept channels only how many."""
    if isinstance(edit, Replace):
        return edit_to_json(edit)
    counts = {name: {str(dim): len(kept) for dim, kept in dims.items()} for name, dims in edit.tensors.items()}
    return {"edit": "keep_channels", "kept": counts}


def _of_recipe(recipe: Recipe) -> dict[str, object]:
    definition = recipe.model.definition
    module = load.build_model(definition, recipe.model.args, recipe.resolve)
    weights = {}
    if recipe.model.weights:
        path = recipe.resolve(recipe.model.weights)
        weights = load_weights(module, path, recipe.model.weights_key).to_json()
    example = _example(recipe)
    given = recipe.model.inputs
    load.bind_inputs(module, definition, [i.name for i in given], [i.argument for i in given], recipe.resolve)
    settle(module, example, recipe.seed)
    summary = _summarize(recipe.name, definition, module, example)
    return {**summary, "weights": weights} if weights else summary


def _summarize(
    title: str, definition: str, module: torch.nn.Module, example: tuple[torch.Tensor, ...]
) -> dict[str, object]:
    shapes: dict[str, list[int]] = {}
    hooks = []
    leaves = [(name, m) for name, m in module.named_modules() if not list(m.children()) and name]

    def remember(name: str) -> Callable[[torch.nn.Module, object, object], None]:
        def hook(_module: torch.nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = list(output.shape)

        return hook

    for name, leaf in leaves:
        hooks.append(leaf.register_forward_hook(remember(name)))
    try:
        macs = load.count_macs(module, example)
    except Exception as error:
        raise ModelError(
            f"the model fails on input {', '.join(str(list(t.shape)) for t in example)}: {error}",
            "give its input shape: [[model.input]] shape = [1, …]",
        ) from error
    finally:
        for handle in hooks:
            handle.remove()
    return {
        "recipe": title,
        "definition": definition,
        "inputs": [{"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for t in example],
        "parameters": load.count_parameters(module),
        "macs": macs,
        "layers": [
            {
                "name": name,
                "kind": type(leaf).__name__,
                "parameters": sum(p.numel() for p in leaf.parameters(recurse=False)),
                "output": shapes.get(name, []),
            }
            for name, leaf in leaves
        ],
    }


def _example(recipe: Recipe) -> tuple[torch.Tensor, ...]:
    if recipe.model.inputs:
        return tuple(torch.zeros(i.shape, dtype=getattr(torch, i.dtype)) for i in recipe.model.inputs)
    given = load.example_inputs(recipe.model.definition, recipe.resolve)
    if given is not None:
        return tuple(t[:1] for t in given)
    from pocketforge.data.dataset import open_recipe

    inputs, _ = open_recipe(recipe).eval[0]
    return tuple(torch.from_numpy(array)[None] for array in inputs)
