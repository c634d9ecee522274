"""What stages of the trunk are told, for tests that run one by itself: the model is `model.py` of a folder."""

from __future__ import annotations

from collections.abc import Mapping

from pocketforge.recipe import Data
from pocketforge.recipe.compress import Finetune, PruneUnstructured
from pocketforge.specs.data import data_spec
from pocketforge.specs.finetune import FinetuneSpec
from pocketforge.specs.sampling import Sampling
from pocketforge.specs.trained import ModelSource


def model_source(args: Mapping[str, object] | None = None) -> ModelSource:
    return ModelSource("model.py", args or {}, seed=0)


def sampling(data: Data, task: str = "classification") -> Sampling:
    return Sampling(data_spec(data, 0, task), 0, task)


def finetune_spec(
    data: Data,
    settings: Finetune,
    *,
    args: Mapping[str, object] | None = None,
    task: str = "classification",
    gradual: PruneUnstructured | None = None,
) -> FinetuneSpec:
    return FinetuneSpec(model_source(args), (), sampling(data, task), settings, gradual)
