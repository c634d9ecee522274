"""Inputs of models: the recipe's rules, sequences on disk, and what runners feed. Without torch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.data.sequences import prepared_steps, stored_shape, write_steps
from pocketforge.devices.emulator import arrays
from pocketforge.errors import ModelError, RecipeError
from pocketforge.metrics import last_of_each
from pocketforge.outcomes.data import InputPreprocessing, Preprocessing, PreprocessingOfInputs, layouts_of
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe import InputSpec
from pocketforge.recipe.toml import parse_recipe
from pocketforge.runtimes.sessions import runner

TARGET = '[[target]]\nname = "t"\nruntime = "{}"\n'
STATE = '[[model.input]]\nshape = [1, 3]\n[[model.input]]\nshape = [2, 1, 4]\nstate = "h"\n'


def faults(inputs: str, runtime: str = "onnx", more: str = "", after: str = "") -> list[str]:
    text = f'name = "a"\n[model]\ndefinition = "m.py"\n{inputs}\n[data]\nsource = "digits"\n{TARGET.format(runtime)}'
    try:
        parse_recipe(f"{text}{more}\n{after}")
    except RecipeError as error:
        return list(error.faults)
    return []


def one(shape: str, **keys: str) -> str:
    return f"[[model.input]]\nshape = {shape}\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16", "int32", "int64", "bool"])
def test_types_that_every_runtime_takes(dtype: str) -> None:
    for runtime in ("onnx", "executorch", "tflite"):
        assert faults(one("[1]", dtype=dtype), runtime) == []


def test_what_a_runtime_cannot_take_is_refused_by_its_name_with_the_way_out() -> None:
    (fault,) = faults(one("[1, 3]", dtype="int8"), "tflite")
    assert fault.startswith("model.input[0].dtype: runtime tflite takes no int8 inputs")
    assert "give the input as int16 or uint8" in fault
    assert faults(one("[1, 3]", dtype="int8"), "executorch") == []
    (fault,) = faults(one("[1, 3]", dtype="float16"))
    assert fault.startswith("model.input[0].dtype")


@pytest.mark.parametrize(
    ("runtime", "scheme", "fault"),
    [
        ("tflite", "static_int8", ""),
        ("onnx", "static_int8", ""),
        ("executorch", "static_int8", "io uint8 is for runtime tflite or onnx; executorch has float32 or int8"),
        ("tflite", "fp32", "io uint8 needs a static int8 scheme: files of fp32 take and give float32"),
    ],
)
def test_io_uint8_is_for_static_files_of_two_runtimes(runtime: str, scheme: str, fault: str) -> None:
    found = faults("", runtime, f'io = "uint8"\nquantize = {{ scheme = "{scheme}" }}')
    assert found == ([f"target[0]: {fault}"] if fault else [])


@pytest.mark.parametrize(
    ("inputs", "more", "fault"),
    [
        (STATE, "", ""),
        (STATE, 'quantize = { scheme = "static_int8" }', ""),
        (STATE, 'quantize = { scheme = "qat_int8" }', "target[0].quantize: qat_int8 with training sees single steps"),
        (STATE, 'quantize = { scheme = "mixed" }', "target[0].quantize: scheme mixed sees single steps"),
        (
            STATE,
            'quantize = { scheme = "static_int8", repairs = ["equalize"] }',
            "target[0].quantize.repairs: repairs are made on single steps",
        ),
        (STATE + one("[2, 1, 4]", state="h"), "", "model.input: output 'h' is the next step's input 2 times"),
        (one("[2, 1, 4]", state="h"), "", "model.input: every input is a state"),
        (one("[2, 3, 4]", state="h"), "", "model.input[0]: shape of a state must have a batch of 1"),
        (one("[1, 4]", state="h", dtype="bool"), "", "model.input[0]: a state is float32, int32 or int64"),
        (one("[2, 1, 4]"), "", "model.input[0]: shape must begin with a batch of 1"),
        (one("[1, 4]", argument="a b"), "", "model.input[0]: argument must be the name of one of forward()'s"),
    ],
)
def test_rules_of_states_and_arguments(inputs: str, more: str, fault: str) -> None:
    found = faults(inputs, more=more)
    assert len(found) == bool(fault) and all(each.startswith(fault) for each in found), found


def test_a_model_with_states_is_not_pruned_here() -> None:
    (fault,) = faults(STATE, after='[[compress]]\ntype = "prune_unstructured"\namount = 0.5\n')
    assert fault.startswith("compress[0]: type prune_unstructured sees single steps")


ROW, MEMORY, COUNT = InputSpec((1, 3)), InputSpec((2, 1, 4), state="h"), InputSpec((1,), dtype="int32", state="n")


def test_samples_of_sequences_become_rows_of_steps_and_states_zeros(tmp_path: Path) -> None:
    x = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    np.save(tmp_path / "eval_0.npy", x)
    assert write_steps(tmp_path, "eval", (COUNT, ROW, MEMORY)) == 5
    count, rows, memory = load_samples(tmp_path, "eval")
    assert rows.tolist() == x.reshape(10, 3).tolist()
    assert (count.shape, str(count.dtype)) == ((10,), "int32")
    assert (memory.shape, str(memory.dtype)) == ((10, 2, 1, 4), "float32")
    assert not count.any() and not memory.any()


@pytest.mark.parametrize(
    ("shapes", "inputs", "words"),
    [
        ([(2, 3)], (ROW, MEMORY), r"a sample is \[3\], wanted \[T, 3\]"),
        ([(2, 5, 4)], (ROW, MEMORY), r"a sample is \[5, 4\], wanted \[T, 3\]"),
        ([(2, 0, 3)], (ROW, MEMORY), r"a sample is \[0, 3\], wanted \[T, 3\]"),
        ([(2, 5, 3), (2, 2, 1, 4)], (ROW, MEMORY), "samples have 2 inputs, the model has 1 beside its states"),
        ([(2, 5, 3), (2, 6, 3)], (ROW, MEMORY, ROW), "sequences of 5 and 6 steps"),
    ],
)
def test_samples_that_are_no_sequences_are_refused(
    tmp_path: Path, shapes: list[tuple[int, ...]], inputs: tuple[InputSpec, ...], words: str
) -> None:
    for number, shape in enumerate(shapes):
        np.save(tmp_path / f"eval_{number}.npy", np.zeros(shape, np.float32))
    with pytest.raises(ModelError, match=words):
        write_steps(tmp_path, "eval", inputs)


LISTS = '[[data.preprocess]]\ninput = "input_0"\nstep = [{ type = "scale", by = 2.0 }]\n'


def test_lists_of_preprocessing_are_for_what_samples_give_and_not_for_states() -> None:
    assert faults(STATE, after=LISTS) == []
    (fault,) = faults(STATE, after=LISTS.replace("input_0", "input_1"))
    assert "no input of the model is named 'input_1'" in fault
    # An input without a name has that of its argument, in files and here.
    assert faults(one("[1, 3]", argument="batch.x"), after=LISTS.replace("input_0", "batch_x")) == []


STEPS = ({"step": "divide", "by": 2.0},)


def test_each_of_the_model_s_inputs_has_its_own_words_and_a_state_none() -> None:
    """Layouts and the sidecar go by place."""
    told = prepared_steps(Preprocessing("numbers", None, STEPS), (MEMORY, ROW, COUNT))
    assert isinstance(told, PreprocessingOfInputs)
    assert [(each.name, each.input, each.steps) for each in told.inputs] == [
        ("input_0", None, ()), ("input_1", "numbers", STEPS), ("input_2", None, ()),
    ]  # fmt: skip
    first, second = (InputPreprocessing(name, 1, "HWC", "NCHW", STEPS) for name in ("input_0", "input_2"))
    told = prepared_steps(PreprocessingOfInputs((first, second)), (ROW, MEMORY, ROW))
    assert layouts_of(told, 3) == ["NCHW", None, "NCHW"]
    assert prepared_steps(Preprocessing(None, None, ()), (ROW, MEMORY)) == Preprocessing(None, None, ())


def test_a_state_between_the_inputs_of_one_list_is_refused() -> None:
    tokens = Preprocessing("text", None, STEPS)
    assert isinstance(prepared_steps(tokens, (ROW, ROW, MEMORY)), PreprocessingOfInputs)
    with pytest.raises(ModelError, match="the state 'input_1' is between inputs that one list"):
        prepared_steps(tokens, (ROW, MEMORY, ROW))


def test_the_last_row_of_each_sample_is_its_answer() -> None:
    values = np.arange(6)
    assert last_of_each(values, 6).tolist() == values.tolist()
    assert last_of_each(values, 2).tolist() == [2, 5]
    assert [stored_shape(shape) for shape in ((1, 3), (1,), (2, 1, 4), (1, 1, 4))] == [(3,), (), (2, 1, 4), (1, 4)]


class Session:
    """A file with a state: it answers x + the state's sum, and the state + 1 (int8 levels of .5 where quantized)."""

    def __init__(self, quantized: bool) -> None:
        levels = {"scale": 0.5, "zero_point": -3} if quantized else {}
        dtype = "int8" if quantized else "float32"
        self.inputs = [
            {"name": "x", "shape": [1, 1], "dtype": "float32"},
            {"name": "h", "shape": [2, 1, 1], "dtype": dtype, **levels},
        ]
        self.outputs: list[dict[str, Any]] = [
            {"name": "h_out", "shape": [2, 1, 1], "dtype": dtype, **levels},
            {"name": "y", "shape": [1, 1], "dtype": "float32"},
        ]
        self._levels, self._kept = levels, np.zeros((2, 1, 1), dtype)

    def run(self, feeds: list[Any]) -> list[Any]:
        x, h = feeds
        assert (x.shape, h.shape, h.dtype) == ((1, 1), (2, 1, 1), self._kept.dtype)
        real = (h.astype(np.float32) + 3) * 0.5 if self._levels else h
        # Runtimes write each answer into the same memory.
        self._kept[...] = h + 2 if self._levels else h + 1
        return [self._kept, np.asarray([[x.sum() + real.sum()]], np.float32)]


