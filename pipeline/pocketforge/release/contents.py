"""All that the documents of a release are written from: of one build, and of no clock and no machine's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.recipe import Recipe
from pocketforge.recipe.shipped_names import MODEL, sidecar_name
from pocketforge.records import Report, TargetRecord
from pocketforge.release.inputs import Inputs
from pocketforge.release.manifest import Manifest, SharedFile, ShippedFile


@dataclass(frozen=True, slots=True)
class ShippedTarget:
    """One target that is shipped.

    Attributes:
        record: What the report says of it.
        sampled: Its data, as the model itself takes them.
        exported: What its files take and give.
    """

    record: TargetRecord
    sampled: Sampled
    exported: Exported

    def figures(self) -> Iterator[tuple[str, float]]:
        """Metric → value of the model file's outputs: what hangs on nothing but the file and the samples."""
        measured = self.record.facts.files.get(MODEL)
        if measured is None:
            return
        if len(measured.scores) > 1:
            for score in measured.scores:
                yield from ((f"{score.output}.{name}", value) for name, value in score.metrics.items())
        else:
            yield from measured.accuracy.items()
        if measured.sqnr_db is not None:
            yield "parity_sqnr_db", measured.sqnr_db

    @property
    def eval_samples(self) -> int:
        """On how many samples the figures are."""
        measured = self.record.facts.files.get(MODEL)
        return measured.samples if measured else 0


@dataclass(frozen=True, slots=True)
class Contents:
    """A release.

    Attributes:
        recipe: That was built.
        report: Of the build.
        inputs: What it was made of.
        targets: What is shipped, in the recipe's order.
        shared: Files that all of these need.
    """

    recipe: Recipe
    report: Report
    inputs: Inputs
    targets: tuple[ShippedTarget, ...]
    shared: tuple[SharedFile, ...] = ()

    @property
    def hashes(self) -> tuple[tuple[str, str], ...]:
        """Name and SHA-256 of each file that an app loads, and of those that all of them need."""
        loaded = ((file.path, file.sha256) for each in self.targets for file in each.record.artifacts)
        return *loaded, *((file.path, file.sha256) for file in self.shared)

    @property
    def reference(self) -> Reference | None:
        """The PyTorch model's own facts."""
        return self.report.reference if isinstance(self.report.reference, Reference) else None

    def told(self, text: str) -> str:
        """Words of the build or of the recipe, without where the recipe and its files lie on this machine."""
        source = self.recipe.data.source.partition(":")[2]
        named = {*self.recipe.named_files().values(), *([self.recipe.resolve(source)] if source else [])}
        folder = PurePath(self.recipe.folder or "/")
        names = {
            str(path): path.name for path in named if path.name and not (folder.name and path.is_relative_to(folder))
        }
        if folder.name:
            names |= {f"{folder}/": "", str(folder): folder.name}
        for place in sorted(names, key=lambda place: (-len(place), place)):
            text = text.replace(place, names[place])
        return text

    @property
    def toolchain(self) -> dict[str, str]:
        """Library → version, of those that are installed."""
        return {k: v for k, v in sorted(self.report.environment.items()) if v != "none" and k != "host"}

    def manifest(self) -> Manifest:
        """What an updater reads."""
        shipped = tuple(
            ShippedFile(
                file.path, file.sha256, file.size_bytes, each.record.name, each.record.runtime, file.kind,
                sidecar_name(each.record.name, file.kind),
            )
            for each in self.targets
            for file in each.record.artifacts
        )  # fmt: skip
        return Manifest(
            self.recipe.name, self.report.recipe_sha256, self.recipe.release.version or None, shipped, self.shared
        )
