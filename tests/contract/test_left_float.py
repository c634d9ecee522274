"""What a scheme leaves float by design is named and does not make a right file wrong: embeddings."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from pocketforge.measure.weights_check import check_weights  # noqa: E402
from pocketforge.outcomes import files  # noqa: E402
from pocketforge.outcomes.quantize import Quantized  # noqa: E402
from pocketforge.recipe.quantize import Quantize  # noqa: E402
from pocketforge.registries import RUNTIMES  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization.annotated import annotated_parts
    from pocketforge.quantization.pt2e import describe, prepare, quantize_graph
    from pocketforge.runtimes.base import ExportRequest

pytestmark = pytest.mark.filterwarnings("ignore")
DYNAMIC = Quantize("dynamic_int8")


class Tagger(nn.Module):
    """Of 8,448 weights 6,400 are the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.head = nn.Embedding(200, 32), nn.Linear(32, 56), nn.Linear(56, 8)

    def forward(self, ids):
        return self.head(torch.relu(self.fc(self.words(ids))))


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return torch.export.export(Tagger().eval(), (torch.arange(6)[None],))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_embedding_counts_neither_against_int8_nor_for_it(program, runtime: str, tmp_path: Path) -> None:
    example = (torch.arange(6)[None],)
    graphs = quantize_graph(program, [example[0].numpy()], DYNAMIC)
    layers, outputs = describe(graphs[1])
    assert [(each.name, each.scheme, each.weights) for each in layers] == [
        ("words", "fp32", 6400),
        ("fc", "dynamic_int8", 1792),
        ("head", "dynamic_int8", 448),
    ]
    files.write(tmp_path, Quantized("dynamic_int8", "", layers, outputs))
    folded, unfolded = (torch.export.export(graph, example) for graph in graphs)
    request = ExportRequest(
        folded, unfolded, example, ("ids",), ("tags",), "NCHW", "float32", None, scheme="dynamic_int8"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        made = importlib.import_module(RUNTIMES[runtime].module).export(request, tmp_path)
    (check,) = check_weights(tmp_path / made.files["model"], runtime, "dynamic_int8", tmp_path)
    assert check.passed and check.found.startswith("100.0% (float: words; 8.0% of the whole file's; "), check
    assert "[200, 32] float32" in check.found


def test_check_shows_an_embedding_as_a_layer_in_float(program) -> None:
    parts = [part for part in annotated_parts(prepare(program, DYNAMIC)) if not part.operation]
    assert [(part.name, part.numbers, part.weights) for part in parts] == [
        ("words", "float", 6400),
        ("fc", "dynamic_int8", 1792),
        ("head", "dynamic_int8", 448),
    ]