@pytest.mark.parametrize("quantized", [False, True])
def test_a_files_own_state_goes_into_its_next_step(tmp_path: Path, quantized: bool) -> None:
    x, h = np.zeros((6, 1), np.float32), np.zeros((6, 2, 1, 1), np.float32)
    runner.run_all(Session(quantized), [x, h], tmp_path / "fed", 3, [[1, 0]])
    assert np.load(tmp_path / "fed" / "outputs_1.npy").ravel().tolist() == [0, 2, 4, 0, 2, 4]
    states = np.load(tmp_path / "fed" / "outputs_0.npy")
    assert states.shape == (6, 2, 1, 1)
    assert states[:, 0, 0, 0].tolist() == ([-1, 1, 3, -1, 1, 3] if quantized else [1, 2, 3, 1, 2, 3])
    runner.run_all(Session(quantized), [x, h], tmp_path / "alone", 0, [])
    assert np.load(tmp_path / "alone" / "outputs_1.npy").ravel().tolist() == [0] * 6


def test_a_native_runner_is_given_states_whole_and_gives_them_whole(tmp_path: Path) -> None:
    h = np.arange(12, dtype=np.float32).reshape(3, 2, 1, 2)
    np.save(tmp_path / "h.npy", h)
    (path,) = arrays.write_inputs([TensorSpec("h", (2, 1, 2), "float32")], [tmp_path / "h.npy"], tmp_path, model="m")
    assert np.fromfile(path, np.float32).tolist() == h.ravel().tolist()
    told = [{"name": "h", "dtype": "float32", "shape": [2, 1, 2], "file": str(path)}]
    arrays.read_outputs(told, tmp_path / "out", 3)  # type: ignore[arg-type]
    assert np.load(tmp_path / "out" / "outputs_0.npy").tolist() == h.tolist()
    told = [{"name": "y", "dtype": "float32", "shape": [1, 4], "file": str(path)}]
    arrays.read_outputs(told, tmp_path / "out", 3)  # type: ignore[arg-type]
    assert np.load(tmp_path / "out" / "outputs_0.npy").shape == (3, 4)


