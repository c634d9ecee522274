"""Answers in any structure, inputs by name, and what the .tflite writer makes of outputs that are inputs."""

from __future__ import annotations

import collections
import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.model import load
from pocketforge.model.arguments import arguments_for, bind
from pocketforge.model.evaluate import evaluate, with_states
from pocketforge.model.programs import by_place
from pocketforge.model.structure import check_distinct, leaves, names_of
from pocketforge.model.tensor_names import input_names, output_names
from pocketforge.outcomes.reference import StateFed, StepSequence
from pocketforge.recipe.model import InputSpec

Pair = collections.namedtuple("Pair", "scores,boxes")


@dataclass
class Answer:
    logits: Tensor
    aux: object = None


class ModelOutput(collections.OrderedDict):  # type: ignore[type-arg]
    """As transformers has it: a dict that is asked for by position too."""


X = torch.arange(3.0)[None]
# What forward() answers → names.
CASES: dict[str, tuple[Any, list[str]]] = {
    "tensor": (lambda y: y, ["output"]),
    "tuple of one": (lambda y: (y,), ["output"]),
    "tuple": (lambda y: (y, y + 1), ["output_0", "output_1"]),
    "tuple with None": (lambda y: (y, None, y + 1), ["output_0", "output_2"]),
    "dict": (lambda y: {"a": y, "b": {"c d/e": y, "n": None}}, ["a", "b_c_d_e"]),
    "list of dicts": (lambda y: [{"a": y}, {"a": y}], ["output_0_a", "output_1_a"]),
    "named tuple": (lambda y: Pair(y, [y, y]), ["scores", "boxes_0", "boxes_1"]),
    "dataclass": (lambda y: Answer(y, {1: y}), ["logits", "aux_1"]),
    "dataclass with None": (lambda y: Answer(y), ["logits"]),
    "model output": (
        lambda y: ModelOutput(logits=y, hidden_states=(y, y)),
        ["logits", "hidden_states_0", "hidden_states_1"],
    ),
    "private": (lambda y: {"_a": y, "__": y + 1}, ["a", "output"]),
}


class Net(nn.Module):
    def __init__(self, case: str) -> None:
        super().__init__()
        self.layer, self.case = nn.Linear(3, 2), case

    def forward(self, x: Tensor) -> object:
        return CASES[self.case][0](self.layer(x))


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_flattened_with_names_and_the_graph_gives_the_same(case: str) -> None:
    net = Net(case).eval()
    graph = load.traced(net, (X,))
    assert names_of(graph.outputs) == CASES[case][1]
    assert "forward" not in vars(net) and set(graph.program.state_dict) == {"layer.weight", "layer.bias"}
    samples = [X.numpy()]
    of_graph, of_net = (evaluate(each, samples, lambda _: None) for each in (graph.program.module(), net))
    assert len(of_graph) == len(CASES[case][1])
    for one, other in zip(of_graph, of_net, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"a": X, "count": 3}, "found a int in count"),
        ([X, {"deep": ["x"]}], "found a str in 1.deep.0"),
        ({X}, "found a set"),
    ],
)
def test_what_is_no_tensor_is_refused_with_the_way_to_it(answer: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        leaves(answer)


def test_an_answer_without_a_tensor_is_refused() -> None:
    CASES["nothing"] = (lambda y: {"a": None}, [])
    try:
        with pytest.raises(ModelError, match="answers no tensor"):
            load.traced(Net("nothing"), (X,))
    finally:
        del CASES["nothing"]


def test_two_ways_to_one_name_are_refused_until_the_recipe_names_them() -> None:
    paths = [leaf.path for leaf in leaves({"a_b": X, "a": {"b": X}})]
    with pytest.raises(ModelError, match=r"outputs a_b and a\.b of forward\(\) would both be called 'a_b'"):
        check_distinct(names_of(paths), paths)
    assert output_names(["one", "two"], paths, ["x"]) == ["one", "two"]
    with pytest.raises(ModelError, match=r"names 1 outputs, the model gives 2: a_b, a_b"):
        output_names(["one"], paths, ["x"])
    with pytest.raises(ModelError, match="x is the name of an input too"):
        output_names(["one", "x"], paths, ["x"])
    assert output_names([], [("h",), ("y",)], ["x", "h"]) == ["h_out", "y"]
    with pytest.raises(ModelError, match="h_out"):  # beside an output that the model calls so itself
        output_names([], [("h",), ("h_out",)], ["x", "h"])


def test_inputs_are_called_as_the_recipe_says_or_after_their_arguments() -> None:
    row = InputSpec((1, 3))
    assert input_names((), ["", ""]) == ["input_0", "input_1"] and input_names((), [""]) == ["input"]
    assert input_names((), ["ids", "batch.image"]) == ["ids", "batch_image"]
    given = (InputSpec((1, 3), "my.x", argument="batch.image"), InputSpec((1, 3), argument="batch.age"), row)
    assert input_names(given, ["", "", ""]) == ["my.x", "batch_age", "input_2"]
    with pytest.raises(ModelError, match=r"the recipe has 1 .*, the model takes 2"):
        input_names((row,), ["", ""])
    with pytest.raises(ModelError, match="two inputs are called 'x'"):
        input_names((InputSpec((1, 3), "x"), InputSpec((1, 3), "x")), ["", ""])


class Many(nn.Module):
    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None, *, c: Any = None) -> Tensor:
        y = a - 2 * b
        y = y if mask is None else y * mask
        return y if c is None else y + (c if isinstance(c, Tensor) else c["deep"]["key"])


