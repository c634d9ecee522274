"""What a user asks for: frozen data, cross-field rules checked where each piece is built.

A module a table; `toml.py` is the only door in. Paths in a recipe are relative to the recipe's own folder;
`Recipe.resolve` makes them absolute.
"""

from __future__ import annotations

from pocketforge.recipe.budget import METRICS, Budget, Metric, Task
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import Data, SplitFolders
from pocketforge.recipe.fit import Fit, Objective, PruneGroup, Space
from pocketforge.recipe.model import SHARED_DEFINITIONS, InputSpec, Model
from pocketforge.recipe.names import Layout, Runtime, suggest
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.preprocess import InputSteps, Preprocess
from pocketforge.recipe.recipe import Recipe
from pocketforge.recipe.release import Release
from pocketforge.recipe.target import Target, Verify
from pocketforge.recipe.training import Training

__all__ = [
    "METRICS",
    "SHARED_DEFINITIONS",
    "Budget",
    "Columns",
    "Data",
    "Fit",
    "InputSpec",
    "InputSteps",
    "Layout",
    "Metric",
    "Model",
    "Objective",
    "Output",
    "Post",
    "Preprocess",
    "PruneGroup",
    "Recipe",
    "Release",
    "Runtime",
    "Space",
    "SplitFolders",
    "Target",
    "Task",
    "Training",
    "Verify",
    "suggest",
]
