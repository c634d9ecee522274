"""Every stage keeps the same promises: a `run`, only its own folder written to, progress that grows, equal results."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import re
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from phone import MakePhone
from trunk_specs import finetune_spec, model_source, sampling

from pocketforge.recipe import Data, Preprocess, Verify
from pocketforge.recipe.compress import Finetune, PruneChannels
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.recipe.output import output_of_task
from pocketforge.recipe.package import Package
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import STAGES
from pocketforge.specs.adopt import AdoptSpec
from pocketforge.specs.annotate import AnnotateSpec
from pocketforge.specs.answers import AnswersSpec
from pocketforge.specs.bench import BenchSpec, Sitting
from pocketforge.specs.bench_phone import BenchPhoneSpec, Rounds
from pocketforge.specs.count import CountSpec, EmulatedPlace, EstimateSpec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.gains import GainsSpec
from pocketforge.specs.layers import LayersSpec
from pocketforge.specs.package import PackageSpec
from pocketforge.specs.prune import PruneSpec
from pocketforge.specs.qat import QatSpec
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.sensitivity import SensitivitySpec, studied
from pocketforge.specs.verify import VerifySpec
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge.specs.verify_file import VerifyFileSpec
from pocketforge.specs.why import WhySpec

pytest.importorskip("torch")

MODEL = """\
import torch
from torch import nn

