"""A file whose inputs vary in size, at each size that it is tried at: against PyTorch and its quantized graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import FurtherSamples
from pocketforge.devices.outputs import named_outputs, stored_outputs
from pocketforge.measure.file_checks import Graph, Truth, check, check_limits, measure_at_size
from pocketforge.measure.quantized_graph import output_scales
from pocketforge.outcomes.reference import VaryingSizes
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.outcomes.verify import AtSize, FileCheck, named
from pocketforge.recipe.limits import Limits
from pocketforge.recipe.sizes import Sizes, sizes_in_words


@dataclass(frozen=True, slots=True)
class TriedSizes:
    """What files are held against at other sizes than the one that is evaluated.

    Attributes:
        varying: Which sizes; None where all are fixed: then nothing is tried.
        reference: Folder of stage reference.
        quantized: Folder of the step that quantized the model; None where none did.
        names: Of the model's outputs, in order.
    """

    varying: VaryingSizes | None
    reference: Path
    quantized: Path | None
    names: Sequence[str]

    @property
    def tried(self) -> Sequence[Sizes]:
        """By name."""
        return self.varying.tried if self.varying else ()

    def _folders(self, folder: Path) -> list[Path]:
        return self.varying.folders(folder) if self.varying else []

    def samples(self, out: Path) -> tuple[FurtherSamples, ...]:
        """What a file is given; its answers go into folders of `out`."""
        folders = zip(self._folders(self.reference), self._folders(out), strict=True)
        return tuple(FurtherSamples(tuple(sample_paths(given, "inputs")), answers) for given, answers in folders)

    def shapes(self) -> list[dict[str, tuple[int, ...]]]:
        """Of the model's outputs, at each size."""
        folders = self._folders(self.reference)
        return [{o.name: (1, *o.values.shape[1:]) for o in named_outputs(each, self.names)} for each in folders]

    def measure(self, role: str, out: Path, outputs: Sequence[TensorSpec], truth: Truth) -> list[AtSize]:
        """What one file's answers in `out` are worth, at each size. outputs: the file's, as its runtime sees them."""
        wanted = self._folders(self.reference)
        graphs = self._folders(self.quantized) if self.quantized else [None] * len(wanted)
        scales = output_scales(self.quantized, self.names) if self.quantized else {}
        found = []
        for place, sizes in enumerate(self.tried):
            answers = stored_outputs(self._folders(out)[place], outputs)
            model, folder = named_outputs(wanted[place], self.names), graphs[place]
            graph = Graph(named_outputs(folder, self.names), scales) if folder else None
            shapes = {each.name: (1, *each.values.shape[1:]) for each in answers}
            found.append(AtSize(role, sizes, shapes, measure_at_size(answers, model, graph, truth.of_classes)))
        return found

    def check(self, found: Sequence[AtSize], limits: Limits) -> list[FileCheck]:
        """Every file at every size against the limits that hold where it is evaluated; and that it gives all outputs in
        their shapes, as others would not be compared."""
        shapes = {sizes_in_words(sizes): shapes for sizes, shapes in zip(self.tried, self.shapes(), strict=True)}
        checks = []
        for at in found:
            where = sizes_in_words(at.sizes)
            wanted, given = (
                "; ".join(f"{name} {list(shape)}" for name, shape in sorted(side.items()))
                for side in (shapes[where], at.outputs)
            )
            own = [check("the model's outputs", wanted, given, wanted == given), *check_limits(at.measured, limits)]
            prefix = where if at.role == "model" else f"{at.role}: {where}"
            checks += [named(each, prefix) for each in own]
        return checks
