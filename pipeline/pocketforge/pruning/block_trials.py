"""Trying what a model does without a block: stand-ins are put in, tested, measured and taken out again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from pocketforge.model.surgery import Replace, replace_module
from pocketforge.outcomes.prune import MapFit, Refit
from pocketforge.pruning.base import Subject
from pocketforge.pruning.block_importance import activations, calibration_loss
from pocketforge.pruning.block_run import BlockRun, BreaksError, output_shape
from pocketforge.pruning.blocks import Call, Candidate
from pocketforge.pruning.classifier import Classifier, find_classifier
from pocketforge.pruning.refit import Linear, MapForm, map_forms


@dataclass(frozen=True, slots=True)
class BlockTrial:
    """A candidate's stand-ins, ready to be put in.

    Attributes:
        candidate: What they stand for.
        edits: The same as data.
        layers: By the name of what they replace.
        loss: The mean loss with them; NaN where it was not asked for.
        fit: Of the map among them; None where none was fitted.
        refit: Of the classifier; None where it stays as it is.
    """

    candidate: Candidate
    edits: tuple[Replace, ...]
    layers: Mapping[str, nn.Module]
    loss: float = math.nan
    fit: MapFit | None = None
    refit: Refit | None = None


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """What a trial does beside testing that the model runs.

    Attributes:
        classifier: The linear layer that may be fitted again; empty: the last one that runs once.
        fit_maps: A block may be replaced by a fitted map.
        measure: The loss is measured.
        refits: The classifier may be fitted again.
    """

    classifier: str
    fit_maps: bool
    measure: bool
    refits: bool


class BlockBench:
    """The model as it is now, what it was at the beginning (`calls`), and the edits made since."""

    def __init__(self, subject: Subject, calls: dict[str, Call], options: TrialOptions) -> None:
        self.edits: list[Replace] = []
        self.refit: Refit | None = None
        self._subject, self._calls, self._options = subject, calls, options
        self._refit_is_old = False
        self._output = output_shape(subject.module, subject.example)
        self._classifier_name = find_classifier(subject.module, calls, options.classifier)
        self._classifier: Classifier | None = None
        shape = calls[self._classifier_name].input if self._classifier_name else None
        if options.refits and shape is not None:
            self._classifier = Classifier(subject, self._classifier_name, shape[-1])

    def attempt(self, candidate: Candidate) -> BlockTrial:
        """The candidate's stand-ins, tried and taken out again. Raises BreaksError."""
        return self._fitted(candidate) if self._options.fit_maps else self._skipped(candidate)

    def accept(self, trial: BlockTrial) -> None:
        """Put a trial's stand-ins in for good."""
        for name, layer in trial.layers.items():
            _put(self._subject.module, name, layer)
        if trial.refit is not None:
            # An earlier classifier's edit would only be undone by this one.
            self.edits = [edit for edit in self.edits if edit.module != self._classifier_name]
            self.refit = trial.refit
        self._refit_is_old = trial.refit is None
        self.edits += trial.edits

    def finish(self) -> None:
        """Where blocks were dropped after the classifier was fitted, fit it to its features as they are now."""
        if self.refit is not None and self._refit_is_old and self._classifier is not None:
            self.refit = self._classifier.fit_again(self.refit)

    def _skipped(self, candidate: Candidate) -> BlockTrial:
        return self._tested(candidate, [Replace(call.name, _skip(call)) for call in candidate.calls])

    def _fitted(self, candidate: Candidate) -> BlockTrial:
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
        form, solution = self._best_map(candidate, forms)
        first, *others = candidate.calls
        edits = [Replace(first.name, form.by), *(Replace(call.name, _skip(call)) for call in others)]
        mapped = self._tested(candidate, edits, lambda layers: form.load(layers[first.name], solution))
        fit = MapFit(candidate.name, form.kind, solution.error, mapped.loss)
        if candidate.keeps_shape:
            try:
                skipped = self._skipped(candidate)
            except BreaksError:  # only a map keeps the model running
                return dataclasses.replace(mapped, fit=fit)
            fit = dataclasses.replace(fit, loss_of_identity=skipped.loss)
            if skipped.loss <= mapped.loss:
                return dataclasses.replace(skipped, fit=dataclasses.replace(fit, kind="identity"))
        return dataclasses.replace(mapped, fit=fit)

    def _best_map(self, candidate: Candidate, forms: Sequence[MapForm]) -> tuple[MapForm, Linear]:
        moments = [form.moments() for form in forms]
        for x, y in activations(self._subject, candidate):
            for form, sums in zip(forms, moments, strict=True):
                sums.add(form.inputs(x), form.outputs(y))
        solved = [(form, sums.solve()) for form, sums in zip(forms, moments, strict=True)]
        return min(solved, key=lambda pair: pair[1].error)

    def _tested(
        self,
        candidate: Candidate,
        edits: list[Replace],
        load: Callable[[dict[str, nn.Module]], None] | None = None,
    ) -> BlockTrial:
        """Make the edits, see that the model runs, fit its classifier again if need be, measure, take them back."""
        module, classifier = self._subject.module, self._classifier
        layers: dict[str, nn.Module] = {}
        loss, refit = math.nan, None
        with self._put_back([edit.module for edit in edits]) as old:
            for edit in edits:
                layers[edit.module] = replace_module(module, edit)
            if load is not None:
                load(layers)
            run = BlockRun(module, self._calls, classifier.name if classifier is not None else "")
            replaced = {call.name for call in candidate.calls} | {edit.module for edit in self.edits}
            run.check(self._subject.example, self._output, old, replaced)
            if run.width is not None and classifier is not None:
                edit, layers[classifier.name], refit = classifier.replace(run.width)
                edits = [*edits, edit]
            if self._options.measure:
                loss = calibration_loss(self._subject)
                loss = loss if math.isfinite(loss) else math.inf
        return BlockTrial(candidate, tuple(edits), layers, loss, refit=refit)

    @contextmanager
    def _put_back(self, names: list[str]) -> Iterator[list[nn.Module]]:
        """Restores the named modules, and the classifier, at its end; gives the named ones."""
        module, classifier = self._subject.module, self._classifier_name
        before = {name: module.get_submodule(name) for name in names}
        old = list(before.values())
        if classifier and not any(classifier.startswith(f"{name}.") for name in names):
            before.setdefault(classifier, module.get_submodule(classifier))
        try:
            yield old
        finally:
            for name, layer in before.items():
                _put(module, name, layer)


def _skip(call: Call) -> dict[str, object]:
    return {"kind": "skip", "as_tuple": True} if call.as_tuple else {"kind": "skip"}


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, layer)
