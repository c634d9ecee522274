"""A small segmenter whose pictures have any size of a range: one file for all of them in ONNX and ExecuTorch, files of
fixed shapes for two of them, each compared with PyTorch at the sizes that it is for. And what becomes of a file, and of
a net, that is right at one size only.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Done, in_process
from onnx import helper, numpy_helper
from warm_server import warm_stages

from pocketforge.errors import ModelError
from pocketforge.facts.gather import gather
from pocketforge.outcomes import files
from pocketforge.outcomes.verify import Verdict, Verified
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Lane, Plan
from pocketforge.recipe.toml import load_recipe
from pocketforge.run.part import run_part
from pocketforge.run.store import Store
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages import verify

pytestmark = pytest.mark.usefixtures("runtimes_of_all_workers")
MODEL = '''\
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Ink or paper, for each pixel: seen at two scales, and how much ink there is."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, *, unused=None, image):
        near = self.stem(image)
        maps = self.head(torch.cat([near, self.up(self.down(near))], 1))
        ink = nn.functional.interpolate(maps, size=image.shape[-2:])
        return {"ink": ink, "much": maps.mean((1, 2, 3)), "stem": near}


class Flat(Net):
    """Fits one size only."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(6 * 16 * 16, 1)

    def forward(self, image):
        return {"ink": super().forward(image=image)["ink"], "much": self.flat(self.stem(image).flatten(1))[:, 0]}


