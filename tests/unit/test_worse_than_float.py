"""A quantized file that is bigger or slower than its float sibling is warned of, with the layers that stayed float."""

from __future__ import annotations

import pytest

from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import Measurement, TargetFacts, TargetRecord
from pocketforge.results.unjudged import unjudged_files
from pocketforge.results.worse import worse_than_float

RECIPE = """
name = "r"
[model]
definition = "model.py"
[data]
source = "digits"
[[target]]
name = "float"
runtime = "onnx"
[[target]]
name = "other"
runtime = "tflite"
[[target]]
name = "packed"
runtime = "onnx"
package = { postprocess = "softmax" }
[[target]]
name = "int8"
runtime = "onnx"
quantize = { scheme = "static_int8" }
[[target]]
name = "half"
runtime = "onnx"
quantize = { scheme = "fp16" }
"""


def measured(target: str, metric: str, value: float, *samples: float) -> Measurement:
    device = "host" if metric == "latency_ms" else ""
    return Measurement(metric, value, "", target, "0" * 64, "host", device, samples=samples)


def warnings(*found: Measurement, left: tuple[str, ...] = ()) -> list[str]:
    schemes = {"float": "fp32", "other": "fp32", "packed": "fp32", "int8": "static_int8", "half": "fp16"}
    targets = [
        TargetRecord(name, "onnx", scheme, "built", facts=TargetFacts(float_layers=left if name == "int8" else None))
        for name, scheme in schemes.items()
    ]
    return list(worse_than_float(parse_recipe(RECIPE), targets, found))


def test_bytes() -> None:
    # A file of another runtime, or one that does more of the app's side, is no sibling.
    others = [measured(name, "size_bytes", 1) for name in ("other", "packed")]
    sizes = [measured("float", "size_bytes", 105_624), *others]
    assert warnings(*sizes, measured("int8", "size_bytes", 60_000)) == []
    assert warnings(*sizes, measured("int8", "size_bytes", 132_336), left=("conv2d (head)",)) == [
        "int8: not smaller than float: 132,336 bytes against 105,624; float weights: conv2d (head)"
    ]


def test_files_made_elsewhere_are_what_they_hold() -> None:
    files = "".join(f'[[target]]\nname = "{name}"\nfile = "{name}.onnx"\n' for name in ("float", "int8"))
    recipe = parse_recipe(f'name = "r"\n[data]\nsource = "digits"\n{files}')
    targets = [
        TargetRecord(name, "onnx", scheme, "built") for name, scheme in (("float", "fp32"), ("int8", "static_int8"))
    ]
    sizes = [measured("float", "size_bytes", 1000), measured("int8", "size_bytes", 1200)]
    times = [measured("float", "latency_ms", 1, *[1.0] * 90), measured("int8", "latency_ms", 2, *[2.0] * 90)]
    assert list(worse_than_float(recipe, targets, [*sizes, *times])) == [
        "int8: not smaller than float: 1,200 bytes against 1,000",
        "int8: slower than float on host: p50 2 ms against 1",
    ]
    unread = [targets[0], TargetRecord("int8", "onnx", "unknown", "failed")]
    assert list(worse_than_float(recipe, unread, sizes)) == []


def test_a_file_that_nothing_judges_is_told() -> None:
    text = 'name = "r"\n[data]\nsource = "digits"\n[[target]]\nname = "t"\nfile = "t.onnx"\n'
    budget = '[[budget]]\nmetric = "{}"\nlimit = {}\n'
    made = {against: Elsewhere("t.onnx", "fp32", against, (0,), ("y",)) for against in ("", "float.onnx")}

    def told(more: str, against: str = "") -> list[str]:
        record = TargetRecord("t", "onnx", "fp32", "built", facts=TargetFacts(elsewhere=made[against]))
        return list(unjudged_files(parse_recipe(text + more), [record]))

    (said,) = told(budget.format("size_bytes", 900))
    assert said.startswith("t: no budget is on what t.onnx answers, and it is held against nothing")
    assert told(budget.format("accuracy_top1", 0.9)) == told("", "float.onnx") == []
    assert len(told(budget.format("accuracy_top1", 0.9) + 'severity = "warning"\n')) == 1


def test_of_half_precision_nothing_was_to_be_integers() -> None:
    sizes = [measured("float", "size_bytes", 105_624), measured("half", "size_bytes", 105_624)]
    assert warnings(*sizes) == ["half: not smaller than float: 105,624 bytes against 105,624"]


@pytest.mark.parametrize(("slower", "said"), [(1.5, True), (1.01, False), (0.8, False)])
def test_time_beyond_the_intervals(slower: float, said: bool) -> None:
    times = [1 + 0.002 * (k % 40) for k in range(200)]
    found = warnings(
        measured("float", "latency_ms", 1.04, *times),
        measured("int8", "latency_ms", 1.04 * slower, *(slower * t - 0.01 * (slower == 1.01) for t in times)),
    )
    assert bool(found) == said
    if said:
        assert found[0].startswith(
            "int8: slower than float on host: p50 1.56 ms against 1.04; no layer with weights stayed float"
        )
