"""What quantize.json and the files beside it say comes back as it was, and goes into reports as it always did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketforge.errors import StageFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.layers import LayerCost, LayerStudy, Score
from pocketforge.outcomes.mixed import Assignment, FloatOverride, MixedChoice
from pocketforge.outcomes.quantize import (
    BiasCorrection,
    CorrectedLayer,
    OutputLevels,
    Quantized,
    QuantizedLayer,
    Repairs,
)
from pocketforge.records import TargetRecord
from pocketforge.report.quantization import quantization_tables

STUDY = LayerStudy(
    version=1,
    samples=40,
    float=0.98,
    all_quantized=Score(0.1, 0.88, 12.5),
    layers=(LayerCost("stem.0", "conv2d", 144, Score(0.0, 0.98, 30.0), Score(0.05, 0.93, 14.0)),),
)
CHOICE = MixedChoice(
    study=STUDY,
    max_accuracy_drop=0.01,
    drop=0.0,
    sqnr_db=28.0,
    float_layers=("stem.0",),
    weight_bytes=576,
    weight_bytes_all_int8=144,
    tried=(Assignment(("stem.0",), 0.0, 0.98, 28.0),),
    overrides=(FloatOverride("stem.0"),),
)
LAYERS = (QuantizedLayer("stem.0", "conv2d", "fp32", 144), QuantizedLayer("head", "linear", "static_int8", 40))


@pytest.mark.parametrize(
    "quantized",
    [
        Quantized("static_int8", "static int8", LAYERS, (OutputLevels(0.5, -3), None)),
        Quantized("mixed", "static int8", LAYERS, (None,), mixed=CHOICE),
        Quantized(
            "static_int8",
            "static int8",
            LAYERS,
            (),
            repairs=Repairs(bias_correction=BiasCorrection(8, (CorrectedLayer("head", "linear", 0.02),), ())),
        ),
    ],
)
def test_it_comes_back_from_the_step_s_folder(tmp_path: Path, quantized: Quantized) -> None:
    files.write(tmp_path, quantized)
    assert files.read(tmp_path, Quantized) == quantized
    assert quantized.quantized == ["linear (head)"] and quantized.left_float == ["conv2d (stem.0)"]


def test_what_was_not_asked_for_has_no_key() -> None:
    repairs = Repairs(bias_correction=BiasCorrection(8, (), ()))
    assert files.to_json(repairs) == {"bias_correction": {"samples": 8, "layers": [], "without_bias": []}}
    plain = files.to_json(Quantized("static_int8", "static int8", (), ()))
    assert set(plain) == {"scheme", "numerics", "layers", "outputs"}


def test_a_study_keeps_the_keys_that_reports_and_layers_json_have() -> None:
    content = json.loads(json.dumps(files.to_json(CHOICE)))
    assert content["study"]["float"] == 0.98
    assert content["study"]["layers"][0]["only_quantized"] == {"drop": 0.0, "metric": 0.98, "sqnr_db": 30.0}
    assert content["tried"] == [{"float": ["stem.0"], "drop": 0.0, "metric": 0.98, "sqnr_db": 28.0}]
    assert content["overrides"] == [{"modules": "stem.0", "scheme": "fp32"}]
    assert files.from_json(content, MixedChoice) == CHOICE


def test_a_report_shows_the_choice_once_for_targets_that_share_it() -> None:
    facts = {"mixed": json.loads(json.dumps(files.to_json(CHOICE)))}
    targets = [TargetRecord(name, "onnx", "mixed", "built", facts=facts) for name in ("one", "two")]
    (table,) = quantization_tables(targets, ())
    assert table.row_count == 1 and "one" in str(table.title)


def test_a_file_of_another_version_is_said_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text(json.dumps({**files.to_json(STUDY), "samples": "40"}), "utf-8")
    with pytest.raises(StageFailed, match="samples"):
        files.read(tmp_path, LayerStudy)
