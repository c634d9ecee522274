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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from pocketforge.errors import ModelError, PocketforgeError, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.model.load import count_macs, count_parameters
from pocketforge.pruning.unstructured import measure_zeros
from pocketforge.recipe import Recipe
from pocketforge.recipe.compress import Finetune
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.run.inputs import unchanged
from pocketforge.studies import methods, timing, verdicts
from pocketforge.studies.cells import Cells, key_of
from pocketforge.studies.intervals import mean_interval
from pocketforge.studies.workbench import Workbench, digest_of, model_spec, structure_of
from pocketforge.training.loop import deterministic

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
from pocketforge.studies.settings import Settings

VERSION = 1
METHODS: tuple[methods.Method, ...] = get_args(methods.Method)
BASES: tuple[methods.Basis, ...] = get_args(methods.Basis)
# The unpruned model under the same fine-tuning: what training alone brings.
CONTROL = "none"

Tell = Callable[[str], None]
Watch = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """One cell of the study."""

    method: str
    basis: str
    ratio: float
    seed: int

    @property
    def title(self) -> str:
        what = "unpruned" if self.method == CONTROL else f"{self.method} {self.ratio:g} of {self.basis}"
        return f"{what}, seed {self.seed}"


def finetune_budget(recipe: Recipe, epochs: int | None) -> Finetune:
    """The recipe's last finetune (also one inside another entry), else the defaults; with `epochs` when given.

    In one process: several would compete with the timings. Raises RecipeError when the epochs do not fit the rest.
    """
    found = recipe.finetunes()
    budget = found[-1][1] if found else Finetune()
    try:
        return dataclasses.replace(budget, epochs=epochs or budget.epochs, processes=1)
    except ValueError as error:
        raise RecipeError(f"--epochs {epochs} does not fit the recipe's finetune: {error}") from None


def run_study(
    recipe: Recipe, settings: Settings, cache: Path, cells: Cells, *, tell: Tell, watch: Watch
) -> dict[str, Any]:
    """Make every cell that is not kept yet, time what was not timed; returns the content of study.json.

    tell: gets a line for each piece that was done, with elapsed and remaining time. watch: progress inside a piece.
    A cell that cannot be reached has its "error". Raises what concerns all cells: the model, its data, an exporter.
    """
    if recipe.task != "classification":
        raise RecipeError(
            f'study pruning compares top-1 accuracies: it needs task "classification", not "{recipe.task}"'
        )
    return _Study(recipe, settings, cache, cells, tell, watch).run()


