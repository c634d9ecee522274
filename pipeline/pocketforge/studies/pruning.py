"""Channels against layers (and single weights, and both together) at the same removed share of a model.

A *cell* is one method, basis, share and seed: prune the trained model to the share, measure, fine-tune with the same
budget as all others, measure again on the eval samples. Seeds differ in the order of the training samples (and in what
is pruned, where that is drawn at random); the trained model they start from is one and the same.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pocketforge.errors import ModelError, RecipeError
from pocketforge.events import Progress, Say
from pocketforge.facts.gather import gather
from pocketforge.facts.versions import runtime_versions, versions_of
from pocketforge.model.load import count_macs, count_parameters
from pocketforge.pruning.unstructured import measure_zeros
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Finetune
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.run.inputs import unchanged
from pocketforge.studies import methods, timing, verdicts
from pocketforge.studies.asked import check_single_steps
from pocketforge.studies.cells import Cells, key_of
from pocketforge.studies.intervals import mean_interval
from pocketforge.studies.pruning_study import (
    CONTROL,
    Ask,
    Baseline,
    Cell,
    Exported,
    Measured,
    Pruned,
    PruningStudy,
    Removed,
    Row,
    Trained,
)
from pocketforge.studies.settings import Settings
from pocketforge.studies.workbench import Workbench, digest_of, model_spec, structure_of
from pocketforge.training.loop import deterministic

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

VERSION = 1


def finetune_budget(recipe: Recipe, epochs: int | None) -> Finetune:
    """The recipe's last finetune (also one inside another entry), else the defaults; with `epochs` when given.

    In one process: several would compete with the timings. Raises RecipeError when the epochs do not fit the rest.
    """
    finetunes = recipe.finetunes()
    budget = finetunes[-1][1] if finetunes else Finetune()
    try:
        return dataclasses.replace(budget, epochs=epochs or budget.epochs, processes=1)
    except ValueError as error:
        raise RecipeError(f"--epochs {epochs} does not fit the recipe's finetune: {error}") from None


def run_study(
    recipe: Recipe, settings: Settings, cache: Path, cells: Cells, *, tell: Say, watch: Progress
) -> PruningStudy:
    """Make every cell that is not kept yet, time what was not timed.

    tell: gets a line for each piece that was done, with elapsed and remaining time. watch: progress inside a piece.
    A cell that cannot be reached has its error. Raises what concerns all cells: the model, its data, an exporter.
    """
    if recipe.task != "classification":
        raise RecipeError(
            f'study pruning compares top-1 accuracies: it needs task "classification", not "{recipe.task}"'
        )
    check_single_steps(recipe, "pruning")
    return _Study(recipe, settings, cache, cells, tell, watch).run()


class _Study:
    def __init__(
        self, recipe: Recipe, settings: Settings, cache: Path, cells: Cells, tell: Say, watch: Progress
    ) -> None:
        self.recipe, self.settings, self.cells = recipe, settings, cells
        facts = gather(recipe, cache)
        self.bench = Workbench(recipe)
        self.place = timing.Place(self.bench, cells, tell, watch)
        cells.guard = functools.partial(unchanged, facts.files.values(), "the study")
        stages = ("prune", "finetune", "export")
        libraries = versions_of(name for stage in stages for name in STAGES[stage].libraries)
        self.about = {
            "version": VERSION,
            "model": model_spec(recipe).to_json(),
            "files": dict(facts.digests),
            "stages": {stage: STAGES[stage].version for stage in stages},
            "libraries": libraries,
        }
        self.runtimes = {name: runtime_versions(name) for name in RUNTIMES.in_order(settings.runtimes)}
        self.host = facts.host
        # Of the cell made last: seeds that share a pruned model come one after another.
        self._cut: tuple[str, nn.Module, methods.Cut] | None = None

    def run(self) -> PruningStudy:
        module, structure = self.bench.module, structure_of(self.bench.module, {})
        parameters, macs = count_parameters(module), count_macs(module, self.bench.example)
        asks = list(self._asks())
        clock = _Clock(len(asks), self.place.tell)
        self._export(module, structure)  # an exporter that is missing shows now, not after hours
        cells = []
        for ask in asks:
            cell, reused = self.cells.once(self._key(ask), Cell, functools.partial(self._make, ask, parameters, macs))
            cells.append(cell)
            clock.done(f"{ask.title}: {_outcome(cell)}", reused)
        about = {"libraries": self.runtimes, "host": self.host, "rounds": self.settings.rounds}
        rows = [_row(group) for group in _grouped(cells)]
        sittings = timing.time_all(self.place, rows, self.settings.runtimes, self.settings.rounds, about)
        rows = timing.with_latencies(rows, sittings)
        control = [cell.trained for cell in cells if cell.ask.method == CONTROL and cell.trained]
        if not control:
            raise ModelError(f"the unpruned model cannot be trained: {cells[0].error}")
        return PruningStudy(
            version=VERSION,
            recipe=self.recipe.name,
            host=self.host,
            settings=self.settings,
            baseline=Baseline(
                parameters=parameters,
                macs=macs,
                eval_samples=sum(len(targets) for _, targets in self.bench.eval),
                accuracy=control[0].accuracy_before,
                accuracy_finetuned=mean_interval([trained.accuracy_after for trained in control]),
                structure=structure,
            ),
            cells=cells,
            rows=rows,
            sittings=sittings,
            verdicts=verdicts.judge(cells, rows, sittings, self.settings.runtimes),
        )

    def _asks(self) -> Iterator[Ask]:
        seeds = range(self.settings.seeds)
        yield from (Ask(CONTROL, "", 0.0, self.recipe.seed + n) for n in seeds)
        for basis in self.settings.by:
            for ratio in self.settings.ratios:
                for method in self.settings.methods:
                    # Zeros remove no MACs: by that measure there is nothing to compare.
                    if not (method == "unstructured" and basis == "macs"):
                        yield from (Ask(method, basis, ratio, self.recipe.seed + n) for n in seeds)

    def _key(self, ask: Ask) -> str:
        return key_of(
            {
                **self.about,
                "ask": dataclasses.asdict(ask),
                "finetune": dataclasses.asdict(self.settings.finetune),
                "method": {} if ask.method == "none" else methods.settings_for(ask.method, self.recipe.compress),
                # The first seed's file is exported.
                "runtimes": self.runtimes if ask.seed == self.recipe.seed else {},
            }
        )

    def _make(self, ask: Ask, parameters: int, macs: int) -> Cell:
        """parameters, macs: of the unpruned model."""
        self.place.watch(0.0, f"{ask.title}: pruning")
        cell = Cell(ask)
        try:
            module, masks, note = self._pruned(ask)
            pruned = self._measured(module, masks, parameters, macs)
            cell = dataclasses.replace(cell, note=note, pruned=pruned)
            return dataclasses.replace(cell, trained=self._trained(ask, module, masks, pruned.structure))
        except ModelError as error:
            return dataclasses.replace(cell, error=error.message)

    def _measured(self, module: nn.Module, masks: dict[str, Tensor], parameters: int, macs: int) -> Pruned:
        zeros = measure_zeros(module).zeros if masks else 0
        left, macs_left = count_parameters(module), count_macs(module, self.bench.example)
        removed = Removed(1 - (left - zeros) / parameters, 1 - macs_left / macs)
        return Pruned(left, macs_left, zeros, structure_of(module, masks), removed)

    def _pruned(self, ask: Ask) -> tuple[nn.Module, dict[str, Tensor], str]:
        """A pruned copy of the model, of one's own; the masks of its zeros, and a note."""
        if ask.method == "none" or ask.basis == "":
            return self.bench.subject(ask.seed).module, {}, ""
        seed = ask.seed if methods.draws_at_random(ask.method, self.recipe.compress) else self.recipe.seed
        name = key_of(dataclasses.asdict(dataclasses.replace(ask, seed=seed)))
        if self._cut is None or self._cut[0] != name:
            self._cut = None
            subject = self.bench.subject(seed)
            subject.emit = lambda fraction, words: self.place.watch(fraction, f"{ask.title}: {words}")
            with deterministic(seed):
                cut = methods.cut(subject, ask.method, ask.basis, ask.ratio, self.recipe.compress)
            self._cut = (name, subject.module, cut)
        _, module, cut = self._cut
        return copy.deepcopy(module), dict(cut.masks), cut.note

    def _trained(self, ask: Ask, module: nn.Module, masks: dict[str, Tensor], structure: str) -> Trained:
        """Accuracies around fine-tuning, and the exported files' sizes. Equal pruned models are trained once a seed."""
        finetune = self.settings.finetune
        export = ask.seed == self.recipe.seed
        key = key_of(
            {
                **self.about,
                "pruned": digest_of(module, masks),
                "seed": ask.seed,
                "finetune": dataclasses.asdict(finetune),
                "runtimes": self.runtimes if export else {},
            }
        )

        def watch(fraction: float, words: str) -> None:
            self.place.watch(fraction, f"{ask.title}: {words}")

        def make() -> Trained:
            before = self.bench.accuracy(module)
            self.bench.finetune(module, masks, finetune, ask.seed, self.cells.partial(key), watch)
            after = self.bench.accuracy(module)
            return Trained(before, after, self._export(module, structure) if export else {})

        trained, _ = self.cells.once(key, Trained, make)
        self.cells.forget_partial(key)
        return trained

    def _export(self, module: nn.Module, structure: str) -> dict[str, Exported]:
        return timing.export_all(self.place, module, structure, self.settings.runtimes)


