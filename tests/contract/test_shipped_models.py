"""The shipped models are what they say: the papers' shapes and sizes, and weights as accurate as the docs claim."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pocketforge.data.dataset import open_recipe
from pocketforge.errors import ModelError
from pocketforge.model.load import build_model, count_macs, count_parameters, example_inputs, trace
from pocketforge.model.weights import load_weights, read_weights
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.toml import load_recipe
from pocketforge.training.batches import batches_of
from pocketforge.training.judge import top1

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"


def build(name: str, **args: object) -> nn.Module:
    return build_model("model.py", args, lambda path: MODELS / name / path)


# ResNet for CIFAR


# Section 4.2 of the paper: 0.27, 0.46, 0.66 and 0.85 M. To the unit these are convolutions without bias, two norm
# parameters a channel, and the classifier with bias; option B adds two 1×1 convolutions with their norms (2752).
@pytest.mark.parametrize(
    ("depth", "millions", "parameters"),
    [(20, 0.27, 269_722), (32, 0.46, 464_154), (44, 0.66, 658_586), (56, 0.85, 853_018)],
)
def test_resnets_have_the_papers_parameters(depth, millions, parameters):
    module = build("resnet_cifar", depth=depth)
    assert count_parameters(module) == parameters and round(parameters / 1e6, 2) == millions
    weighted = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth
    other = build("resnet_cifar", depth=depth, shortcut="B")
    assert count_parameters(other) == parameters + 2752


def test_resnet_20_has_the_papers_multiplications():
    # 16×16: 6 convolutions of 16→16 at 32×32; then each stage halves both sides and doubles both widths.
    stem, stage = 3 * 16 * 9 * 32**2, 16 * 16 * 9 * 32**2
    wanted = stem + 6 * stage + 2 * (stage // 2 + 5 * stage) + 64 * 10
    assert count_macs(build("resnet_cifar"), (torch.zeros(1, 3, 32, 32),)) == wanted == 40_551_040


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_stages_halve_the_image_and_double_the_channels(shortcut):
    module = build("resnet_cifar", shortcut=shortcut, width=8, channels=1, classes=7)
    shapes = []
    for stage in (module.layer1, module.layer2, module.layer3):
        stage.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape)))
    assert module(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert shapes == [(2, 8, 32, 32), (2, 16, 16, 16), (2, 32, 8, 8)]


def test_shortcut_a_is_every_second_pixel_and_zeros():
    torch.manual_seed(0)
    block = build("resnet_cifar", width=4).layer2[0]
    for norm in (block.bn1, block.bn2):
        nn.init.zeros_(norm.weight)  # what is left is the shortcut
        nn.init.zeros_(norm.bias)
    x = torch.rand(2, 4, 6, 6)
    y = block(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2]) and not y[:, 4:].any()


def test_the_traced_resnet_has_no_convolution_in_shortcut_a():
    example = (torch.zeros(1, 3, 32, 32),)
    for shortcut, count in (("A", 19), ("B", 21)):
        nodes = trace(build("resnet_cifar", shortcut=shortcut), example).graph.nodes
        assert sum("conv2d" in str(n.target) for n in nodes) == count


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"depth": 21}, r"depth must be 6n\+2 .* found 21"),
        ({"depth": 2}, r"depth must be 6n\+2"),
        ({"shortcut": "C"}, "shortcut must be 'A' or 'B', found 'C'"),
    ],
)
def test_resnets_that_cannot_be(args, words):
    with pytest.raises(ModelError, match=words):
        build("resnet_cifar", **args)


# the tutorials' models


def test_the_mlp_is_784_256_10():
    module = build("mlp_digits")
    assert [tuple(p.shape) for p in module.parameters()] == [(256, 784), (256,), (10, 256), (10,)]
    # It takes an image: flattening is inside.
    examples = example_inputs("model.py", lambda path: MODELS / "mlp_digits" / path)
    assert examples is not None
    (example,) = examples
    assert trace(module, (example,)).module()(example).shape == (1, 10)


@pytest.mark.parametrize(
    ("args", "convs", "macs"),
    [
        ({}, [(64, 3, 3, 3), (128, 64, 3, 3)], 20_725_760),
        ({"inputs": 1, "size": 16, "channels": [64, 128]}, [(64, 1, 3, 3), (128, 64, 3, 3)], 4_886_528),
        ({"inputs": 1, "size": 16, "channels": [32, 64]}, [(32, 1, 3, 3), (64, 32, 3, 3)], 1_263_616),
    ],
)
def test_two_conv(args, convs, macs):
    module = build("two_conv", **args)
    assert [tuple(module.conv1.weight.shape), tuple(module.conv2.weight.shape)] == convs
    size = args.get("size", 32)
    assert count_macs(module, (torch.zeros(1, args.get("inputs", 3), size, size),)) == macs


# shipped weights

# Recipe, weights, args of the module that they fit, top-1 that they must have on the recipe's held-out split.
# (digits_cnn's are measured in tests/e2e/test_training.py.)
SHIPPED = [
    ("resnet_cifar/digits.toml", "digits.safetensors", None, 0.98),
    ("mlp_digits/recipe.toml", "weights.safetensors", None, 0.97),
    ("two_conv/half_conv1.toml", "weights.safetensors", None, 0.98),
    ("teacher_student/recipe.toml", "teacher.safetensors", {"channels": [64, 128], "inputs": 1, "size": 16}, 0.98),
]


@pytest.mark.parametrize(("path", "weights", "args", "least"), SHIPPED, ids=[s[0] for s in SHIPPED])
def test_shipped_weights_are_as_accurate_as_we_say(path, weights, args, least):
    recipe = load_recipe(MODELS / path)
    module = build_model(recipe.model.definition, recipe.model.args if args is None else args, recipe.resolve)
    samples = open_recipe(recipe).eval
    load_weights(module, recipe.resolve(weights))
    assert top1(module, batches_of(samples, 64)) >= least


def test_shipped_weights_are_small_and_plain():
    files = sorted(MODELS.glob("*/*.safetensors"))
    measured = {"digits_cnn/weights.safetensors", *(f"{Path(p).parent}/{w}" for p, w, *_ in SHIPPED)}
    assert {str(f.relative_to(MODELS)) for f in files} == measured
    assert max(f.stat().st_size for f in files) < 1.2e6
    assert sum(f.stat().st_size for f in files if f.parent.name != "digits_cnn") < 3e6
    for file in files:
        assert all(t.dtype in (torch.float32, torch.int64) for t in read_weights(file).values())


def test_both_two_conv_recipes_start_from_the_same_model():
    half, without = (load_recipe(MODELS / "two_conv" / f"{n}.toml") for n in ("half_conv1", "without_conv2"))
    assert (half.model, half.data, half.seed) == (without.model, without.data, without.seed)


def test_the_student_is_half_the_teacher_and_untrained():
    recipe = load_recipe(MODELS / "teacher_student" / "recipe.toml")
    entry = recipe.compress[0]
    assert isinstance(entry, Finetune) and entry.distill is not None
    teacher = entry.distill.teacher
    assert teacher is not None
    assert recipe.model.weights == "" and teacher.definition == recipe.model.definition
    assert [c // 2 for c in teacher.args["channels"]] == recipe.model.args["channels"]