class Digits:
    def __init__(self):
        from sklearn.datasets import load_digits

        self.images = (load_digits().images[:120] * 15.9).astype(np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return image[:, :, None], {"mask": (image > 128).astype(np.uint8), "value": np.float32(image.mean() / 255)}


def samples():
    return Digits()


def build(net="Net"):
    torch.manual_seed(0)
    return globals()[net]().eval()
'''
HEAD = """\
name = "any"

[model]
definition = "model.py"
args = {{ net = "{net}" }}
eval_size = [32, 32]

[[model.input]]
name = "image"
shape = [1, 1, "H:16..48:16", "W:16..48:16"]

[data]
source = "model.py:samples"
eval_samples = 16
calibration_samples = 16

[data.preprocess]
resize = [32, 32]

[[output]]
name = "ink"
role = "segmentation"

[[output]]
name = "much"
role = "regression"

[[device]]
name = "host"
min_samples = 1
min_seconds = 0.0

"""
STEM = '[[output]]\nname = "stem"\nrole = "state"\nkeep = false\n'
# One number a sample, that hardly changes from sample to sample: levels of it are few.
INT8 = """\
quantize = { scheme = "static_int8" }
verify = { outputs = [{ name = "much", min_sqnr_db = 5, max_diff_ratio = 1 }] }
"""
SMALL, WIDE = (16, 16), (32, 48)


def target(name: str, runtime: str, more: str = "") -> str:
    return f'[[target]]\nname = "{name}"\nruntime = "{runtime}"\n{more}\n'


SHIPPED = (
    target("any8", "onnx", INT8)
    + target("box", "onnx", "sizes = [[16, 16], [32, 48]]\n")
    + '[[budget]]\nmetric = "size_bytes"\nlimit = 100000\ntarget = "box"\n'
    + '[[budget]]\nmetric = "miou_drop"\nlimit = 0.05\n'
)
# Run without a benchmark, which is no part of what they show.
BESIDE = target("any", "onnx") + target("any8", "onnx", INT8) + target("torch8", "executorch", INT8)


class Build:
    """A finished build, and steps of other recipes beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        (folder / "model.py").write_text(MODEL, encoding="utf-8")
        (folder / "recipe.toml").write_text(HEAD.format(net="Net") + STEM + SHIPPED, encoding="utf-8")
        self.done: Done = in_process(
            "build", "recipe.toml", "--out", "out", "--json", cache=self.cache, cwd=folder
        )  # fmt: skip
        self.report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text("utf-8"))

    def sidecar(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "out" / "release" / f"{name}.json").read_text("utf-8"))
        return content

    def plan(self, targets: str, net: str = "Net") -> Plan:
        path = self.folder / "other.toml"
        path.write_text(HEAD.format(net=net) + (STEM if net == "Net" else "") + targets, encoding="utf-8")
        recipe = load_recipe(path)
        return make_plan(recipe, gather(recipe, self.cache))

    def made(self, plan: Plan, *keys: str) -> None:
        with warm_stages():
            run_part(plan, keys, self.cache, "test")

    def files(self, key: str) -> Path:
        entry = Store(self.cache).get(key)
        assert entry is not None
        return entry.files


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("sizes"))


def figures(lane: Lane, build: Build) -> dict[tuple[str, tuple[int, ...]], dict[str, Any]]:
    """(Role of a file, size) → output → its figures."""
    verified = files.read(build.files(lane.verify), Verified)
    return {
        (at.role, tuple(at.sizes.values())): {each.name: each for each in at.measured.outputs} for at in verified.sizes
    }


TRIED = [(16, 16), (32, 32), (48, 48), (16, 48)]


def test_one_file_is_compared_with_pytorch_at_both_ends_and_between(built: Build) -> None:
    assert (built.done.code, built.report["verdict"]) == (0, "PASS"), built.done.stderr[-3000:]
    plan = built.plan(BESIDE)
    built.made(plan, *(lane.verify for lane in plan.lanes))
    for lane in plan.lanes:
        assert files.read(built.files(lane.verify), Verdict).passed
        found = figures(lane, built)
        roles = ["model", *(["ort"] if lane.target.runtime == "onnx" else [])]
        assert set(found) == {(role, size) for role in roles for size in TRIED}
        for outputs in found.values():
            assert set(outputs) == {"ink", "much"}
            for name, each in outputs.items():
                assert each.sqnr_db > (80 if lane.target.name == "any" else 25 if name == "ink" else 5)
                # An int8 file is held against its quantized graph at that size too.
                assert (each.graph_sqnr_db is None) == (lane.target.name == "any")


def test_the_sidecar_says_the_ranges_and_an_app_may_use_any_size_of_them(built: Build) -> None:
    import onnxruntime

    side = built.sidecar("any8")
    assert side["sizes"] == {name: {"least": 16, "most": 48, "step": 16} for name in "HW"}
    assert side["size_axes"] == [{"H": 2, "W": 3}]
    assert [each["shape"] for each in side["inputs"] + side["outputs"]] == [[1, 1, -1, -1], [1, 2, -1, -1], [1]]
    assert [tuple(each["sizes"].values()) for each in side["measured_at"]] == TRIED
    assert side["measured_at"][3]["outputs"] == {"ink": [1, 2, 16, 48], "much": [1]}
    path = built.folder / "out" / "release" / "any8.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 1, "H", "W"]
    ink, much = session.run(None, {"image": np.zeros((1, 1, 32, 16), np.float32)})
    assert ink.shape == (1, 2, 32, 16) and much.shape == (1,)


def test_buckets_are_files_of_their_own_and_each_says_which_there_are(built: Build) -> None:
    names = {path.name for path in (built.folder / "out" / "release").iterdir() if path.suffix == ".onnx"}
    assert names == {"any8.onnx", "box-16x16.onnx", "box-32x48.onnx"}
    side = built.sidecar("box-32x48")
    assert side["bucket"] == {"H": 32, "W": 48} and [each["shape"] for each in side["inputs"]] == [[1, 1, 32, 48]]
    assert side["buckets"] == [
        {"file": f"box-{h}x{w}.onnx", "sizes": {"H": h, "W": w}} for h, w in (SMALL, WIDE)
    ]  # fmt: skip
    (resize,) = [each for each in side["preprocessing"]["steps"] if each["step"] == "resize"]
    assert (resize["height"], resize["width"]) == WIDE
    assert built.sidecar("box-16x16")["measured"]["sqnr_db"] > 80
    assert [each["shape"] for each in built.sidecar("box-16x16")["outputs"]] == [[1, 2, 16, 16], [1]]
    held = {(each["budget"]["metric"], each["target"]) for each in built.report["gates"]}
    assert held == {("size_bytes", "box-16x16"), ("size_bytes", "box-32x48")} | {
        ("miou_drop", each["name"]) for each in built.report["targets"]
    }
    assert built.report["agreement"] == []  # of other sizes, or other schemes


def test_a_file_that_is_right_where_it_is_evaluated_alone_fails_with_the_size(built: Build, tmp_path: Path) -> None:
    """Its resize is fixed at 32 × 32: what a converter writes that takes the traced size for the only one."""
    plan = built.plan(target("any", "onnx"))
    lane = plan.lanes[0]
    export = tmp_path / "export"
    shutil.copytree(built.files(lane.export), export)
    told = json.loads((export / "export.json").read_text("utf-8"))
    (export / "export.json").write_text(json.dumps({**told, "files": {"model": "model.onnx"}}), "utf-8")
    model = onnx.load(export / "model.onnx")
    (maker,) = [node for node in model.graph.node if "ink" in node.output]
    maker.output[0] = "ink_before"
    sizes = numpy_helper.from_array(np.array([1, 2, 32, 32], np.int64), "fixed")
    model.graph.initializer.append(sizes)
    model.graph.node.append(helper.make_node("Resize", ["ink_before", "", "", "fixed"], ["ink"], mode="nearest"))
    onnx.save(model, export / "model.onnx")
    inputs = {role: built.files(key) for role, key in (("data", lane.data), ("reference", lane.reference))}
    out = tmp_path / "out"
    out.mkdir()
    spec = plan.spec(lane.verify, VerifySpec)
    verify.run(
        {**inputs, "export": export, "data_root": built.folder}, spec, out, lambda fraction, message: None
    )  # fmt: skip
    reasons = files.read(out, Verdict).reasons
    # What the runtime says of its shape is another fault.
    assert {reason.partition(":")[0] for reason in reasons} > {"H 16, W 16", "H 48, W 48", "H 16, W 48"}
    wanted, found = (f"ink [1, 2, {size}, {size}]; much [1]" for size in (16, 32))
    assert f"H 16, W 16: the model's outputs: wanted {wanted}, found {found}" in reasons


def test_a_net_that_fits_one_size_is_named_with_the_size_and_the_layer(built: Build) -> None:
    plan = built.plan(target("any", "onnx"), net="Flat")
    with pytest.raises(ModelError, match=r"cannot run with H 16, W 16 .* at layer flat \(Linear\): .*shapes cannot"):
        built.made(plan, plan.reference)
