"""What a model's inputs and outputs are called: as the recipe says, else as its code does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.files import Resolve
from pocketforge.model import load
from pocketforge.model.structure import OutputPath, check_distinct, leaves, names_of
from pocketforge.recipe.model import InputSpec
from pocketforge.specs.trained import ModelSource


def input_names(inputs: Sequence[InputSpec], arguments: Sequence[str]) -> list[str]:
    """The recipe's names, else those of the arguments, else `input` (`input_0`, `input_1` … of several).

    arguments: one an input, as example_inputs() or a .pt2 say them; empty for none. Raises ModelError where the recipe
    has another number of inputs, or two would have one name.
    """
    if inputs and len(inputs) != len(arguments):
        raise ModelError(
            f"the recipe has {len(inputs)} [[model.input]], the model takes {len(arguments)}",
            "give one for each, in their order",
        )
    given = [each.name or each.argument.replace(".", "_") for each in inputs] or [""] * len(arguments)
    named = [name or argument.replace(".", "_") for name, argument in zip(given, arguments, strict=True)]
    names = [name or ("input" if len(named) == 1 else f"input_{k}") for k, name in enumerate(named)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(f"two inputs are called {twice[0]!r}", "give each a name of its own: [[model.input]] name = …")
    return names


def output_names(given: Sequence[str], paths: Sequence[OutputPath], inputs: Sequence[str]) -> list[str]:
    """The recipe's names, else the model's own. paths: the ways to its outputs. inputs: the inputs' names.

    Raises ModelError when the numbers differ, and for a name that would be of two.
    """
    names = names_of(paths)
    if given and len(given) != len(names):
        raise ModelError(
            f"model.outputs names {len(given)} outputs, the model gives {len(names)}: {', '.join(names)}",
            "give a name to each, in this order",
        )
    both = sorted(set(given) & set(inputs))
    if both:
        raise ModelError(
            f"model.outputs: {', '.join(both)} is the name of an input too", "files need names of their own"
        )
    if given:
        return list(given)
    # Files have no two tensors of one name: what a state is called goes to what comes in.
    named = [f"{name}_out" if name in inputs else name for name in names]
    check_distinct(named, paths)
    return named


def names_of_outputs(
    module: nn.Module,
    example: Sequence[Tensor],
    source: ModelSource,
    given: Sequence[str],
    resolve: Resolve,
) -> list[str]:
    """As stage `reference` calls them, before any is left out. The module is in eval mode and takes the example.

    given: the recipe's names; empty where it has none. Raises ModelError as `output_names` does.
    """
    with torch.no_grad():
        paths = [leaf.path for leaf in leaves(module(*example))]
    taken = [name or argument for name, argument in zip_longest(source.input_names, source.arguments, fillvalue="")]
    if not any(taken):
        found = load.example(source.definition, resolve)
        taken = list(found.arguments) if found is not None else []
    return output_names(given, paths, [name.replace(".", "_") for name in taken])