def test_uint8_levels_are_fed_as_the_file_says() -> None:
    session = SimpleNamespace(
        inputs=[{"name": "x", "shape": [1, 3], "dtype": "uint8", "scale": 0.5, "zero_point": 128}]
    )
    (fed,) = runner.feeds(session, [np.asarray([[-100, 0.26, 100]], np.float32)], 0)
    assert fed.dtype == np.uint8 and fed.tolist() == [[0, 129, 255]]
    raw = SimpleNamespace(inputs=[{"name": "x", "shape": [1, 3], "dtype": "uint8"}])
    (fed,) = runner.feeds(raw, [np.asarray([[1, 2, 255]], np.uint8)], 0)
    assert fed.tolist() == [[1, 2, 255]]


def test_an_answer_of_another_size_is_an_error_not_repeated_to_fill_its_row(tmp_path: Path) -> None:
    session = SimpleNamespace(
        inputs=[{"name": "x", "shape": (1, 1), "dtype": "float32"}],
        outputs=[{"name": "scores"}],
        run=lambda feeds: [np.full((1, 3 if feeds[0][0, 0] == 0 else 1), 7, np.float32)],
    )
    with pytest.raises(ValueError, match=r"output scores has shape \[1, 1\] for sample 1, and rows of \[3\] before"):
        runner.run_all(session, [np.asarray([[0], [1]], np.float32)], tmp_path, 0, [])
