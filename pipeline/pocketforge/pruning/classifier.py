"""The linear layer that may be fitted again where dropped blocks change what enters it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.surgery import Replace, replace_module
from pocketforge.outcomes.prune import Refit
from pocketforge.pruning.base import Subject
from pocketforge.pruning.block_importance import outputs
from pocketforge.pruning.blocks import Call
from pocketforge.pruning.refit import FittedClassifier, fit_classifier


def find_classifier(module: nn.Module, calls: Mapping[str, Call], name: str) -> str:
    """The layer of that name, else the last linear layer that runs once; empty where there is none. Raises ModelError
    when `name` is no such layer.
    """
    linear = {n for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    once = [call.name for call in calls.values() if call.name in linear and call.times == 1]
    if name and name not in once:
        raise ModelError(
            f"drop_layers.classifier: {name!r} is not a linear layer that runs once",
            f"linear layers that do: {', '.join(once) or 'none'}",
        )
    return name or (max(once, key=lambda n: calls[n].order) if once else "")


class Classifier:
    """A linear layer of the subject's model, and what it said of calibration samples before anything was dropped."""

    def __init__(self, subject: Subject, name: str, width: int) -> None:
        """width: of what enters it before anything is dropped."""
        self.name, self.width = name, width
        self._subject = subject
        self._logits: list[Tensor] = []
        handle = self.layer.register_forward_hook(lambda _module, _args, result: self._logits.append(result.clone()))
        try:
            answers = [output for output, _ in outputs(subject)]
        finally:
            handle.remove()
        pairs = zip(answers, self._logits, strict=True)
        # Whether the model returns just what the layer says.
        self._is_final = all(isinstance(one, Tensor) and torch.equal(one, other) for one, other in pairs)

    @property
    def layer(self) -> nn.Linear:
        """As it is now."""
        layer = self._subject.module.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def replace(self, width: int) -> tuple[Replace, nn.Linear, Refit]:
        """Put a layer of the new width in its place, fitted to what the layer said before."""
        old = self.layer
        features = self._features(old.in_features)
        by = {
            "kind": "linear",
            "in_features": width,
            "out_features": old.out_features,
            "bias": old.bias is not None,
        }
        edit = Replace(self.name, by)
        replace_module(self._subject.module, edit)
        fitted = self._load(features)
        refit = Refit(self.name, (self.width, width), fitted.strength, fitted.error, fitted.anchor, fitted.loss)
        return edit, self.layer, refit

    def fit_again(self, refit: Refit) -> Refit:
        """Fit the layer to its features as they are now. refit: how it was fitted last."""
        fitted = self._load(self._features(self.layer.in_features))
        return dataclasses.replace(
            refit,
            strength=fitted.strength,
            error=fitted.error,
            anchor=fitted.anchor,
            loss=refit.loss if fitted.loss is None else fitted.loss,
        )

    def _features(self, width: int) -> list[Tensor]:
        """What enters the layer, batch by batch; the layer itself is given zeros of the width that it takes."""
        features: list[Tensor] = []

        def hook(_layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            features.append(args[0].clone())
            return (args[0].new_zeros(*args[0].shape[:-1], width),)

        handle = self.layer.register_forward_pre_hook(hook)
        try:
            for _ in outputs(self._subject):
                pass
        finally:
            handle.remove()
        return features

    def _load(self, features: list[Tensor]) -> FittedClassifier:
        layer = self.layer
        targets = [targets for _, targets in self._subject.batches if isinstance(targets, Tensor)]
        # Targets by name are not those of single rows: the ridge regression is left.
        loss = self._subject.loss if self._is_final and targets else None
        fitted = fit_classifier(features, self._logits, targets, loss, bias=layer.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(fitted.weight)
            if fitted.bias is not None:
                layer.bias.copy_(fitted.bias)
        return fitted
