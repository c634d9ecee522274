"""`drop_layers`: remove whole blocks. What is left computes as if they had never been there.

Candidates are residual blocks that keep their input's shape, found in the dataflow (see blocks.py), or the modules that
`blocks` names: each pattern's outermost matches are candidates of their own, and "conv2+bn2" is one candidate whose
modules go together. A plain layer can go where only the classifier depends on its width (the classifier is then fitted
again, see refit.py), or where a fitted map takes its place (replace = "fit"). With "fit", a block that keeps its shape
gets a map only where that lowers the loss.

Importance, lowest first; equal ones by name:

- loss: the rise of the mean loss on the calibration samples without the block (with its stand-in, and the classifier
  fitted again, where there is one). Greedy: measured again after each removal, so n candidates cost about n²/2 passes.
- cosine: 1 - mean cosine similarity of the block's input and output, per sample (as in ShortGPT, Men et al. 2024).
- taylor: Σ |weight × gradient of the mean loss| over the block's weights (Molchanov et al. 2017).

A candidate without which the model breaks is passed over; it is an error only when the count or the goal cannot be
reached with the others. MACs of a block are those counted while it runs on one sample.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

from pocketforge.errors import ModelError
from pocketforge.model.load import count_macs, count_parameters
from pocketforge.model.surgery import Edit, keep_masks
from pocketforge.outcomes.prune import Block, BlocksReport, ReachedGoal
from pocketforge.pruning.base import Pruned, Subject
from pocketforge.pruning.block_importance import calibration_loss, cosine, shape_text, taylor
from pocketforge.pruning.block_run import BreaksError
from pocketforge.pruning.block_trials import BlockBench, BlockTrial, TrialOptions
from pocketforge.pruning.blocks import Candidate, find_candidates, observe, slow_attention
from pocketforge.pruning.costs import check_subject, cost, goal_limit
from pocketforge.recipe.compress import Compress, DropLayers

SHAPE_HINT = (
    'use replace = "fit", or name what depends on its width too (its batch norm, as in blocks = ["conv2+bn2"]); '
    "classifier names the linear layer that may be fitted again"
)


def prune(subject: Subject, settings: Compress, /) -> Pruned[BlocksReport]:
    """Drop blocks of `subject.module` in place, least important first, until the count, ratio or goal is reached.

    Calibration samples are few: after a dropped block, and more so after a classifier fitted again, fine-tune.
    Raises ModelError: no candidates, more wanted than there are, a block that cannot go (with the layer that breaks), a
    ratio or goal that cannot be met (with the best reached), a loss that is no finite scalar.
    """
    assert isinstance(settings, DropLayers)
    check_subject(subject)
    with slow_attention():
        return _Search(subject, settings).run()


class _Search:
    def __init__(self, subject: Subject, settings: DropLayers) -> None:
        self.subject = subject
        self.settings = settings
        calls = observe(subject.module, subject.example)
        self.candidates = find_candidates(subject.module, calls, settings.blocks, settings.protect)
        if settings.count is not None and settings.count > len(self.candidates):
            raise ModelError(
                f"drop_layers.count is {settings.count}, there are {len(self.candidates)} candidates: "
                f"{', '.join(candidate.name for candidate in self.candidates)}",
                "lower count, or name more candidates with blocks",
            )
        self.loss = calibration_loss(subject)
        if not math.isfinite(self.loss):
            raise ModelError(
                f"the loss on the calibration samples is {self.loss}",
                "is the model trained, and its loss the right one?",
            )
        options = TrialOptions(
            classifier=settings.classifier,
            fit_maps=settings.replace == "fit",
            # A map is taken only where its loss is lower than without one.
            measure=settings.importance == "loss" or settings.replace == "fit",
            refits=any(not candidate.keeps_shape for candidate in self.candidates),
        )
        self.bench = BlockBench(subject, calls, options)
        self.dropped: list[BlockTrial] = []
        # Of candidates without which the model, as it is now, breaks: why.
        self.broken: dict[str, str] = {}
        # As measured first; with "loss" before anything was dropped.
        self.importance: dict[str, float] = {}

    def run(self) -> Pruned[BlocksReport]:
        subject, settings = self.subject, self.settings
        before = count_macs(subject.module, subject.example), count_parameters(subject.module)
        if settings.importance != "loss":
            self.importance = (taylor if settings.importance == "taylor" else cosine)(subject, self.candidates)
        goal = self._goal(before[0])
        left = {candidate.name: candidate for candidate in self.candidates}
        while len(self.dropped) != settings.count if goal is None else goal.reached > goal.limit:
            trial = self._next(list(left.values()))
            if trial is None:
                raise self._not_enough(goal)
            self.bench.accept(trial)
            self.dropped.append(trial)
            del left[trial.candidate.name]
            if goal is not None:
                now = cost(subject.module, goal.metric, subject.example, subject.measure)
                goal = dataclasses.replace(goal, reached=now)
            share = len(self.dropped) / (settings.count or len(self.candidates))
            subject.emit(share, f"dropped {trial.candidate.name}")
        self.bench.finish()
        edits: list[Edit] = list(self.bench.edits)
        return Pruned(self._report(left, before, goal), edits, keep_masks(subject.masks, edits, subject.module))

    def _report(self, left: Collection[str], before: tuple[int, int], goal: ReachedGoal | None) -> BlocksReport:
        """left: names of the blocks that are kept. before: MACs and parameters."""
        module = self.subject.module
        ranked = sorted(self.candidates, key=lambda c: (self.importance.get(c.name, math.inf), c.name))
        return BlocksReport(
            candidates=tuple(Block(c.name, self.importance.get(c.name), c.macs, c.parameters) for c in ranked),
            dropped=tuple(trial.candidate.name for trial in self.dropped),
            kept=tuple(c.name for c in ranked if c.name in left),
            # Kept whatever their importance.
            cannot={name: why for name, why in self.broken.items() if name in left},
            loss=(self.loss, calibration_loss(self.subject)),
            macs=(before[0], count_macs(module, self.subject.example)),
            parameters=(before[1], count_parameters(module)),
            refitted=self.bench.refit,
            fits=tuple(trial.fit for trial in self.dropped if trial.fit is not None),
            goal=goal,
        )

    def _goal(self, macs: int) -> ReachedGoal | None:
        """What decides when it is enough; None: the count does. A ratio is a goal on MACs."""
        settings = self.settings
        if settings.count is not None:
            return None
        if settings.goal is None:
            assert settings.ratio is not None
            return ReachedGoal("macs", macs, macs * (1 - settings.ratio), reached=macs)
        metric = settings.goal.metric
        now = cost(self.subject.module, metric, self.subject.example, self.subject.measure)
        return ReachedGoal(metric, now, goal_limit(settings.goal, now), reached=now)

    def _next(self, candidates: Sequence[Candidate]) -> BlockTrial | None:
        """The least important candidate that can go now; None when none can."""
        if self.settings.importance != "loss":
            order = sorted(candidates, key=lambda c: (self.importance[c.name], c.name))
            return next((trial for candidate in order if (trial := self._attempt(candidate))), None)
        now = calibration_loss(self.subject)
        trials = [trial for candidate in candidates if (trial := self._attempt(candidate))]
        for trial in trials:
            if math.isfinite(trial.loss):
                self.importance.setdefault(trial.candidate.name, trial.loss - now)
        return min(trials, key=lambda trial: (trial.loss, trial.candidate.name), default=None)

    def _attempt(self, candidate: Candidate) -> BlockTrial | None:
        self.broken.pop(candidate.name, None)
        try:
            return self.bench.attempt(candidate)
        except BreaksError as error:
            shapes = f"its input is {shape_text(candidate.input)}, its output {shape_text(candidate.output)}, and "
            self.broken[candidate.name] = f"{'' if candidate.keeps_shape else shapes}{error}"
            return None

    def _not_enough(self, goal: ReachedGoal | None) -> ModelError:
        names = ", ".join(trial.candidate.name for trial in self.dropped) or "none"
        reasons = [f"block {name} cannot be dropped: {why}" for name, why in self.broken.items()]
        hint = "want less, or name more candidates with blocks"
        if any("its input is" in reason for reason in reasons):
            hint = SHAPE_HINT if self.settings.replace == "identity" else "protect it, or name other blocks"
        if goal is None:
            if len(self.candidates) == 1:
                return ModelError(reasons[0], hint)
            message = f"drop_layers.count is {self.settings.count}, only {len(self.dropped)} could be dropped: {names}"
        else:
            asked = "ratio" if self.settings.goal is None else "goal"
            message = (
                f"drop_layers: the {asked}, {goal.metric} of at most {goal.limit:.6g}, cannot be met: the best "
                f"reached is {goal.reached:.6g} (from {goal.before:.6g}), with these dropped: {names}"
            )
        return ModelError("\n  ".join([message, *reasons]), hint)