def build():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )
"""
# What one stage reads of the others, in an order in which they can run.
NEEDS = {
    "data": (),
    "finetune": (),
    "reference": ("data", "finetune"),
    "quantize": ("data", "reference"),
    "annotate": ("data", "reference"),
    "package": ("data", "reference", "quantize"),
    "export": ("reference", "quantize"),
    "verify": ("data", "reference", "quantize", "export"),
    "answers": ("data",),
    "adopt": ("data", "reference"),
    "verify_file": ("data", "reference", "adopt"),
    "bench": ("data", "export"),
    "prune": ("finetune",),
    "sensitivity": ("finetune",),
    "gains": ("data", "finetune", "prune"),
    "layers": ("data", "reference"),
    "qat": ("data", "reference", "finetune"),
    "why": ("data", "reference", "quantize", "export", "finetune"),
    "verify_device": ("data", "reference", "export", "verify"),
    "bench_phone": ("data", "export"),
    "count": ("data", "export"),
    "estimate": ("export", "count"),
}
PROFILE = Path(__file__).parents[2] / "device_profiles" / "pixel4.toml"
ROLES = {"finetune": "checkpoint", "adopt": "export"}
# By their place in the trunk.
STATES = {"finetune": "state_1", "prune": "state_2"}
DATA = Data(
    source="digits",
    eval_samples=12,
    calibration_samples=8,
    preprocess=Preprocess(resize=(12, 12), mean=(0.5,), std=(0.5,)),
)
STATIC = Quantize("static_int8", calibration="minmax").settled()
SPECS: dict[str, Any] = {
    "data": sampling(DATA).data,
    "finetune": finetune_spec(DATA, Finetune(epochs=1, batch_size=256)),
    "reference": ReferenceSpec(model_source(), (), (), "classification", "accuracy_top1"),
    "quantize": QuantizeSpec(STATIC),
    "annotate": AnnotateSpec(STATIC),
    "package": PackageSpec(Package(postprocess="softmax")),
    "export": ExportSpec("onnx", "static_int8", "NCHW", "NCHW", "float32", None),
    "verify": VerifySpec(
        "onnx",
        "static_int8",
        trained=False,
        task="classification",
        limits=Verify(max_accuracy_drop=1.0, min_argmax_agreement=0.0),
        kernels="test",
    ),
    "answers": AnswersSpec("onnx", "net.onnx", "classification", "accuracy_top1"),
    "adopt": AdoptSpec("onnx", "net.onnx", ""),
    "verify_file": VerifyFileSpec("onnx", "classification", Verify(max_accuracy_drop=1.0), "test"),
    "bench": BenchSpec("onnx", "test", Sitting(1, 4, 0.0, 1, 10, 0.0)),
}
CHANNELS = PruneChannels(ratio=0.5)
# The recipe's metric, what its output is, and no names.
JUDGED = ("accuracy_top1", (output_of_task("classification"),), ())
SPECS |= {
    "prune": PruneSpec(model_source(), (), sampling(DATA), CHANNELS),
    "sensitivity": SensitivitySpec(model_source(), (), sampling(DATA), studied(CHANNELS), *JUDGED),
    "gains": GainsSpec(
        model_source(), (), "classification", *JUDGED, ("finetune", "prune_channels"), ("onnx",), "NCHW", host="test"
    ),
}
SPECS |= {
    "layers": LayersSpec(STATIC, sampling(DATA)),
    "qat": QatSpec(model_source(), sampling(DATA), Quantize("qat_int8", finetune=Finetune(epochs=1, batch_size=256))),
    "why": WhySpec(
        target="t",
        runtime="onnx",
        scheme="static_int8",
        trained=False,
        task="classification",
        limits=Verify(),
        model=model_source(),
        quantize=STATIC,
        samples=8,
    ),
}
PLACE = EmulatedPlace("emulator", "", 600.0, 2**32)
SPECS |= {
    "verify_device": VerifyDeviceSpec(
        "onnx", "static_int8", "classification", PLACE, 4, DeviceLimits(min_sqnr_db=20.0), emulator="test"
    ),
    "bench_phone": BenchPhoneSpec("tflite", "test", "test", "", Rounds("big", 1, 1, 3, 6, 0.0, 0, 38.0, 60.0, 300.0)),
    # Counting ONNX Runtime takes ten times as long, most of it while it loads: see COUNTED.
    "count": CountSpec("tflite", "test", PLACE),
    "estimate": EstimateSpec(""),
}
# Files whose bytes are not promised: serialized graphs hold the order of hash tables (see tests/e2e/test_release.py for
# what ships), and measured times are never equal.
UNEQUAL = {"bench.json", "gains.json", "model.ort"}
# Stages that get the same model as a TFLite file in place of the ONNX file.
COUNTED = ("bench_phone", "count", "estimate")


@dataclass
class Ran:
    """One stage run twice, and what was seen of it."""

    folders: list[Path]
    events: list[list[tuple[float, str]]]
    written: list[set[Path]]
    inputs_changed: bool
    elsewhere: set[str]


_MEMORY = re.compile(r"/proc/\d+/mem")


class _Writes:
    """Files opened for writing by Python code, from an audit hook (hooks cannot be removed, so there is one)."""

    def __init__(self) -> None:
        self.seen: set[Path] | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, str) and _MEMORY.fullmatch(path):
                return  # of the emulator's process, no file on a disk
            writes = (
                any(c in mode for c in "wax+") if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))
            )
            if writes and isinstance(path, (str, bytes, os.PathLike)):
                self.seen.add(Path(os.path.abspath(os.fsdecode(path))))
        elif event in ("os.mkdir", "os.remove", "os.rename", "os.truncate", "shutil.copyfile"):
            if event == "os.remove" and arguments[1] != -1:
                return  # a name in an open folder: shutil.rmtree clearing its own temporary one
            target = arguments[1] if event in ("os.rename", "shutil.copyfile") else arguments[0]
            if isinstance(target, (str, bytes, os.PathLike)):
                self.seen.add(Path(os.path.abspath(os.fsdecode(target))))


@pytest.fixture(scope="module")
def writes() -> Iterator[_Writes]:
    watch = _Writes()
    yield watch
    watch.seen = None


def imported(stage: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolchains deprecate parts of each other
        return importlib.import_module(STAGES[stage].module)


def contents(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, writes: _Writes, emulator: object, make_shared_phone: MakePhone
) -> dict[str, Ran]:
    """Every stage, twice: the second time on the first one's inputs."""
    make_shared_phone()
    root = tmp_path_factory.mktemp("stages")
    user, nowhere, scratch = (root / name for name in ("user", "nowhere", "scratch"))
    for folder in (user, nowhere, scratch):
        folder.mkdir()
    (user / "model.py").write_text(MODEL, encoding="utf-8")
    found: dict[str, Ran] = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(nowhere)
        patch.setenv("TMPDIR", str(scratch))
        patch.setattr(tempfile, "tempdir", None)
        # Torch's compiler makes an (empty) cache folder when it is imported.
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(scratch / "inductor"))
        # More samples make figures surer; no promise here depends on them.
        imported("layers")
        patch.setattr("pocketforge.quantization.layer_study.MOST_SAMPLES", 64)
        counted = root / "export-tflite"
        for stage, needs in NEEDS.items():
            module = imported(stage)
            roles = STATES if stage == "gains" else ROLES
            inputs = {roles.get(n, n): found[n].folders[0] for n in needs} | {"data_root": user}
            if stage == "package":
                inputs["prepared"] = inputs["data"]
            if stage in ("verify_device", "count", "estimate"):
                inputs["profile"] = PROFILE
            if stage in ("answers", "adopt"):
                inputs["file"] = found["export"].folders[0] / "model.onnx"
            if stage in COUNTED:
                inputs["export"] = counted
            before = {role: contents(folder) for role, folder in inputs.items() if folder.is_dir()}
            ours = Ran([], [], [], False, set())
            for time in ("first", "second"):
                out = root / f"{stage}-{time}"
                out.mkdir()
                events: list[tuple[float, str]] = []
                if stage == "export":
                    # Its libraries, imported now: what an import writes (caches of bytecode) is not the stage's.
                    importlib.import_module("pocketforge.runtimes.onnx")
                writes.seen = set()
                try:
                    module.run(
                        inputs, SPECS[stage], out, lambda fraction, text="", to=events: to.append((fraction, text))
                    )
                finally:
                    seen, writes.seen = writes.seen, None
                ours.folders.append(out)
                ours.events.append(events)
                ours.written.append(seen)
            ours.inputs_changed = {role: contents(inputs[role]) for role in before} != before
            ours.elsewhere = {*contents(nowhere), *contents(scratch)}
            found[stage] = ours
            if stage == "export":
                counted.mkdir()
                module.run(inputs, replace(SPECS[stage], runtime="tflite"), counted, lambda *_: None)
    return found


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_stage_is_covered_here():
    assert set(NEEDS) == set(SPECS) == set(STAGES)