@pytest.mark.parametrize(
    ("names", "given", "wanted"),
    [
        ([], [], []),
        (["", ""], ["", ""], []),
        (["first", "second"], [], []),
        (["a", "b"], [], []),
        (["b", "a"], [], ["b", "a"]),
        (["a", "b", "c"], [], ["a", "b", "c"]),
        (["x", "y"], ["b", "a"], ["b", "a"]),
        (["x", "y", "z"], ["", "", "c.deep.key"], ["", "", "c.deep.key"]),
    ],
)
def test_how_inputs_reach_their_arguments(names: list[str], given: list[str], wanted: list[str]) -> None:
    assert arguments_for(Many(), names, given) == wanted


@pytest.mark.parametrize(
    ("names", "given", "words"),
    [
        (["b", "other"], [], "input 0 is named 'b', which forward.. takes at place 1"),
        (["x"], ["nothing"], "forward.. has no argument 'nothing'"),
        (["x", "y"], ["a", ""], "an input without argument comes after one with"),
    ],
)
def test_names_that_could_mean_two_things_are_refused(names: list[str], given: list[str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        arguments_for(Many(), names, given)


def test_a_bound_model_takes_its_inputs_in_their_order_and_so_do_its_copies() -> None:
    net = bind(Many(), ["c.deep.key", "b", "a"])
    a, b, c = torch.ones(1, 2), torch.full((1, 2), 3.0), torch.full((1, 2), 10.0)
    for each in (net, copy.deepcopy(net), load.trace(net, (c, b, a)).module()):
        torch.testing.assert_close(each(c, b, a), a - 2 * b + c)
    assert isinstance(net, Many) and type(net).__name__ == "Many"
    with pytest.raises(ModelError, match="takes 3 inputs"):
        net(a, b)


def test_example_inputs_may_be_a_dict_of_arguments(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\ndef example_inputs():\n    one = torch.ones(1)\n"
        "    return {'b': one[None], 'c': {'deep': {'key': one}}}\n"
    )
    found = load.example("model.py", lambda name: tmp_path / name)
    assert found is not None and found.arguments == ("b", "c.deep.key")
    assert [list(t.shape) for t in found.tensors] == [[1, 1], [1]]
    assert load.example_inputs("model.py", lambda name: tmp_path / name) == found.tensors


def test_a_traced_graph_with_keyword_arguments_and_a_dict_is_taken(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Tensor | None]:
            return {"y": x * scale, "none": None, "x": x}

    program = torch.export.export(Named(), (X,), {"scale": 2 * X})
    torch.export.save(program, tmp_path / "model.pt2")
    found = load.example("model.pt2", lambda name: tmp_path / name)
    assert found is not None and found.arguments == ("", "scale")
    called = by_place(program)
    assert names_of(called.outputs) == ["y", "x"] and called.changed
    again = load.trace(called.module, found.tensors).module()
    for module in (called.module, again, load.build_model("model.pt2", {}, lambda name: tmp_path / name)):
        answer = evaluate(module, [X.numpy(), (3 * X).numpy()], lambda _: None)
        np.testing.assert_array_equal(answer[0], (3 * X * X).numpy())
        np.testing.assert_array_equal(answer[1], X.numpy())
    plain = torch.export.export(nn.Linear(3, 2), (X,))
    assert not by_place(plain).changed and by_place(plain).outputs == ((),)


def test_states_are_filled_in_from_step_to_step() -> None:
    samples = [np.ones((5, 2), np.float32), np.zeros((5, 3, 1, 2), np.float32)]
    sequence = StepSequence(2, (StateFed(1, 1, whole=True),))
    _, states = with_states(lambda x, h: (x, h + x.sum()), samples, sequence, lambda _: None)
    assert states.shape == (5, 3, 1, 2) and states[:, 0, 0, 0].tolist() == [0, 2, 0, 2, 0]
    assert not samples[1].any()


class Passing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"raw": x, "y": y, "again": y, "raw_ids": ids}


@pytest.fixture(scope="module")
def passing() -> Any:
    """(Its samples, its outputs' names, its graph quantized in both foldings, what it answers.)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        from pocketforge.quantization.pt2e import quantize_graph
        from pocketforge.recipe.quantize import Quantize

        torch.manual_seed(0)
        random = np.random.default_rng(0)
        net = Passing().eval()
        samples: list[Any] = [random.normal(size=(12, 3)).astype(np.float32), random.integers(0, 9, (12, 2))]
        example = tuple(torch.from_numpy(a[:1]) for a in samples)
        graph = load.traced(net, example)
        quantized = quantize_graph(graph.program, samples, Quantize("static_int8", calibration="minmax"))
        graphs = [torch.export.export(each, example) for each in quantized]
    return samples, tuple(names_of(graph.outputs)), graphs, evaluate(net, samples, lambda _: None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_a_tflite_file_gives_an_input_as_it_came_in_and_quantizes_at_its_ends(
    io: str, passing: Any, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        from pocketforge.runtimes import tflite
        from pocketforge.runtimes.base import ExportRequest
    from pocketforge.runtimes.sessions import runner
    from pocketforge.runtimes.sessions.tflite import open_session

    samples, names, (folded, unfolded), wanted = passing
    example = tuple(torch.from_numpy(a[:1]) for a in samples)
    request = ExportRequest(folded, unfolded, example, ("x", "ids"), names, "NCHW", io, None, scheme="static_int8")
    result = tflite.export(request, tmp_path)
    assert [t.dtype for t in result.inputs] == [io, "int32"]
    assert [t.dtype for t in result.outputs] == [io, io, io, "int32"]
    session = open_session(tmp_path / "model.tflite", 1)
    assert [o["name"] for o in session.outputs] == [*names]
    rows = [session.run(runner.feeds(session, samples, index)) for index in range(12)]
    for number, info in enumerate(session.outputs):
        promised = result.outputs[number]
        assert (info.get("scale"), info.get("zero_point")) == (promised.scale, promised.zero_point)
        found = np.concatenate([runner.real(row[number], info) for row in rows])
        step = info.get("scale", 0)
        exact = number == 3 or (number == 0 and io == "float32")
        np.testing.assert_allclose(found, wanted[number], atol=0 if exact else max(step, 0.02))
