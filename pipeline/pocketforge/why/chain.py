"""Walks the chain of one target: every form's outputs, the first that is bad, and its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketforge import events
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.outputs import named_outputs
from pocketforge.errors import ToolFailed
from pocketforge.metrics import Array
from pocketforge.model.evaluate import evaluate, one_sample, with_states
from pocketforge.outcomes import files as outcome_files
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.reference import Reference
from pocketforge.registries import RUNTIMES, PlainSession
from pocketforge.runtimes.taps import lowering
from pocketforge.specs.why import WhySpec
from pocketforge.why import files, forms
from pocketforge.why.forms import Form
from pocketforge.why.worst_samples import worst_first

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

LAYER_SAMPLES = 16  # each layer has thousands of values a sample; more samples change no verdict


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One output of the model.

    Attributes:
        name: The output's.
        is_exact: Whether its values stand for themselves (an argmax, a mask): right or wrong, not near.
        scale: The real value of one level, where it is quantized.
    """

    name: str
    is_exact: bool
    scale: float | None = None


def _read_outputs(inputs: Mapping[str, Path]) -> tuple[ModelOutput, ...]:
    tensors = outcome_files.read(inputs["reference"], Reference).outputs
    quantized = inputs.get("quantize")
    levels = outcome_files.read(quantized, Quantized).outputs if quantized is not None else (None,) * len(tensors)
    return tuple(
        ModelOutput(tensor.name, not tensor.dtype.startswith("float"), each.scale if each else None)
        for tensor, each in zip(tensors, levels, strict=True)
    )


class Chain:
    """One target's forms, in order, on those samples of the eval split that its file answers worst, and its first."""

    def __init__(self, inputs: Mapping[str, Path], spec: WhySpec, scratch: Path, emit: events.Progress) -> None:
        self.inputs = inputs
        self.spec = spec
        self.scratch = scratch
        self.emit = emit
        self.runtime = spec.runtime
        self.why = RUNTIMES[spec.runtime].why
        self.file = outcome_files.read(inputs["export"], Exported).model_in(inputs["export"])
        self.outputs = _read_outputs(inputs)
        sequence = outcome_files.read(inputs["reference"], Reference).sequence
        self.sequence = sequence and sequence.one_step
        paths = sample_paths(inputs["data"], "eval")
        self._answers: list[Array] | None = None  # the file's, of the samples that are looked at
        chosen = self._chosen(paths) if sequence is None else range(spec.samples)
        self.samples = [np.load(path, mmap_mode="r")[list(chosen)] for path in paths]
        if sequence is not None:
            # Each form is asked for the same steps, from the states that the model itself comes to.
            graph = forms.exported(inputs).graph
            self.samples = with_states(graph, self.samples, sequence, lambda _: None)
        # Of a file that takes raw samples: those that the module itself takes.
        self.prepared = (
            [np.load(path, mmap_mode="r")[list(chosen)] for path in sample_paths(inputs["prepared"], "eval")]
            if "prepared" in inputs and sequence is None
            else self.samples
        )
        self.paths = self._write(len(self.samples[0]), "all")
        self.few = self._write(LAYER_SAMPLES, "few")
        self.forms: list[Form] = []

    def _chosen(self, paths: list[Path]) -> list[int]:
        """Numbers of the eval samples to look at: what a check failed by need not be among the first."""
        self.emit(0.0, f"running {self.file.name} on all samples")
        _, found = files.run_file(self.file, files.app_session(self.runtime), paths, self.scratch / "everywhere")
        wanted = named_outputs(self.inputs["reference"], [each.name for each in self.outputs])
        chosen = worst_first(found, [each.values for each in wanted], self.spec.samples)
        self._answers = [values[chosen] for values in found]
        return chosen

    def _write(self, count: int, name: str) -> list[Path]:
        """Samples as files, for other processes."""
        folder = self.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"input_{number}.npy" for number in range(len(self.samples))]
        for path, array in zip(paths, self.samples, strict=True):
            np.save(path, array[:count])
        return paths

    def given(self, index: int) -> list[Tensor]:
        """What the graph is given of one sample."""
        return one_sample(self.samples, index, self.sequence)

    def given_module(self, index: int) -> list[Tensor]:
        """What the module is given of one sample."""
        return one_sample(self.prepared, index, self.sequence)

    @property
    def graph(self) -> Form:
        """The last form before the file: what the exporter was given."""
        return next(f for f in reversed(self.forms) if f.program is not None)

    @property
    def program(self) -> ExportedProgram:
        """Of `graph`."""
        program = self.graph.program
        assert program is not None
        return program

    def walk(self) -> None:
        """Open and run every form."""
        self._run(forms.eager(self.inputs, self.spec), 0.0)
        traced = forms.exported(self.inputs)
        self._run(traced, 0.1)
        self.emit(0.2, "calibrating")
        self._run(
            forms.prepared(self.inputs, self.spec, traced, lambda f: self.emit(0.2 + 0.1 * f, "calibrating")), 0.3
        )
        self._run(forms.converted(self.inputs, self.spec, traced), 0.4)
        self.emit(0.5, "running what was lowered")
        self.forms.append(self._lowered())
        about = f"{self.file.name} as an app runs it"
        outputs = self._answers
        if outputs is None:
            self.emit(0.65, f"running {self.file.name}")
            session = files.app_session(self.runtime)
            _, outputs = files.run_file(self.file, session, self.paths, self.scratch / "runtime")
        self.forms.append(Form("runtime", about, outputs=outputs))

    def _run(self, form: Form, done: float) -> None:
        if form.module is not None:
            samples = self.prepared if form.name == "eager" else self.samples
            form.run(samples, lambda f: self.emit(done + 0.1 * f, f"running {form.name}"), self.sequence)
        self.forms.append(form)

    def _lowered(self) -> Form:
        if self.why is None:
            return Form("lowered", "", missing=f"runtime {self.runtime} has no plain form: its row has no `why`")
        if self.why.plain is not None:
            return self._in_plain_kernels(self.why.plain)
        outputs = evaluate(lowering(self.why).lower(self.program), self.samples, lambda _: None, sequence=self.sequence)
        return Form("lowered", "the edge program, lowered again and run in Python", outputs=outputs)

    def _in_plain_kernels(self, plain: PlainSession) -> Form:
        try:
            _, outputs = files.run_file(self.file, plain.session, self.paths, self.scratch / "lowered")
        except ToolFailed as error:
            # Some ops run in optimized kernels only: the file as an app runs it is still there to look at.
            last_words = error.signal or error.message.splitlines()[-1]
            return Form("lowered", "", missing=f"{plain.about} does not run it: {last_words}")
        return Form("lowered", f"{self.file.name} in {plain.about}", outputs=outputs)
