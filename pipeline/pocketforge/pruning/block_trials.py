"""Trying what a model does without a block: stand-ins are put in, tested, measured and taken out again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model.surgery import Replace, replace_module
from pocketforge.pruning.base import Subject
from pocketforge.pruning.block_importance import activations, mean_loss, outputs, shape_text
from pocketforge.pruning.blocks import Call, Candidate
from pocketforge.pruning.refit import fit_classifier, map_forms


class BreaksError(Exception):
    """The model does not run without the block, or gives another shape; says what breaks."""


@dataclass(slots=True)
class Trial:
    """A candidate's stand-ins, ready to be put in. layers: by the name of what they replace.

    loss: the mean loss with them; NaN where it was not asked for. fit, refit: what was fitted, as JSON.
    """

    candidate: Candidate
    edits: list[Replace]
    layers: dict[str, nn.Module]
    loss: float = math.nan
    fit: dict[str, Any] | None = None
    refit: dict[str, Any] | None = None


class Workbench:
    """The model as it is now, what it was at the beginning (`calls`), and the edits made since.

    classifier: the linear layer that may be fitted again; empty: the last one that runs once.
    fit_maps: a block may be replaced by a fitted map. measure: trials measure the loss.
    """

    def __init__(
        self, subject: Subject, calls: dict[str, Call], *, classifier: str, fit_maps: bool, measure: bool, refits: bool
    ) -> None:
        self.subject = subject
        self.module = subject.module
        self.calls = calls
        self.fit_maps = fit_maps
        self.measure = measure or fit_maps
        self.classifier = self._find_classifier(classifier)
        self.edits: list[Replace] = []
        self.refit: dict[str, Any] | None = None
        self._refit_is_old = False
        with torch.no_grad():
            output = self.module(*self._example())
        self._output = tuple(output.shape) if isinstance(output, Tensor) else None
        self._logits: list[Tensor] = []
        self._is_final = False
        if refits and self.classifier:
            self._remember_logits()

    def _example(self) -> list[Tensor]:
        return [value.clone() for value in self.subject.example]

    def _find_classifier(self, name: str) -> str:
        linear = {n for n, m in self.module.named_modules() if isinstance(m, nn.Linear)}
        once = [call.name for call in self.calls.values() if call.name in linear and call.times == 1]
        if name and name not in once:
            raise ModelError(
                f"drop_layers.classifier: {name!r} is not a linear layer that runs once",
                f"linear layers that do: {', '.join(once) or 'none'}",
            )
        return name or (max(once, key=lambda n: self.calls[n].order) if once else "")

    def _remember_logits(self) -> None:
        """What the classifier said before anything was dropped, and whether the model returns just that."""
        layer = self.module.get_submodule(self.classifier)
        handle = layer.register_forward_hook(lambda _module, _args, result: self._logits.append(result.clone()))
        try:
            given = [output for output, _ in outputs(self.subject)]
        finally:
            handle.remove()
        pairs = zip(given, self._logits, strict=True)
        self._is_final = all(isinstance(one, Tensor) and torch.equal(one, other) for one, other in pairs)

    def attempt(self, candidate: Candidate) -> Trial:
        """The candidate's stand-ins, tried and taken out again. Raises BreaksError."""
        return self._fitted(candidate) if self.fit_maps else self._skipped(candidate)

    def accept(self, trial: Trial) -> None:
        """Put a trial's stand-ins in for good."""
        for name, layer in trial.layers.items():
            _put(self.module, name, layer)
        if trial.refit is not None:
            # An earlier classifier's edit would only be undone by this one.
            self.edits = [edit for edit in self.edits if edit.module != self.classifier]
            self.refit = trial.refit
        self._refit_is_old = trial.refit is None
        self.edits += trial.edits

    def finish(self) -> None:
        """Where blocks were dropped after the classifier was fitted, fit it to its features as they are now."""
        if self.refit is not None and self._refit_is_old:
            layer = self.module.get_submodule(self.classifier)
            self.refit.update(self._load_classifier(layer, self._features(layer.in_features)))

    def _skipped(self, candidate: Candidate) -> Trial:
        return self._tested(candidate, [Replace(call.name, _skip(call)) for call in candidate.calls])

    def _fitted(self, candidate: Candidate) -> Trial:
        """The best map; for a block that keeps its shape nothing at all, unless a map has the lower loss."""
        forms = map_forms(candidate.input, candidate.output) if candidate.input and candidate.output else []
        if not candidate.is_chain or not forms:
            if candidate.keeps_shape:
                return self._skipped(candidate)
            raise BreaksError(
                "no linear or 1×1 map does that"
                if candidate.is_chain
                else "one map cannot stand for it (more than one argument, or modules that do not follow one another)"
            )
        moments = [form.moments() for form in forms]
        for x, y in activations(self.subject, candidate):
            for form, sums in zip(forms, moments, strict=True):
                sums.add(form.inputs(x), form.outputs(y))
        solved = [(form, sums.solve()) for form, sums in zip(forms, moments, strict=True)]
        form, found = min(solved, key=lambda pair: pair[1].error)
        first, *others = candidate.calls
        edits = [Replace(first.name, form.by), *(Replace(call.name, _skip(call)) for call in others)]
        trial = self._tested(candidate, edits, lambda layers: form.load(layers[first.name], found))
        fit = {"name": candidate.name, "kind": form.by["kind"], "error": found.error, "loss": trial.loss}
        if candidate.keeps_shape:
            try:
                plain = self._skipped(candidate)
            except BreaksError:  # only a map keeps the model running
                plain = None
            fit["loss_of_identity"] = plain.loss if plain else None
            if plain and plain.loss <= trial.loss:
                trial, fit["kind"] = plain, "identity"
        trial.fit = fit
        return trial

    def _tested(
        self,
        candidate: Candidate,
        edits: list[Replace],
        load: Callable[[dict[str, nn.Module]], None] | None = None,
    ) -> Trial:
        """Make the edits, see that the model runs, fit its classifier again if need be, measure, take them back."""
        trial = Trial(candidate, edits, {})
        with self._put_back([edit.module for edit in edits]) as old:
            for edit in edits:
                trial.layers[edit.module] = replace_module(self.module, edit)
            if load is not None:
                load(trial.layers)
            width = self._run_without(candidate, old)
            if width is not None:
                self._fit_classifier(trial, width)
            if self.measure:
                loss = mean_loss(self.subject)
                trial.loss = loss if math.isfinite(loss) else math.inf
        return trial

    @contextmanager
    def _put_back(self, names: list[str]) -> Iterator[list[nn.Module]]:
        """Restores the named modules, and the classifier, at its end; gives the named ones."""
        before = {name: self.module.get_submodule(name) for name in names}
        old = list(before.values())
        if self.classifier and not any(self.classifier.startswith(f"{name}.") for name in names):
            before.setdefault(self.classifier, self.module.get_submodule(self.classifier))
        try:
            yield old
        finally:
            for name, layer in before.items():
                _put(self.module, name, layer)

    def _run_without(self, candidate: Candidate, old: list[nn.Module]) -> int | None:
        """Run the example through the edited model; returns the classifier's new width where it changed.

        Raises BreaksError when a layer with weights, other than the classifier, gets another shape than before, when
        the model gives another shape, or when it reaches a replaced module in another way than by its name.
        """
        running: list[str] = []
        width: list[int] = []
        replaced = {call.name for call in candidate.calls} | {edit.module for edit in self.edits}

        def enter(name: str, check: bool) -> Any:
            def hook(layer: nn.Module, args: tuple[Any, ...]) -> Any:
                running.append(name)
                if not check:
                    return None
                wanted = self.calls[name].input
                found = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else None
                if name == self.classifier and found and wanted and found[:-1] == wanted[:-1]:
                    if found[-1] == layer.in_features:
                        return None
                    width.append(found[-1])
                    # The rest of the model is tried too: what the layer says does not matter, its shape does.
                    return (args[0].new_zeros(*found[:-1], layer.in_features), *args[1:])
                if found != wanted:
                    raise BreaksError(f"{name} then gets input {shape_text(found)} instead of {shape_text(wanted)}")
                return None

            return hook

        def leave(_layer: nn.Module, _args: Any, _result: Any) -> None:
            running.pop()

        def still_used(_layer: nn.Module, _args: Any) -> None:
            raise BreaksError("the model keeps it in another place too, and calls it there")

        handles = [layer.register_forward_pre_hook(still_used) for layer in old]
        for name, layer in self.module.named_modules():
            if name:
                check = any(True for _ in layer.parameters(recurse=False))
                check &= name in self.calls and self.calls[name].times == 1
                check &= name not in replaced or name == self.classifier
                handles.append(layer.register_forward_pre_hook(enter(name, check)))
                handles.append(layer.register_forward_hook(leave))
        try:
            with torch.no_grad():
                output = self.module(*self._example())
        except BreaksError:
            raise
        except Exception as error:  # the user's own forward, which may raise anything when its shapes change
            first = (str(error).strip() or "no message").splitlines()[0]
            where = running[-1] if running else "the model"
            raise BreaksError(f"{where} then raises {type(error).__name__}: {first}") from error
        finally:
            for handle in handles:
                handle.remove()
        if isinstance(output, Tensor) and tuple(output.shape) != self._output:
            given, wanted = shape_text(tuple(output.shape)), shape_text(self._output)
            raise BreaksError(f"the model then gives output {given} instead of {wanted}")
        return width[0] if width else None

    def _fit_classifier(self, trial: Trial, width: int) -> None:
        """Put a linear layer of the new width in the classifier's place, fitted to what the classifier said before."""
        old = self.module.get_submodule(self.classifier)
        features = self._features(old.in_features)
        by = {
            "kind": "linear",
            "in_features": width,
            "out_features": old.out_features,
            "bias": old.bias is not None,
        }
        trial.edits.append(Replace(self.classifier, by))
        layer = trial.layers[self.classifier] = replace_module(self.module, trial.edits[-1])
        shape = self.calls[self.classifier].input
        assert shape is not None
        trial.refit = {
            "classifier": self.classifier,
            "in_features": [shape[-1], width],
            **self._load_classifier(layer, features),
        }

    def _features(self, width: int) -> list[Tensor]:
        """What enters the classifier, batch by batch; the layer itself is given zeros of the width that it takes."""
        kept: list[Tensor] = []

        def hook(_layer: nn.Module, args: tuple[Any, ...]) -> Any:
            kept.append(args[0].clone())
            return (args[0].new_zeros(*args[0].shape[:-1], width),)

        handle = self.module.get_submodule(self.classifier).register_forward_pre_hook(hook)
        try:
            for _ in outputs(self.subject):
                pass
        finally:
            handle.remove()
        return kept

    def _load_classifier(self, layer: nn.Module, features: list[Tensor]) -> dict[str, Any]:
        targets = [targets for _, targets in self.subject.batches]
        loss = self.subject.loss if self._is_final else None
        weight, bias, report = fit_classifier(features, self._logits, targets, loss, bias=layer.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
        return report


def _skip(call: Call) -> dict[str, Any]:
    return {"kind": "skip", "as_tuple": True} if call.as_tuple else {"kind": "skip"}


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, layer)
