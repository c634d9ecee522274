"""Definitions that name a model of a library: torchvision:NAME, timm:NAME, transformers:DIR. Nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError, ToolMissing
from pocketforge.model.weight_candidates import short


def known_library(library: str, name: str) -> ModuleType:
    """torchvision or timm, imported. Raises ModelError when it has no model of that name, ToolMissing as imports do."""
    package = _import(library, f"model.definition {library}:{name}")
    if library == "torchvision":
        known = importlib.import_module("torchvision.models").list_models()
    else:  # by architecture, or by one of its pretrained weights: "mobilenetv3_small_100.lamb_in1k"
        known = [*package.list_models(), *package.list_pretrained()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise ModelError(
            f"model.definition: {library} {package.__version__} has no model {name!r}",
            f"did you mean {', '.join(near)}?" if near else f"{library} lists {len(known)} names in list_models()",
        )
    return package


def library_model(library: str, name: str, args: Mapping[str, object], seed: int) -> nn.Module:
    """A model of torchvision or timm, with random weights. ModelError for an unknown name or wrong args."""
    package = known_library(library, name)
    fixed: dict[str, object]
    if library == "torchvision":
        models = importlib.import_module("torchvision.models")
        fixed, make = {"weights": None}, models.get_model
        if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
            fixed["weights_backbone"] = None  # segmentation's and detection's builders load a backbone's by default
    else:
        fixed, make = {"pretrained": False}, package.create_model
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = make(name, **fixed, **args)
    except Exception as error:
        raise ModelError(f"model.definition: {library}:{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model.definition: {library}:{name} gave a {type(module).__name__}, not a torch.nn.Module")
    return module


class LogitsOnly(nn.Module):
    """A transformers model whose forward takes tensors in the order of `names` and returns the logits tensor.

    half_loaded: why its folder's weights are not all of the model's; empty when they are, or when there are none.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], half_loaded: str = "") -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.half_loaded = half_loaded

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=False)), return_dict=True).logits
        return logits


def transformers_model(folder: Path, args: Mapping[str, object], seed: int) -> nn.Module:
    """A classifier from a local folder (config.json, and weights when they lie there), wrapped to return its logits.

    Inputs: pixel_values for images; input_ids and attention_mask for text. `args` override the configuration.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(
            f"model.definition: {folder} has no config.json", "transformers:DIR is a folder from save_pretrained()"
        )
    transformers = _import("transformers", f"model.definition transformers:{folder}")
    try:
        architectures = json.loads(config_file.read_text("utf-8")).get("architectures") or []
    except (ValueError, AttributeError, OSError) as error:
        raise ModelError(f"model.definition: {config_file} is not a JSON configuration: {error}") from error
    kinds = {"ImageClassification": ("pixel_values",), "SequenceClassification": ("input_ids", "attention_mask")}
    kind = next((kind for kind in kinds for name in architectures if name.endswith(f"For{kind}")), None)
    if kind is None:
        raise ModelError(
            f"model.definition: {config_file} is of {', '.join(architectures) or 'no architecture'}; "
            "wanted one ending in ForImageClassification or ForSequenceClassification"
        )
    auto = getattr(transformers, f"AutoModelFor{kind}")
    saved = any(folder.glob("*.safetensors"))
    try:
        # Code that a folder brings along is never run, and pickled weights are never read.
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **args)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if saved:
                model, loading = auto.from_pretrained(
                    folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
                missing = sorted(loading["missing_keys"])
            else:
                model, missing = auto.from_config(config), []
    except Exception as error:
        first = (str(error).strip() or "(no message)").splitlines()[0]
        raise ModelError(f"model.definition: transformers:{folder} raised {type(error).__name__}: {first}") from error
    half_loaded = f"its safetensors lack {short(missing)}, which would be random" if missing else ""
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled and not saved:
        half_loaded = f"its weights are in {pickled[0]}, which is read as model.weights only"
    return LogitsOnly(model, kinds[kind], half_loaded)


def refuse_half_loaded(module: nn.Module, definition: str) -> None:
    """Raise ModelError for a model of transformers whose folder has not all of its weights: others would be random."""
    if isinstance(module, LogitsOnly) and module.half_loaded:
        raise ModelError(
            f"model.definition: {definition}: {module.half_loaded}",
            "name the weights file: model.weights, with save_pretrained() of the fine-tuned model",
        )


def _import(name: str, wanted_by: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolMissing(f"{wanted_by} needs the package {name}: {error}", f"pip install {name}") from error
    except RuntimeError as error:
        # A torchvision built for another torch: "operator torchvision::nms does not exist".
        raise ToolMissing(
            f"{wanted_by}: the installed {name} does not work with torch {torch.__version__}: {error}",
            f"install the {name} release that goes with this torch, from the same index (cpu or cuda)",
        ) from error