class _Study:
    def __init__(self, recipe: Recipe, settings: Settings, cache: Path, cells: Cells, tell: Tell, watch: Watch) -> None:
        self.recipe, self.settings, self.cache, self.cells = recipe, settings, cache, cells
        self.tell, self.watch = tell, watch
        facts = gather(recipe, cache)
        self.bench = Workbench(recipe)
        cells.guard = functools.partial(unchanged, facts.files.values(), "the study")
        stages = ("prune", "finetune", "export")
        libraries = sorted({name for stage in stages for name in STAGES[stage].libraries})
        self.about = {
            "version": VERSION,
            "model": model_spec(recipe).to_json(),
            "files": dict(facts.digests),
            "stages": {stage: STAGES[stage].version for stage in stages},
            "libraries": {name: facts.versions.get(name, "none") for name in libraries},
        }
        self.runtimes = {
            name: {lib: facts.versions.get(lib, "none") for lib in (*info.export_libraries, *info.run_libraries)}
            for name, info in RUNTIMES.items()
            if name in settings.runtimes
        }
        self.host = facts.host
        # Of the cell made last: seeds that share a pruned model come one after another.
        self._cut: tuple[str, nn.Module, methods.Cut] | None = None

    def run(self) -> dict[str, Any]:
        module, example = self.bench.module, self.bench.example
        whole = {"parameters": count_parameters(module), "macs": count_macs(module, example)}
        asks = list(self._asks())
        clock = _Clock(len(asks), self.tell)
        self._export(module, structure_of(module, {}))  # an exporter that is missing shows now, not after hours
        found = []
        for ask in asks:
            cell, reused = self.cells.once(self._key(ask), functools.partial(self._make, ask, whole))
            found.append(cell)
            clock.done(f"{ask.title}: {_outcome(cell)}", reused)
        control = [cell for cell in found if cell["method"] == CONTROL]
        rows = [_row(group) for group in _grouped(found)]
        about = {"libraries": self.runtimes, "host": self.host, "rounds": self.settings.rounds}
        sittings = timing.time_all(
            self.bench, self.cells, rows, self.settings, about, self.cache, self.tell, self.watch
        )
        timing.add_latencies(rows, sittings)
        return {
            "version": VERSION,
            "recipe": self.recipe.name,
            "host": self.host,
            "settings": dataclasses.asdict(self.settings),
            "baseline": {
                **whole,
                "eval_samples": sum(len(targets) for _, targets in self.bench.eval),
                "accuracy": control[0]["accuracy_before"],
                "accuracy_finetuned": mean_interval([c["accuracy_after"] for c in control if not c["error"]] or [0.0]),
                "structure": structure_of(module, {}),
            },
            "cells": found,
            "rows": rows,
            "sittings": sittings,
            "verdicts": verdicts.judge(found, rows, sittings, self.settings.runtimes),
        }

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
                "method": {}
                if ask.method == CONTROL
                else methods.settings_for(cast(methods.Method, ask.method), self.recipe.compress),
                # The first seed's file is exported.
                "runtimes": self.runtimes if ask.seed == self.recipe.seed else {},
            }
        )

    def _make(self, ask: Ask, whole: dict[str, int]) -> dict[str, Any]:
        self.watch(0.0, f"{ask.title}: pruning")
        cell: dict[str, Any] = {**dataclasses.asdict(ask), "error": "", "note": ""}
        try:
            module, masks, cell["note"] = self._pruned(ask)
            zeros = measure_zeros(module).zeros if masks else 0
            cell |= {
                "parameters": count_parameters(module),
                "macs": count_macs(module, self.bench.example),
                "zeros": zeros,
                "structure": structure_of(module, masks),
            }
            cell["removed"] = {
                "parameters": 1 - (cell["parameters"] - zeros) / whole["parameters"],
                "macs": 1 - cell["macs"] / whole["macs"],
            }
            trained, _ = self._trained(ask, module, masks, cell["structure"])
        except PocketforgeError as error:
            if not isinstance(error, ModelError):
                raise
            return cell | {"error": error.message}
        return cell | trained

    def _pruned(self, ask: Ask) -> tuple[nn.Module, dict[str, Tensor], str]:
        """A pruned copy of the model, of one's own."""
        if ask.method == CONTROL:
            return self.bench.subject(ask.seed).module, {}, ""
        method = cast(methods.Method, ask.method)
        basis = cast(methods.Basis, ask.basis)
        seed = ask.seed if methods.draws_at_random(method, self.recipe.compress) else self.recipe.seed
        name = key_of(dataclasses.asdict(dataclasses.replace(ask, seed=seed)))
        if self._cut is None or self._cut[0] != name:
            self._cut = None
            subject = self.bench.subject(seed)
            subject.emit = lambda fraction, words: self.watch(fraction, f"{ask.title}: {words}")
            with deterministic(seed):
                cut = methods.cut(subject, method, basis, ask.ratio, self.recipe.compress)
            self._cut = (name, subject.module, cut)
        _, module, cut = self._cut
        return copy.deepcopy(module), dict(cut.masks), cut.note

    def _trained(
        self, ask: Ask, module: nn.Module, masks: dict[str, Tensor], structure: str
    ) -> tuple[dict[str, Any], bool]:
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

        def make() -> dict[str, Any]:
            before = self.bench.accuracy(module)
            partial = self.cells.partial(key)
            self.bench.finetune(
                module, masks, finetune, ask.seed, partial, lambda f, words: self.watch(f, f"{ask.title}: {words}")
            )
            after = self.bench.accuracy(module)
            files = self._export(module, structure) if export else {}
            return {"accuracy_before": before, "accuracy_after": after, "files": files}

        found = self.cells.once(key, make)
        self.cells.forget_partial(key)
        return found

    def _export(self, module: nn.Module, structure: str) -> dict[str, Any]:
        return timing.export_all(self.bench, self.cells, module, structure, self.settings.runtimes, self.watch)


def _grouped(cells: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["basis"], cell["ratio"], cell["method"]), []).append(cell)
    return list(groups.values())


def _row(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """All seeds of one method, basis and share in one line; sizes and structure are the first seed's."""
    first = cells[0]
    row = {name: first[name] for name in ("method", "basis", "ratio", "note")}
    good = [cell for cell in cells if not cell["error"]]
    row["error"] = next((cell["error"] for cell in cells if cell["error"]), "")
    row["seeds"] = len(good)
    if not good:
        return row
    row |= {name: good[0][name] for name in ("parameters", "macs", "zeros", "structure", "files")}
    row["removed"] = {
        basis: mean_interval([cell["removed"][basis] for cell in good])["mean"] for basis in good[0]["removed"]
    }
    for when in ("accuracy_before", "accuracy_after"):
        row[when] = mean_interval([cell[when] for cell in good])
    return row


def _outcome(cell: dict[str, Any]) -> str:
    if cell["error"]:
        return f"not reached: {cell['error'].splitlines()[0]}"
    gone = "" if cell["method"] == CONTROL else f"{cell['removed'][cell['basis']]:.3f} removed, "
    return f"{gone}top-1 {cell['accuracy_before']:.4f} → {cell['accuracy_after']:.4f}"


class _Clock:
    """Says what was done, how long it took so far and, from the pieces made in this run, how long the rest will."""

    def __init__(self, total: int, tell: Tell) -> None:
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
        kept = "kept" if reused else f"{minutes(now - self.started)} gone"
        self.tell(f"[{self.number}/{self.total}] {words} ({kept}{rest})")


def minutes(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