def _grouped(cells: Sequence[Cell]) -> list[list[Cell]]:
    groups: dict[tuple[str, float, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.ask.basis, cell.ask.ratio, cell.ask.method), []).append(cell)
    return list(groups.values())


def _row(cells: Sequence[Cell]) -> Row:
    """All seeds of one method, basis and share in one line; sizes and structure are the first seed's."""
    ask = cells[0].ask
    error = next((cell.error for cell in cells if cell.error), "")
    reached = [(cell.pruned, cell.trained) for cell in cells if cell.pruned and cell.trained]
    measured = _means(reached) if reached else None
    return Row(ask.method, ask.basis, ask.ratio, cells[0].note, error, len(reached), measured)


def _means(seeds: Sequence[tuple[Pruned, Trained]]) -> Measured:
    pruned, trained = seeds[0]
    return Measured(
        parameters=pruned.parameters,
        macs=pruned.macs,
        zeros=pruned.zeros,
        structure=pruned.structure,
        files=trained.files,
        removed=Removed(
            mean_interval([each.removed.parameters for each, _ in seeds]).mean,
            mean_interval([each.removed.macs for each, _ in seeds]).mean,
        ),
        accuracy_before=mean_interval([each.accuracy_before for _, each in seeds]),
        accuracy_after=mean_interval([each.accuracy_after for _, each in seeds]),
    )


def _outcome(cell: Cell) -> str:
    if cell.error:
        return f"not reached: {cell.error.splitlines()[0]}"
    assert cell.pruned is not None and cell.trained is not None
    gone = f"{cell.pruned.removed.of(cell.ask.basis):.3f} removed, " if cell.ask.basis != "" else ""
    return f"{gone}top-1 {cell.trained.accuracy_before:.4f} → {cell.trained.accuracy_after:.4f}"


class _Clock:
    """Says what was done, how long it took so far and, from the pieces made in this run, how long the rest will."""

    def __init__(self, total: int, tell: Say) -> None:
        self.total, self.tell = total, tell
        self.number = self.made = 0
        self.started = self.last = time.monotonic()
        self.spent = 0.0

    def done(self, words: str, reused: bool) -> None:
        now = time.monotonic()
        self.number += 1
        if not reused:
            self.made += 1
            self.spent += now - self.last
        self.last = now
        left = self.total - self.number
        rest = f", about {minutes(self.spent / self.made * left)} left" if self.made and left else ""
        spent_words = "kept" if reused else f"{minutes(now - self.started)} gone"
        self.tell(f"[{self.number}/{self.total}] {words} ({spent_words}{rest})")


def minutes(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
