"""Scheme mixed: the study of single layers, and the choice that keeps a stated accuracy."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_store import DigitsParts

from pocketforge.errors import ModelError, StageFailed
from pocketforge.outcomes.layers import LayerCost, LayerStudy, Score
from pocketforge.recipe.quantize import Override, Quantize
from pocketforge.specs.data import data_spec
from pocketforge.specs.sampling import Sampling

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
    from pocketforge.quantization import layer_study, mixed
    from pocketforge.quantization.calibration import calibration_samples
    from pocketforge.quantization.layer_study import Scorer, Switchboard, study
    from pocketforge.quantization.pt2e import NO_LAYER, describe, layer_schemes, quantize_graph
    from pocketforge.stages import data

pytestmark = pytest.mark.filterwarnings("ignore")

# Three bits hurt some layers of this net and not others: something to choose.
HARD = Quantize("mixed", weight_bits=3, max_accuracy_drop=0.01)


def quiet(_fraction: float, _text: str = "") -> None:
    pass


class Shop:
    """The digits CNN, traced, with real samples: fewer to calibrate with than it ships with."""

    def __init__(self, folder: Path, parts: DigitsParts) -> None:
        recipe, self.data = parts.recipe, folder
        few = dataclasses.replace(recipe.data, eval_samples=50, calibration_samples=32)
        root = {"data_root": Path(recipe.folder)}
        self.sampling = Sampling(data_spec(few, 0, "classification"), 0, "classification")
        data.run(root, self.sampling.data, self.data, quiet)
        self.program = torch.export.load(parts.reference / "model.pt2")
        self.inputs = {**root, "data": self.data, "reference": parts.reference}

    def scorer(self, quantize: Quantize) -> Scorer:
        return Scorer(self.program, calibration_samples(self.data, quantize), quantize, self.inputs, self.sampling)


@pytest.fixture(scope="module", autouse=True)
def fewer_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_study, "QUESTION_MACS", 1e9)
        yield


@pytest.fixture(scope="module")
def shop(digits_parts: DigitsParts, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("data"), digits_parts)


@pytest.fixture(scope="module")
def scorer(shop: Shop) -> Scorer:
    return shop.scorer(HARD)


@pytest.fixture(scope="module")
def found(scorer: Scorer) -> LayerStudy:
    return study(scorer, quiet)


def test_switching_layers_is_what_converting_them_so_gives(shop: Shop, scorer: Scorer) -> None:
    samples = calibration_samples(shop.data, HARD)
    _, unfolded = quantize_graph(shop.program, samples, HARD)
    board = Switchboard(unfolded)
    whole = scorer.score(board.only(board.layers))
    base = layer_schemes(unfolded.graph, HARD)
    assert whole.sqnr_db == pytest.approx(scorer.converted(base).sqnr_db, abs=0.05)
    assert scorer.score(board.only([])).sqnr_db > 100, "with everything off it is the float model"
    # Activations next to a float layer keep their ranges in both, so one weight in float is nearly the same thing.
    name = "inverted.conv.6"
    switched = scorer.score(board.only([layer for layer in board.layers if layer != name]))
    assert switched.sqnr_db == pytest.approx(scorer.converted({**base, name: "fp32"}).sqnr_db, abs=1.0)


def test_the_study_has_every_layer_both_ways(found: LayerStudy) -> None:
    names = [row.name for row in found.layers]
    assert len(names) == len(set(names)) == 13 and names[0] == "stem.0" and names[-1] == "classifier"
    assert 75 < found.samples < 125 and found.float > 0.97
    for row in found.layers:
        assert row.weights > 0
        # One layer alone does less harm than all, and sparing one never undoes it all.
        assert row.only_quantized.sqnr_db > found.all_quantized.sqnr_db
        assert row.only_float.sqnr_db > found.all_quantized.sqnr_db - 1


def test_the_choice_keeps_the_accuracy_with_fewer_bytes(scorer: Scorer, found: LayerStudy) -> None:
    everything = scorer.converted(layer_schemes(scorer.program.module().graph, HARD))
    assert everything.drop > 0.02, "the setting is meant to be too hard for all layers"
    chosen = mixed.choose(found, scorer, HARD, quiet)
    summary = chosen.summary
    assert summary.drop <= HARD.max_accuracy_drop < everything.drop
    assert scorer.converted(chosen.schemes).drop == summary.drop, "the choice was measured as it will ship"
    assert 0 < len(summary.float_layers) < len(found.layers)
    assert summary.weight_bytes_all_int8 < summary.weight_bytes < 4 * summary.weight_bytes_all_int8
    again = Quantize(
        "static_int8", weight_bits=3, overrides=tuple(Override(o.modules, "fp32") for o in summary.overrides)
    )
    assert layer_schemes(scorer.program.module().graph, again) == chosen.schemes
    print(dataclasses.replace(summary, tried=()))


def test_a_goal_that_nothing_meets_is_an_error(
    scorer: Scorer, found: LayerStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = dataclasses.replace(HARD, max_accuracy_drop=0.0)
    monkeypatch.setattr(scorer, "converted", lambda schemes: Score(drop=0.5, metric=0.4, sqnr_db=1.0))
    with pytest.raises(StageFailed, match="no layer can be int8 within max_accuracy_drop = 0 ") as caught:
        mixed.choose(found, scorer, impossible, quiet)
    assert "qat_int8" in caught.value.hint


def test_the_order_is_harm_for_each_byte() -> None:
    fine, coarse = Score(0.0, 1.0, 60.0), Score(0.0, 1.0, 20.0)
    rows = [
        LayerCost("small", "linear", 10, coarse, fine),
        LayerCost("large", "linear", 1000, coarse, fine),
        LayerCost("fine", "linear", 10, fine, fine),
    ]
    assert mixed.by_harm(rows) == ["small", "large", "fine"]


# Overrides


def test_overrides_are_patterns_and_the_last_counts(shop: Shop) -> None:
    graph: Any = shop.program.module().graph
    quantize = Quantize(
        "static_int8", overrides=(Override("down1.*"), Override("down1.conv.3", "static_int8"),
            Override("classifier", "dynamic_int8"))
    )  # fmt: skip
    schemes = layer_schemes(graph, quantize)
    assert schemes["down1.conv.0"] == schemes["down1.conv.6"] == "fp32"
    assert schemes["down1.conv.3"] == schemes["stem.0"] == schemes[NO_LAYER] == "static_int8"
    assert schemes["classifier"] == "dynamic_int8"
    folded, unfolded = quantize_graph(shop.program, calibration_samples(shop.data, quantize), quantize)
    made = {each.name: each.scheme for each in describe(unfolded)[0]}
    assert made == {name: scheme for name, scheme in schemes.items() if name != NO_LAYER}
    sample = torch.from_numpy(calibration_samples(shop.data, quantize)[0][:1].copy())
    assert torch.equal(folded(sample), unfolded(sample))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((Override("stemm.*"),), r"no layer is named 'stemm\.\*'"),
        ((Override("*"),), "overrides leave no layer in int8"),
        ((Override("stem.0", "dynamic_int8"),), "stem.0 is a conv2d; dynamic_int8 is for linear layers"),
    ],
)
def test_overrides_that_cannot_be(shop: Shop, overrides: tuple[Override, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        layer_schemes(shop.program.module().graph, Quantize("static_int8", overrides=overrides))
