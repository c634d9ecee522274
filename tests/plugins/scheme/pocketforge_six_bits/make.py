"""What stage quantize calls for a row; torch is imported here and not where the row is."""

from __future__ import annotations

from pocketforge.outcomes.quantize import Quantized
from pocketforge.quantization.converted import write_float_form
from pocketforge.quantization.encodings import save_encodings
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.stages.quantize import Run


def forget(run: Run) -> Quantized:
    """Write the float graph as it was, with no weight in another form."""
    save_encodings({}, run.out)
    graph, example = fold_batch_norm(run.program), run.program.example_inputs[0]
    return write_float_form(graph, example, run.quantize, {}, run.inputs["data"], run.out, run.evaluating)
