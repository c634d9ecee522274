"""Model definitions and weights with real torch: what loads, and the words of every way it can fail."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision_ops import usable_torchvision

from pocketforge.errors import ModelError, ToolMissing
from pocketforge.model.definitions import refuse_half_loaded
from pocketforge.model.library_inputs import LibraryInput, library_input
from pocketforge.model.load import build_model, count_macs, count_parameters, example_inputs, trace
from pocketforge.model.weights import load_weights, save_weights

ROOT = Path(__file__).parents[2]
LINEAR = "import torch\nfrom torch import nn\ndef build(size=3): return nn.Linear(size, 2)\n"


def written(tmp_path: Path, text: str, name: str = "model.py") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path


def build(folder: Path, definition: str = "model.py", **args) -> nn.Module:
    return build_model(definition, args, lambda path: folder / path)


# definitions in a file


def test_a_file(tmp_path):
    module = build(written(tmp_path, LINEAR), size=5)
    assert isinstance(module, nn.Linear) and module.in_features == 5 and not module.training
    # Random weights are the same every time, and the caller's random state is left alone.
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    assert torch.equal(build(tmp_path, size=5).weight, module.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = build_model("model.py", {"size": 5}, lambda path: tmp_path / path, seed=1)
    assert not torch.equal(other.weight, module.weight)


def test_siblings_of_two_folders_do_not_mix(tmp_path):
    text = "import layers, json\ndef build():\n    import late\n    return late.wrap(layers.Mine())\n"
    layer = "from torch import nn\nclass Mine(nn.Linear):\n    def __init__(self): super().__init__({n}, 1)\n"
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        written(folder, text)
        written(folder, layer.format(n=number), "layers.py")
        written(folder, "from torch import nn\ndef wrap(m): return nn.Sequential(m)\n", "late.py")
    before = list(sys.path)
    for number in (1, 2, 1):
        module = build(tmp_path / str(number))
        assert module[0].in_features == number
        assert trace(module, (torch.zeros(1, number),)).module()(torch.zeros(1, number)).shape == (1, 1)
    assert sys.path == before and "layers" not in sys.modules and "late" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_neighbour_does_not_replace_an_installed_package(tmp_path):
    written(tmp_path, "raise RuntimeError('wrong one')", "pocketforge.py")
    (tmp_path / "torch").mkdir()
    assert isinstance(build(written(tmp_path, LINEAR)), nn.Linear)
    assert sys.modules["torch"] is torch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torch\n1 / 0\n", r"raised ZeroDivisionError: division by zero\n  at .*model\.py:2 in <module>"),
        (
            "def build():\n    x = 1\n    raise ValueError('bad width')\n",
            r"ValueError: bad width\n  at .*model\.py:3 in",
        ),
        ("def build(:\n", r"raised SyntaxError: .*\n  at .*model\.py:1"),
        ("import helper\ndef build(): pass\n", r"KeyError: 'x'\n  at .*helper\.py:1"),
        ("import no_such\n", r"ModuleNotFoundError: No module named 'no_such'\n  at .*model\.py:1"),
        ("import sys\nsys.exit(3)\n", r"raised SystemExit: 3\n  at .*model\.py:2"),
        ("model = 1\n", r"model\.py has no function build\(\)"),
        ("def build(): return {}\n", r"returned a dict, not a torch\.nn\.Module"),
        ("def build(width): pass\n", r"TypeError: build\(\) missing 1 required"),
    ],
)
def test_definitions_that_fail(tmp_path, text, words):
    written(tmp_path, "{}['x']\n", "helper.py")
    with pytest.raises(ModelError, match=words):
        build(written(tmp_path, text))


def test_a_definition_that_is_not_there(tmp_path):
    for definition in ("model.py", "model.pt2", "transformers:model"):
        with pytest.raises(ModelError, match=r"model\.definition: .*(there is no file|no config\.json)"):
            build(tmp_path, definition)


def test_example_inputs(tmp_path):
    def of(text: str):
        return example_inputs("model.py", lambda path: written(tmp_path, text) / path)

    assert of(LINEAR) is None
    assert [x.shape for x in of(LINEAR + "def example_inputs(): return torch.zeros(1, 3)\n")] == [(1, 3)]
    assert len(of(LINEAR + "def example_inputs(): return torch.zeros(1, 3), torch.zeros(1)\n")) == 2
    with pytest.raises(ModelError, match=r"example_inputs\(\) in .* returned int"):
        of(LINEAR + "def example_inputs(): return 3\n")
    with pytest.raises(ModelError, match=r"raised ZeroDivisionError.*\n  at .*model\.py:4"):
        of(LINEAR + "def example_inputs(): return 1 / 0\n")
    assert example_inputs("torchvision:resnet18", Path) is None


# definitions in a library


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_not_installed(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ToolMissing, match=f"{library}:resnet18 needs the package {library}") as caught:
        build(Path(), f"{library}:resnet18")
    assert caught.value.hint == f"pip install {library}"


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_model_of_a_library(library):
    usable_torchvision()
    assert count_parameters(build(Path(), f"{library}:resnet18")) == 11_689_512
    with pytest.raises(ModelError, match="has no model 'resnet19'"):
        build(Path(), f"{library}:resnet19")


def test_no_backbone_s_weights_are_downloaded(tmp_path, monkeypatch):
    usable_torchvision()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert count_parameters(build(tmp_path, "torchvision:lraspp_mobilenet_v3_large")) == 3_221_538
    assert list(tmp_path.iterdir()) == []


def test_transformers(tmp_path):
    usable_torchvision()  # transformers imports it where it is installed
    import transformers

    text = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=50, num_labels=3
    )
    image = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    transformers.BertForSequenceClassification(text).save_pretrained(tmp_path / "bert")
    image.architectures = ["ViTForImageClassification"]
    image.save_pretrained(tmp_path / "vit")  # a configuration without weights
    bert, vit = build(tmp_path, "transformers:bert"), build(tmp_path, "transformers:vit")
    ids = torch.ones(1, 6, dtype=torch.int64)
    saved = load_file(tmp_path / "bert" / "model.safetensors")
    assert torch.equal(bert.state_dict()["model.classifier.weight"], saved["classifier.weight"])
    assert bert(ids, ids).shape == (1, 3) and bert(ids).shape == (1, 3)
    assert trace(bert, (ids, ids)).module()(ids, ids).shape == (1, 3)
    refuse_half_loaded(bert, "transformers:bert")
    # A base model's weights lack the classifier, which would be random.
    base = {name: value for name, value in saved.items() if "classifier" not in name}
    save_file(base, tmp_path / "bert" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"transformers:bert: its safetensors lack classifier\.bias, classifier\.we"):
        refuse_half_loaded(build(tmp_path, "transformers:bert"), "transformers:bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    torch.save(saved, tmp_path / "bert" / "pytorch_model.bin")
    again = build(tmp_path, "transformers:bert")
    with pytest.raises(ModelError, match=r"its weights are in pytorch_model\.bin, which is read as model\.wei"):
        refuse_half_loaded(again, "transformers:bert")
    load_weights(again, tmp_path / "bert" / "pytorch_model.bin")
    torch.testing.assert_close(again.state_dict(), bert.state_dict(), rtol=0, atol=0)
    pixels = torch.zeros(1, 3, 8, 8)
    assert trace(vit, (pixels,)).module()(pixels).shape == (1, 2)
    image.architectures = ["ViTModel"]
    image.save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="is of ViTModel; wanted one ending in ForImageClassification"):
        build(tmp_path, "transformers:vit")
    (tmp_path / "vit" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a JSON configuration"):
        build(tmp_path, "transformers:vit")


def test_pt2(tmp_path):
    module = nn.Linear(3, 2).eval()
    example = (torch.ones(1, 3),)
    torch.export.save(trace(module, example), tmp_path / "model.pt2")
    again = build(tmp_path, "model.pt2")
    assert torch.equal(again(*example), module(*example))
    found = example_inputs("model.pt2", lambda path: tmp_path / path)
    assert found is not None and torch.equal(found[0], example[0])


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"])
def test_a_damaged_pt2(tmp_path, damage, capfd):
    torch.export.save(trace(nn.Linear(3, 2), (torch.ones(1, 3),)), tmp_path / "model.pt2")
    (tmp_path / "model.pt2").write_bytes(damage((tmp_path / "model.pt2").read_bytes()))
    with pytest.raises(ModelError, match=r"model\.pt2 is not a whole torch\.export archive: ") as caught:
        build(tmp_path, "model.pt2")
    assert "torch.export.save(" in caught.value.hint


# weights


def test_weights_in_every_form(tmp_path):
    wanted = nn.Linear(3, 2)
    state = wanted.state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nested.pt")
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "parallel.pth")
    for path in tmp_path.iterdir():
        module = nn.Linear(3, 2)
        load_weights(module, path)
        assert torch.equal(module.weight, wanted.weight) and torch.equal(module.bias, wanted.bias)


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(nn.Linear(3, 2), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"a whole pickled module, torch\.nn\.modules\.linear\.Linear") as caught:
        load_weights(nn.Linear(3, 2), tmp_path / "whole.pt")
    assert "save_file(" in caught.value.hint and len(caught.value.hint.splitlines()) == 4


class Evil:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_a_pickle_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pkl"):
        with pytest.raises(ModelError, match=r"is a pickle that runs code|not a whole PyTorch checkpoint"):
            load_weights(nn.Linear(3, 2), tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_the_hint_for_plain_weights_works(tmp_path):
    from pocketforge.model.weight_files import SAVE_SNIPPET

    lines = [line.strip().replace('"weights', f'"{tmp_path}/weights') for line in SAVE_SNIPPET.splitlines()[1:]]
    assert len(lines) == 3
    model = nn.Linear(3, 2)
    exec("\n".join(lines), {"model": model})
    load_weights(nn.Linear(3, 2), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"weight": 3}}])
def test_a_checkpoint_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"is not a state dict|does not fit"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_weights(tmp_path, name):
    with pytest.raises(ModelError, match=r"model\.weights: there is no file"):
        load_weights(nn.Linear(3, 2), tmp_path / name)
    state = nn.Linear(3, 2).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    whole = (tmp_path / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"hello, world"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.weights: .*(not a whole|is empty)"):
            load_weights(nn.Linear(3, 2), tmp_path / name)


def test_keys_that_do_not_fit(tmp_path):
    state = {f"extra.{number}": torch.zeros(1) for number in range(11)}
    state["weight"] = torch.zeros(2, 9)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    lines = caught.value.message.splitlines()
    assert "does not fit the model (2 entries):" in lines[0]
    assert lines[1] == "  1 missing: bias"
    assert lines[2].startswith("  11 unexpected: extra.0, extra.1, ") and lines[2].endswith(" … and 3 more")
    assert lines[3] == "  1 of another shape: weight [2, 9] instead of [2, 3]"


def test_old_checkpoints_lack_the_batch_norm_counter(tmp_path):
    state = nn.BatchNorm1d(3).state_dict()
    del state["num_batches_tracked"]
    save_file(state, tmp_path / "w.safetensors")
    load_weights(nn.BatchNorm1d(3), tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path, value):
    state = nn.Linear(3, 2).state_dict()
    state["bias"][1] = value
    save_file(state, tmp_path / "w.safetensors")
    module = nn.Linear(3, 2)
    with pytest.raises(ModelError, match=r"w\.safetensors has NaN or infinite values:\n  1 tensors: bias"):
        load_weights(module, tmp_path / "w.safetensors")
    assert torch.isfinite(module.bias).all()


def test_saving_is_deterministic_and_keeps_tied_weights(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    module = Tied()
    save_weights(module, tmp_path / "1.safetensors")
    save_weights(module, tmp_path / "2.safetensors")
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    again = Tied()
    load_weights(again, tmp_path / "1.safetensors")
    assert torch.equal(again.b.weight, module.a.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


# counting and tracing


def test_counts():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 5)
    )
    module.eval()
    assert count_parameters(module) == 3 * 8 * 9 + 16 + 128 * 5 + 5
    assert count_macs(module, (torch.zeros(1, 3, 4, 4),)) == 3 * 8 * 9 * 16 + 128 * 5


def test_a_model_that_cannot_be_traced_is_shown_the_line(tmp_path):
    text = (
        "from torch import nn\nclass M(nn.Module):\n    def forward(self, x):\n        y = x * 2\n"
        "        if y.sum() > 0:\n            return y\n        return x\ndef build(): return M()\n"
    )
    module = build(written(tmp_path, text))
    with pytest.raises(
        ModelError, match=r"cannot be traced with input \[1, 3\]: .*\n(.*\n)*  at .*model\.py:5 in forward"
    ):
        trace(module, (torch.ones(1, 3),))
    with pytest.raises(ModelError, match=r"cannot be traced with input \[1, 4\]: "):
        trace(nn.Linear(3, 2), (torch.ones(1, 4),))


# the models that ship


def shipped(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    def resolve(path: str) -> Path:
        return ROOT / "models" / name / path

    example = example_inputs("model.py", resolve)
    assert example is not None
    return build_model("model.py", {}, resolve), example


def test_mobilenet_v2_has_torchvisions_layout():
    module, example = shipped("mobilenet_v2")
    state = module.state_dict()
    assert len(state) == 314 and count_parameters(module) == 3_504_872
    assert count_macs(module, example) == 300_774_272
    assert list(state)[:2] == ["features.0.0.weight", "features.0.1.weight"]
    assert list(state)[-2:] == ["classifier.1.weight", "classifier.1.bias"]
    for name, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_var": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.2.conv.3.num_batches_tracked": (),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert state[name].shape == shape, name
    assert module(*example).shape == (1, 1000)


def test_mobilenet_v2_against_torchvision_itself():
    torchvision = usable_torchvision()
    wanted = torchvision.models.mobilenet_v2(weights=None).eval()
    module, _ = shipped("mobilenet_v2")
    module.load_state_dict(wanted.state_dict())
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(module(x), wanted(x))


@pytest.mark.parametrize(("name", "parameters"), [("simple_cnn", 25_578), ("digits_cnn", 114_666)])
def test_the_small_models(name, parameters):
    module, example = shipped(name)
    assert count_parameters(module) == parameters
    assert trace(module, example).module()(*example).shape == (1, 10)


def test_a_library_says_what_its_own_weights_were_trained_on():
    """`init` writes it into the recipe. Nothing is downloaded."""
    usable_torchvision()
    image_net = LibraryInput((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for library, name in (
        ("torchvision", "mobilenet_v2"),
        ("timm", "mobilenetv3_small_100"),
        ("timm", "mobilenetv3_small_100.lamb_in1k"),
    ):
        assert library_input(library, name) == image_net
    assert library_input("timm", "tf_efficientnet_lite0") == LibraryInput((224, 224), (0.5,) * 3, (0.5,) * 3)
    assert library_input("torchvision", "ssdlite320_mobilenet_v3_large") is None, "it has no such figures"
    with pytest.raises(ModelError, match="has no model 'mobilenet_v22'"):
        library_input("torchvision", "mobilenet_v22")
    tagged = build_model("timm:mobilenetv3_small_050.lamb_in1k", {"num_classes": 3}, Path)
    assert count_parameters(tagged) == count_parameters(
        build_model("timm:mobilenetv3_small_050", {"num_classes": 3}, Path)
    )
