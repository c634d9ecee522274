"""Train a recipe's model from scratch and write the weights that the recipe names (`pocketforge train`)."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge import events
from pocketforge.data.dataset import open_recipe
from pocketforge.errors import ModelError
from pocketforge.facts.gpus import gpus_for
from pocketforge.model.load import build_model, count_parameters
from pocketforge.model.weights import check_finite, save_weights
from pocketforge.outcomes.train import Epoch
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.training import gpus_in_words
from pocketforge.training.batches import batches_of
from pocketforge.training.gpus import device_of
from pocketforge.training.judge import top1
from pocketforge.training.loop import fit
from pocketforge.training.options import FitOptions, silent

# From scratch needs more epochs and larger steps than a finetune.
FROM_SCRATCH = Finetune(epochs=30, lr=3e-3)
EVAL_BATCH = 64


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that was trained from scratch.

    Attributes:
        weights: The file that was written.
        parameters: How many numbers its parameters are.
        train_samples: Samples that it was trained on.
        eval_samples: Samples that it was judged by.
        eval_accuracy: Top-1 on those, 0 to 1.
        history: Epoch by epoch.
    """

    weights: str
    parameters: int
    train_samples: int
    eval_samples: int
    eval_accuracy: float
    history: tuple[Epoch, ...]


def train_from_recipe(recipe: Recipe, settings: Finetune = FROM_SCRATCH, *, emit: events.Progress = silent) -> Trained:
    """Fit on the train split, measure on the eval split, then write `recipe.model.weights` in one rename.

    The calibration split is not trained on. Raises ModelError, also when the recipe names no safetensors weights to
    write.
    """
    if recipe.task != "classification":
        raise ModelError("training is for task classification")
    if recipe.model.states:
        raise ModelError("training sees single steps, and a model with states is one of sequences: train it before")
    if not recipe.model.weights.endswith(".safetensors"):
        raise ModelError(
            f"model.weights must name the .safetensors file to write, found {recipe.model.weights!r}",
            'set model.weights = "weights.safetensors"',
        )
    if recipe.model.definition.endswith(".pt2"):
        raise ModelError("a .pt2 is a traced graph and cannot be trained", "give the .py definition")
    trained_on = gpus_in_words(gpus_for(recipe.training.device, {"train": settings}), settings.processes)
    data = open_recipe(recipe)
    module = build_model(recipe.model.definition, recipe.model.args, recipe.resolve, seed=recipe.seed)
    if trained_on:
        emit(0.0, f"training on {trained_on}")
    device = device_of(trained_on, settings.processes)
    history = fit(module, data.train, settings, FitOptions(seed=recipe.seed, device=device, emit=emit))
    path = recipe.resolve(recipe.model.weights)
    check_finite(module.state_dict(), "the trained model")
    accuracy = top1(module, batches_of(data.eval, EVAL_BATCH))
    save_weights(module, path)
    return Trained(str(path), count_parameters(module), len(data.train), len(data.eval), accuracy, history)