def test_it_has_a_run(stage):
    module = imported(stage)
    assert list(inspect.signature(module.run).parameters) == ["inputs", "spec", "out", "emit"]
    assert module.__doc__ and stage in module.__doc__ and module.run.__doc__
    assert STAGES[stage].version >= 1 and STAGES[stage].libraries


def test_its_spec_is_plain_data(stage):
    spec = SPECS[stage].to_json()
    assert json.loads(json.dumps(spec)) == json.loads(json.dumps(spec, sort_keys=True))


def test_it_writes_only_into_its_folder(ran, stage):
    found = ran[stage]
    assert contents(found.folders[0]), "it writes something"
    assert not found.inputs_changed, "results of earlier stages are not touched"
    assert found.elsewhere == set(), "nothing is left in the current folder, or in the folder for temporary files"
    scratch = found.folders[0].parent / "scratch"
    for out, written in zip(found.folders, found.written, strict=True):
        outside = {p for p in written if not p.is_relative_to(out) and not p.is_relative_to(scratch)}
        assert {p for p in outside if p != Path(os.devnull) and "__pycache__" not in p.parts} == set()


def test_the_watch_sees_writes(writes, tmp_path):
    """The test above can fail."""
    writes.seen = set()
    (tmp_path / "a").write_text("x", encoding="utf-8")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b").read_text(encoding="utf-8")
    seen, writes.seen = writes.seen, None
    assert {tmp_path / "a", tmp_path / "b"} <= seen


def test_progress_grows_from_0_to_1(ran, stage):
    for events in ran[stage].events:
        fractions = [fraction for fraction, _ in events]
        assert fractions[0] >= 0 and fractions == sorted(fractions), fractions
        assert fractions[-1] == 1.0
        assert all(isinstance(text, str) and "\n" not in text for _, text in events)
        assert events[-1][1], "the last word says what came out"


def test_the_same_inputs_give_the_same_files(ran, stage):
    first, second = (contents(folder) for folder in ran[stage].folders)
    assert set(first) == set(second)
    # torch.export.save writes a zip with a random id; what it holds is compared through what is exported from it.
    equal = {name for name in first if name not in UNEQUAL and not name.endswith(".pt2")}
    assert equal or stage in ("bench", "bench_phone", "gains")
    assert {n: first[n] for n in equal} == {n: second[n] for n in equal}
    for name in first:
        if name.endswith(".json"):
            one, two = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in ran[stage].folders)
            assert set(one) == set(two) if name in UNEQUAL else one == two


def test_json_is_for_every_reader(ran, stage):
    for path in ran[stage].folders[0].glob("*.json"):
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_not_json)
        assert list(content) == sorted(content), "keys are sorted"
        assert str(path.parents[1]) not in text, "no path of this machine goes into a result"


def _not_json(constant: str) -> None:
    pytest.fail(f"a result holds {constant}")


def test_bench_has_what_was_asked_for(ran):
    for folder in ran["bench"].folders:
        found = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
        assert found["how"]["threads"] == len(found["how"]["cpus"]) == 1
        # Four were asked for; the suite's bound on them is three, and ten inferences are four in each.
        parts = found["how"]["processes"]
        assert [part["samples"] for part in parts] == [4, 4, 4] and len(found["samples_ms"]) == 12
        of_each = [found["samples_ms"][start : start + 4] for start in (0, 4, 8)]
        assert [part["p50_ms"] for part in parts] == [statistics.median(ms) for ms in of_each]
        assert found["load_ms"] == sorted(part["load_ms"] for part in parts)[1]
        assert found["peak_rss_bytes"] == max(part["peak_rss_bytes"] for part in parts)
        model = ran["export"].folders[0] / "model.onnx"
        assert found["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
