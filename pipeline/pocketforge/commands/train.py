"""Train a recipe's model from scratch and write the weights that the recipe names (`pocketforge train`)."""

from __future__ import annotations

from typing import Any

from pocketforge.data.dataset import open_recipe
from pocketforge.errors import ModelError
from pocketforge.model.load import build_model, count_parameters
from pocketforge.model.weights import check_finite, save_weights
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Finetune
from pocketforge.training.loop import Emit, accuracy, fit, silent

# From scratch needs more epochs and larger steps than a finetune.
FROM_SCRATCH = Finetune(epochs=30, lr=3e-3)


def train_from_recipe(recipe: Recipe, settings: Finetune = FROM_SCRATCH, *, emit: Emit = silent) -> dict[str, Any]:
    """Fit on the train split, measure on the eval split, then write `recipe.model.weights` in one rename.

    The calibration split is not trained on. Returns {"weights": path, "parameters", "train_samples", "eval_samples",
    "eval_accuracy", "history"}. Raises ModelError, also when the recipe names no safetensors weights to write.
    """
    if recipe.task != "classification":
        raise ModelError("training is for task classification")
    if not recipe.model.weights.endswith(".safetensors"):
        raise ModelError(
            f"model.weights must name the .safetensors file to write, found {recipe.model.weights!r}",
            'set model.weights = "weights.safetensors"',
        )
    if recipe.model.definition.endswith(".pt2"):
        raise ModelError("a .pt2 is a traced graph and cannot be trained", "give the .py definition")
    data = open_recipe(recipe)
    module = build_model(recipe.model.definition, recipe.model.args, recipe.resolve, seed=recipe.seed)
    history = fit(module, data.train, settings, seed=recipe.seed, emit=emit)
    path = recipe.resolve(recipe.model.weights)
    check_finite(module.state_dict(), "the trained model")
    measured = accuracy(module, data.eval)
    save_weights(module, path)
    return {
        "weights": str(path),
        "parameters": count_parameters(module),
        "train_samples": len(data.train),
        "eval_samples": len(data.eval),
        "eval_accuracy": measured,
        "history": history,
    }
