"""A model's layers: what `pocketforge model show` prints."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from pipeline import models
from pipeline.errors import ModelError
from pipeline.recipe import Recipe


def summarize(recipe: Recipe) -> dict[str, Any]:
    """Layers (name, kind, parameters, output shape for batch 1), totals. Raises ModelError as building does.

    What libraries warn of is not shown: a build's log has it.

    The input is the recipe's model.input, else the definition's example_inputs(), else a preprocessed sample's shape.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _summarize(recipe)


def _summarize(recipe: Recipe) -> dict[str, Any]:
    definition = recipe.model.definition
    module = models.build_model(definition, recipe.model.args, recipe.resolve)
    if recipe.model.weights:
        models.load_weights(module, recipe.resolve(recipe.model.weights))
    example = _example(recipe)
    shapes: dict[str, list[int]] = {}
    hooks = []
    leaves = [(name, m) for name, m in module.named_modules() if not list(m.children()) and name]

    def remember(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = list(output.shape)

        return hook

    for name, leaf in leaves:
        hooks.append(leaf.register_forward_hook(remember(name)))
    try:
        macs = models.count_macs(module, example)
    except Exception as error:
        raise ModelError(
            f"the model fails on input {', '.join(str(list(t.shape)) for t in example)}: {error}",
            "give its input shape: [[model.input]] shape = [1, …]",
        ) from error
    finally:
        for handle in hooks:
            handle.remove()
    return {
        "recipe": recipe.name,
        "definition": definition,
        "inputs": [{"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for t in example],
        "parameters": models.count_parameters(module),
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
    given = models.example_inputs(recipe.model.definition, recipe.resolve)
    if given is not None:
        return tuple(t[:1] for t in given)
    from pipeline.data.dataset import open_recipe

    inputs, _ = open_recipe(recipe).eval[0]
    return tuple(torch.from_numpy(array)[None] for array in inputs)
