"""Weights as people save them: what is loaded, to the value, what is said of it, and what is refused with which words.

The right values are the ones that the net had when it was saved: it answers the same after loading.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file, save_model  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

from pocketforge.errors import ModelError  # noqa: E402
from pocketforge.model.load import build_model  # noqa: E402
from pocketforge.model.surgery import KeepChannels, apply_edits, load_checkpoint, save_checkpoint  # noqa: E402
from pocketforge.model.weights import load_weights  # noqa: E402
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor  # noqa: E402
from pocketforge.outcomes.reference import WeightsRead  # noqa: E402
from pocketforge.pruning.subject import open_checkpoint  # noqa: E402
from pocketforge.recipe.model import InputSpec  # noqa: E402
from pocketforge.specs.reference import ReferenceSpec  # noqa: E402
from pocketforge.specs.trained import ModelSource  # noqa: E402
from pocketforge.stages.reference import load_traced  # noqa: E402


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.out = nn.Linear(4, 8, bias=False)
        if tie:
            self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x.abs().sum((1, 2, 3)).long() % 8))


class Renamed(Net):
    """Takes names of an earlier version, by a hook of its own."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        for part in ("weight", "bias"):
            if f"{prefix}fc_{part}" in state:
                state[f"{prefix}head.{part}"] = state.pop(f"{prefix}fc_{part}")
        super()._load_from_state_dict(state, prefix, *rest)


class Extra(Net):
    def get_extra_state(self) -> Any:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"version": 3}


class Versioned(Net):
    """Loads what says its version, as torchvision's MNASNet."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        if (version := local_metadata.get("version")) not in (1, 2):
            raise ValueError(f"version should be set to 1 or 2 instead of {version}")
        super()._load_from_state_dict(state, prefix, local_metadata, *rest)


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(4, 3, groups=2)
        self.bn = nn.LazyBatchNorm2d()
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


X = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """`net` as if it had been trained: no statistic is its first value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net(X)
        for name, value in net.state_dict().items():
            if (
                isinstance(value, Tensor)
                and value.is_floating_point()
                and "mask" not in name
                and not name.endswith(("_u", "_v"))
            ):
                drawn = torch.randn(value.shape, generator=generator) * 0.3
                value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
        net.eval()
    return net


def answer(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net.eval()(X)


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


NET = trained(Net())
STATE = dict(NET.state_dict())
OTHER = dict(trained(Net(), seed=5).state_dict())


FORMS: dict[str, Callable[[Net], Any]] = {
    "weight_norm": lambda net: (nn.utils.weight_norm(net.conv), nn.utils.weight_norm(net.head, dim=None)),
    "new weight_norm": lambda net: (
        parametrizations.weight_norm(net.conv),
        parametrizations.weight_norm(net.head, dim=1),
    ),
    "spectral_norm": lambda net: (nn.utils.spectral_norm(net.conv), nn.utils.spectral_norm(net.head)),
    "new spectral_norm": lambda net: parametrizations.spectral_norm(net.conv),
    "pruned": lambda net: (
        prune.random_unstructured(net.conv, "weight", 0.5),
        prune.l1_unstructured(net.head, "bias", 1),
    ),
}


def normed(form: str, seed: int = 3) -> nn.Module:
    """Net with weights in another form."""
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own words on old forms
        FORMS[form](net)
    return trained(net, seed)


def quantized(value: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def nested(value: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([value[0], value[1, :2]])


def headed(norm: Callable[[nn.Module], nn.Module] | None = None, new: bool = False) -> nn.Module:
    """Net's last layer alone, or a new one like it, under a weight norm."""
    layer = nn.Linear(4, 3) if new else copy.deepcopy(NET.head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(norm(layer) if norm else layer)


@dataclasses.dataclass(frozen=True)
class Taken:
    """What is saved; into what; what must be said. The answer must be that of `like`."""

    content: Any
    into: Callable[[], nn.Module] = Net
    like: nn.Module = NET
    says: tuple[str, ...] = ()
    key: str = ""
    name: str = "w.pt"
    tolerance: float = 0.0


def _compiled_backbone() -> dict[str, Any]:
    return {name.replace("conv.", "conv._orig_mod."): value for name, value in STATE.items()}


def _swa() -> dict[str, Any]:
    return torch.optim.swa_utils.AveragedModel(copy.deepcopy(NET)).state_dict()


def _optimizer() -> dict[str, Any]:
    net = copy.deepcopy(NET).train()
    optimizer = torch.optim.AdamW(net.parameters(), amsgrad=True)
    net(X).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


LAZY = trained(Lazy())
TIED = trained(Tied())
WN, WN2, SN, SN2, PRUNED = (
    normed(form) for form in ("weight_norm", "new weight_norm", "spectral_norm", "new spectral_norm", "pruned")
)
HALF = {n: v.half() for n, v in STATE.items()}
HALF_NET = Net().eval()
HALF_NET.load_state_dict(HALF)
NO_COUNTERS = {n: v for n, v in STATE.items() if "num_batches" not in n}

TAKEN: dict[str, Taken] = {
    "plain": Taken(STATE),
    "plain safetensors": Taken(STATE, name="w.safetensors"),
    "safetensors under another name": Taken(STATE, name="w.safetensors"),
    "state_dict": Taken(
        {"state_dict": STATE, "epoch": 3, "optimizer": _optimizer()}, says=("taken from 'state_dict'",)
    ),
    "model_state_dict": Taken({"model_state_dict": STATE}, says=("taken from 'model_state_dict'",)),
    "net": Taken({"net": STATE, "acc": 0.9}, says=("taken from 'net'",)),
    "params": Taken({"params": STATE}, says=("taken from 'params'",)),
    "params_ema alone": Taken({"params_ema": STATE}, says=("taken from 'params_ema'",)),
    "weights": Taken({"weights": STATE}, says=("taken from 'weights'",)),
    "a name of one's own": Taken({"Netz": STATE}, says=("taken from 'Netz'",)),
    "nested": Taken({"checkpoint": {"model": {"net": STATE}}}, says=("taken from 'checkpoint.model.net'",)),
    "a tuple": Taken((STATE, 7), says=("taken from '0'",)),
    "DeepSpeed": Taken({"module": STATE, "buffer_names": ["bn.running_mean"], "ds_version": "0.1"}, says=("'module'",)),
    "DataParallel": Taken(prefixed(STATE, "module."), says=("prefix 'module.' taken off 9 names",)),
    "compiled": Taken(prefixed(STATE, "_orig_mod."), says=("prefix '_orig_mod.' taken off 9 names",)),
    "compiled DDP": Taken(prefixed(STATE, "module._orig_mod."), says=("prefix 'module._orig_mod.' taken off 9",)),
    "a part compiled": Taken(_compiled_backbone(), says=("'_orig_mod' taken out of names",)),
    "Lightning": Taken(
        {"state_dict": prefixed(STATE, "model."), "pytorch-lightning_version": "2.4", "loops": {"x": {}}},
        says=("taken from 'state_dict'", "prefix 'model.' taken off 9 names"),
    ),
    "Lightning with a loss": Taken(
        {"state_dict": {**prefixed(STATE, "net."), "loss.weight": torch.ones(3), "acc.tp": torch.zeros(3)}},
        says=("prefix 'net.' taken off 9 names", "2 other entries left out: loss.weight, acc.tp"),
    ),
    "a wrapper's own model": Taken(
        STATE,
        into=lambda: nn.Sequential(OrderedDict(model=Net())),
        says=("prefix 'model.' put before 9 names",),
    ),
    "parts": Taken(
        {"conv": NET.conv.state_dict(), "bn": NET.bn.state_dict(), "head": NET.head.state_dict()},
        says=("the parts conv, bn, head joined",),
    ),
    "AveragedModel": Taken(_swa(), says=("prefix 'module.' taken off 9 names", "left out: n_averaged")),
    "EMA chosen": Taken({"model": OTHER, "ema": STATE}, key="ema", says=("taken from 'ema'",)),
    "EMA with its decay chosen": Taken({"model": OTHER, "ema": {"decay": 0.9, "module": STATE}}, key="ema"),
    "raw beside EMA chosen": Taken({"model": STATE, "model_ema": OTHER}, key="model", says=("taken from 'model'",)),
    "timm's EMA chosen": Taken({"state_dict": OTHER, "state_dict_ema": STATE}, key="state_dict_ema"),
    "EMA by prefix chosen": Taken(
        {"state_dict": {**prefixed(OTHER, "net."), **prefixed(STATE, "ema_net.")}}, key="state_dict.ema_net"
    ),
    "the file's top chosen": Taken({**STATE, "ema": OTHER}, key="."),
    "the same weights twice": Taken({"model": STATE, "ema": {n: v.clone() for n, v in STATE.items()}}),
    "one dict under two keys": Taken({"model": STATE, "ema": STATE}, key="ema", says=("taken from 'ema'",)),
    "a loss's EMA is none": Taken({"model": STATE, "optimizer": _optimizer(), "ema_loss": torch.tensor(0.3)}),
    "NumPy scalar": Taken({"state_dict": STATE, "best": np.float64(0.5)}, says=("not read: objects of NumPy",)),
    "NumPy scalar in the state dict": Taken({**STATE, "acc": np.float32(0.5)}, says=("left out, no tensors: acc",)),
    "Namespace": Taken(
        {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, says=("not read: objects of argparse.Namespace",)
    ),
    "paths and dates": Taken(
        {"model": STATE, "at": datetime.datetime(2024, 1, 1), "to": Path("x")}, says=("datetime",)
    ),
    "a class of one's own": Taken(
        {"model": STATE, "config": Taken(1)}, says=("not read: objects of test_weights.Taken",)
    ),
    "beside in one dict": Taken({**STATE, "epoch": 3, "name": "a"}, says=("left out, no tensors: epoch, name",)),
    "tied, all names": Taken(TIED.state_dict(), into=Tied, like=TIED),
    "tied, by save_model": Taken(save_model, into=Tied, like=TIED, name="w.safetensors"),
    "tied, into a model that ties nothing": Taken(save_model, lambda: Tied(False), like=TIED, name="w.safetensors"),
    "tied, by save_model, in a prefix": Taken(
        lambda path: save_model(nn.ModuleDict({"model": TIED}), str(path)),
        lambda: Tied(False),
        TIED,
        name="w.safetensors",
    ),
    "tied, one name": Taken(
        {"embed.weight": TIED.embed.weight.data}, Tied, TIED, ("tied in the model: out.weight is embed.weight",)
    ),
    "lazy": Taken(LAZY.state_dict(), Lazy, LAZY),
    "lazy in a container": Taken({"net": prefixed(dict(LAZY.state_dict()), "module.")}, Lazy, LAZY),
    "no counters": Taken(NO_COUNTERS),
    "no counters, versions": Taken("no counters, versions"),
    "half": Taken(
        HALF, like=HALF_NET, says=("8 tensors cast from float16 to float32", "1 step counters of batch norm left out")
    ),
    "bfloat16 safetensors": Taken(
        {n: v.bfloat16() if v.is_floating_point() else v for n, v in STATE.items()},
        name="w.safetensors",
        says=("8 tensors cast from bfloat16 to float32",),
        tolerance=0.05,
    ),
    "double": Taken({n: v.double() for n, v in NO_COUNTERS.items()}, says=("8 tensors cast from float64 to float32",)),
    "float8": Taken(
        {n: v.to(torch.float8_e4m3fn) for n, v in NO_COUNTERS.items()},
        name="w.safetensors",
        says=("8 tensors cast from float8_e4m3fn to float32",),
        tolerance=0.5,
    ),
    "a counter of torch 0.3": Taken({**STATE, "bn.num_batches_tracked": torch.tensor([3])}),
    "int32 counters": Taken({**STATE, "bn.num_batches_tracked": torch.tensor(3, dtype=torch.int32)}),
    "sparse": Taken({**STATE, "head.weight": STATE["head.weight"].to_sparse()}, says=("sparse tensors made dense",)),
    "old hook": Taken({n.replace("head.", "fc_"): v for n, v in STATE.items()}, into=Renamed),
    "a part in DataParallel": Taken(
        {n.replace("head.", "head.module."): v for n, v in STATE.items()}, says=("'module' taken out of names",)
    ),
    "old hook in a container": Taken(
        {"state_dict": prefixed({n.replace("head.", "fc_"): v for n, v in STATE.items()}, "model.")}, into=Renamed
    ),
    "no versions": Taken(STATE, Versioned, says=("the file has no versions of modules: taken as the model's",)),
    "no versions, safetensors": Taken(STATE, Versioned, says=("taken as the model's",), name="w.safetensors"),
    "extra state": Taken(trained(Extra()).state_dict(), into=Extra, like=trained(Extra())),
    "pruned": Taken(PRUNED.state_dict(), like=PRUNED, says=("2 pruning mask(s) applied",)),
    "pruned into pruned": Taken(PRUNED.state_dict(), lambda: normed("pruned", 4), PRUNED),
    "pruned in Lightning": Taken({"state_dict": prefixed(dict(PRUNED.state_dict()), "model.")}, like=PRUNED),
    "weight_norm": Taken(WN.state_dict(), like=WN, says=("2 weight norm(s) applied",), tolerance=1e-6),
    "weight_norm into its own": Taken(WN.state_dict(), lambda: normed("weight_norm", 4), WN),
    "new weight_norm": Taken(WN2.state_dict(), like=WN2, says=("2 weight norm(s) applied",), tolerance=1e-6),
    "new weight_norm into its own": Taken(WN2.state_dict(), lambda: normed("new weight_norm", 4), WN2),
    "old names into new weight_norm": Taken(
        headed(nn.utils.weight_norm).state_dict(),
        lambda: headed(parametrizations.weight_norm, new=True),
        headed(),
        tolerance=1e-6,
    ),
    "new names into old weight_norm": Taken(
        headed(parametrizations.weight_norm).state_dict(),
        lambda: headed(nn.utils.weight_norm, new=True),
        headed(),
        ("renamed or split for the model's weight norm",),
        tolerance=1e-6,
    ),
    "plain into weight_norm": Taken(STATE, lambda: normed("weight_norm", 4), tolerance=1e-6),
    "spectral_norm": Taken(SN.state_dict(), like=SN, says=("2 spectral norm(s) applied",), tolerance=1e-6),
    "new spectral_norm": Taken(SN2.state_dict(), like=SN2, says=("1 spectral norm(s) applied",), tolerance=1e-6),
}


def write(content: Any, path: Path) -> Path:
    if callable(content) and not isinstance(content, nn.Module) and content is not save_model:
        content(path)
    elif content is save_model:
        save_model(TIED, str(path))
    elif content == "no counters, versions":
        state = NET.state_dict()  # it has torch's versions of modules
        del state["bn.num_batches_tracked"]
        torch.save(state, path)
    elif path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def test_every_way_to_save_weights_is_read_and_said(place: Path) -> None:
    wrong = []
    for case, taken in TAKEN.items():
        path = write(taken.content, place / taken.name)
        if case == "safetensors under another name":
            path = path.rename(place / "w.bin")
        net = taken.into().eval()
        try:
            loaded = load_weights(net, path, taken.key)
        except ModelError as error:
            wrong.append(f"{case}: {error}")
            continue
        with torch.no_grad():
            x = X if not isinstance(net, nn.Sequential) or hasattr(net, "model") else torch.eye(4)
            far = float((net(x) - taken.like.eval()(x)).abs().max())
        said = "; ".join(loaded.done)
        if not far <= taken.tolerance:
            wrong.append(f"{case}: {far} off ({said})")
        wrong += [f"{case}: {words!r} is not said: {said!r}" for words in taken.says if words not in said]
        if case.startswith("plain") and loaded.done and "into" not in case:
            wrong.append(f"{case}: {said!r} is said of a plain file")
    assert not wrong, "\n".join(wrong)


def raw(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def torch_zip(path: Path, change: Callable[[bytes], bytes]) -> None:
    """What torch saves of STATE, changed."""
    torch.save(STATE, path)
    path.write_bytes(change(path.read_bytes()))


class Acts:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


class Attributes(dict[str, Any]):
    """Lightning's AttributeDict is one."""


def save_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; people have its files
        torch.jit.trace(NET, X).save(str(path))


def zipped(**records: bytes) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in records.items():
                archive.writestr(name.replace("__", "/"), data)

    return write


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\0" * (1 << 27))


def changed(**values: Any) -> dict[str, Any]:
    return {**STATE, **{name.replace("__", "."): value for name, value in values.items()}}


@dataclasses.dataclass(frozen=True)
class Refused:
    """Content to save (or what writes the file), and what the error must say; never of it: `silent`."""

    content: Any
    says: tuple[str, ...]
    into: Callable[[], nn.Module] = Net
    key: str = ""
    name: str = "w.pt"
    silent: str = "diverged"


DENSE = STATE["head.weight"]
BIG = {f"layers.{n}.{part}": torch.zeros(3) for n in range(30) for part in ("scale", "shift")}

REFUSED: dict[str, Refused] = {
    "EMA beside raw": Refused(
        {"model": OTHER, "ema": STATE},
        ("holds several weights that fit the model, and they differ: 'model', 'ema'", 'weights_key = "ema"'),
    ),
    "timm's EMA": Refused({"state_dict": OTHER, "state_dict_ema": STATE}, ("'state_dict', 'state_dict_ema'",)),
    "BasicSR's EMA": Refused({"params": OTHER, "params_ema": STATE}, ("'params', 'params_ema'",)),
    "EMA's names beside raw ones": Refused(
        {"state_dict": {**prefixed(OTHER, "model."), **prefixed(STATE, "ema_model.")}},
        ("'state_dict.model', 'state_dict.ema_model'", 'weights_key = "state_dict.model"'),
    ),
    "EMA in the same dict": Refused({**STATE, "ema": OTHER}, ("'.', 'ema'", 'weights_key = "."')),
    "averaged parameters in a list": Refused(
        {"model": STATE, "ema": {"decay": 0.9, "shadow_params": list(NO_COUNTERS.values())}},
        ("averaged weights that do not fit the model, 'ema.shadow_params' (8 tensors without names)",),
    ),
    "averaged parameters alone": Refused(
        {"model": STATE, "ema": {n: OTHER[n] for n, _ in NET.named_parameters()}},
        (
            "averaged weights that do not fit the model, 'ema' (6 tensors)",
            'weights_key = "model" takes those that fit',
        ),
    ),
    "a pickled module as EMA": Refused(
        {"model": STATE, "ema": NET}, ("'ema' (a whole pickled module, test_weights.Net)", 'weights_key = "model"')
    ),
    "two members": Refused({"state_dict": {**prefixed(STATE, "a."), **prefixed(OTHER, "b.")}}, ("several weights",)),
    "unknown key": Refused(
        {"model": STATE, "optimizer": _optimizer()},
        ("model.weights_key: ", "has no weights under 'ema'; it holds 'model' (9 tensors)"),
        key="ema",
    ),
    "a key that does not fit": Refused(
        {"model": STATE, "ema": {"head.weight": DENSE}},
        ("does not fit the model (9 entries)", "missing: conv.w"),
        key="ema",
    ),
    "names and shapes": Refused(
        {
            **{n: v for n, v in STATE.items() if n != "head.bias"},
            "head.biases": torch.ones(3),
            "bn.weight": torch.ones(5),
        },
        (
            "does not fit the model (9 entries):\n  1 missing: head.bias (near it: head.biases)\n",
            "  1 unexpected: head.biases\n  1 of another shape: bn.weight [5] instead of [4]\n",
            "hint: is it another version of the model",
        ),
    ),
    "many names": Refused(BIG, ("8 missing: conv.weight, ", "60 unexpected: layers.0.scale, ", "… and 52 more")),
    "does not fit in a container": Refused(
        {"state_dict": {**prefixed(STATE, "model."), "model.extra.weight": DENSE}},
        ("read so: taken from 'state_dict'; prefix 'model.' taken off 10 names:", "1 unexpected: extra.weight"),
    ),
    "nothing of it, beside an optimizer": Refused(
        {"net": {f"other.{n}.w": torch.zeros(2) for n in range(40)}, "optimizer": _optimizer()},
        ("taken from 'net'", "40 unexpected: other.0.w"),
    ),
    "parametrized": Refused(
        {**{n: v for n, v in STATE.items() if n != "head.weight"}, "head.parametrizations.weight.original": DENSE},
        ("1 missing: head.weight", "remove_parametrizations"),
    ),
    "int8": Refused(changed(head__weight=DENSE.to(torch.int8)), ("head.weight is int8, the model's is float32",)),
    "bool": Refused(
        changed(head__weight=DENSE > 0), ("1 of another kind: head.weight is bool, the model's is float32",)
    ),
    "complex": Refused(changed(head__bias=torch.ones(3) + 1j), ("head.bias is complex64, the model's is float32",)),
    "quantized": Refused(
        changed(head__weight=quantized(DENSE)),
        ("head.weight is qint8, the model's",),
    ),
    "int8 safetensors": Refused(
        {n: (v * 9).to(torch.int8) for n, v in NO_COUNTERS.items()},
        ("8 of another kind: ", "conv.weight is int8", "floating-point weights"),
        name="w.safetensors",
    ),
    "int8 under a hook's old name": Refused(
        {**{n: v for n, v in STATE.items() if n != "head.weight"}, "fc_weight": DENSE.to(torch.int8)},
        ("1 of another kind: fc_weight is int8, the model's is float32",),
        into=Renamed,
    ),
    "float for whole numbers": Refused(
        {"ids": torch.ones(3), "weight": torch.ones(2)},
        ("ids is float32, the model's is int64",),
        into=lambda: with_ids(),
    ),
    "too large for int32": Refused(
        {"ids": torch.tensor([1, 2, 1 << 40]), "weight": torch.ones(2)},
        ("ids is int64 with values that the model's int32 cannot hold",),
        into=lambda: with_ids(torch.int32),
    ),
    "without values": Refused(changed(head__weight=DENSE.to("meta")), ("head.weight is without values (float32)",)),
    "nested": Refused(changed(head__weight=nested(DENSE)), ("head.weight is nested (float32)",)),
    "NaN": Refused(
        changed(head__weight=DENSE.clone().fill_(float("nan"))),
        ("NaN or infinite values:\n  1 tensors: head.weight (12 values)", "damaged file", "SHA-256"),
        silent="trained weights are that large",
    ),
    "NaN everywhere": Refused(
        {n: v * float("nan") if v.is_floating_point() else v for n, v in STATE.items()},
        ("8 tensors: conv.weight, ", "hint: the training diverged: use an earlier checkpoint"),
        silent="damaged",
    ),
    "infinite float16": Refused(
        changed(head__bias=torch.full((3,), float("inf"), dtype=torch.float16)),
        ("head.bias (3",),
        silent="float32 cannot",
    ),
    "too large for float32": Refused(
        changed(head__bias=torch.full((3,), 1e300, dtype=torch.float64)),
        ("values that the model's float32 cannot hold:\n  1 tensors: head.bias",),
    ),
    "tied and different": Refused(
        {"embed.weight": torch.zeros(8, 4), "out.weight": torch.ones(8, 4)},
        ("1 one tensor in the model, and not in the file: embed.weight = out.weight",),
        into=Tied,
    ),
    "a hook that raises": Refused({**STATE, "_extra_state": {"version": 4}}, ("torch: AssertionError",), into=Extra),
    "a pickled module": Refused(
        NET, ("a whole pickled module, test_weights.Net: loading it would run its program", "model.state_dict()")
    ),
    "a pickled Sequential": Refused(
        {"net": nn.Sequential(nn.ReLU())}, ("pickled module, torch.nn.modules.container.Sequential under 'net'",)
    ),
    "code": Refused(
        {"a": DENSE, "b": Acts(os.mkdir, "ran")},
        ("is a pickle that runs code", f"(it names {os.mkdir.__module__}.mkdir)"),
    ),
    "eval": Refused({"a": DENSE, "b": Acts(eval, "1/0")}, ("is a pickle that runs code", "(it names eval)")),
    "a dict of one's own": Refused(
        {"a": DENSE, "hparams": Attributes(lr=0.1)},
        ("objects that cannot be read without their program: test_weights.Attributes",),
    ),
    "protocol 5": Refused(
        raw(pickle.dumps({"a": [1.0]}, protocol=5)), ("is not a whole PyTorch checkpoint", "protocol 5")
    ),
    "TorchScript": Refused(save_script, ("is a TorchScript file", 'torch.jit.load("w.pt").state_dict()')),
    "torch.export": Refused(zipped(m__archive_format=b"pt2"), ("is a torch.export archive", 'definition = "w.pt2"')),
    "ONNX": Refused(raw(b"\x08\x08\x12\x07pytorch" * 9), ("is an ONNX model",), name="w.onnx"),
    "a damaged record": Refused(
        lambda p: torch_zip(p, lambda b: b.replace(DENSE.numpy().tobytes(), b"\1" * 48)), ("is damaged: w/data/",)
    ),
    "control characters": Refused({"a\x1b[31m": DENSE}, ("unexpected: a\\x1b[31m",)),
    "one tensor": Refused(DENSE, ("is not a state dict: wanted tensors by name", "found one tensor [3, 4]")),
    "no tensors": Refused({"epoch": 3, "loss": [1.0]}, ("is not a state dict", "found 'epoch' (int), 'loss' (a list)")),
    "nothing": Refused({}, ("found an empty dict",)),
    "NumPy arrays": Refused({"a": np.ones(3)}, ("is not a state dict", "found 'a' (a NumPy value)")),
    "empty": Refused(raw(b""), ("is empty; wanted safetensors or a PyTorch checkpoint",)),
    "zeros": Refused(raw(b"\0" * 500), ("is nothing but zeros",)),
    "Git LFS": Refused(
        raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        ("is a Git LFS pointer, not the weights themselves", "hint: git lfs pull"),
        name="w.safetensors",
    ),
    "HTML": Refused(raw(b"\n<!DOCTYPE html><html>Sign in"), ("is an HTML or XML page",), name="w.safetensors"),
    "JSON": Refused(raw(b'{"a": 1}'), ("is a JSON text",)),
    "an index": Refused(raw(b'{"metadata": {}, "weight_map": {}}'), ("an index of weights in several files",)),
    "gzip": Refused(raw(b"\x1f\x8b\x08\0" + b"a" * 90), ("is compressed with gzip", "gunzip")),
    "Keras": Refused(raw(b"\x89HDF\r\n\x1a\n" + b"a" * 90), ("is an HDF5 file (Keras)",)),
    "npz": Refused(zipped(**{"a.npy": b"1"}), ("is NumPy arrays (.npz): a.npy",)),
    "another zip": Refused(zipped(**{"readme.txt": b"1"}), ("is a zip archive of something else: readme.txt",)),
    "a zip bomb": Refused(bomb, ("would unpack to 134,217,728",)),
    "cut short": Refused(lambda p: torch_zip(p, lambda b: b[: len(b) // 2]), ("is not a whole PyTorch checkpoint",)),
    "noise": Refused(raw(bytes(range(7, 250)) * 3), ("is not a whole PyTorch checkpoint",)),
    "noise in safetensors": Refused(
        raw(b"abcdefgh" * 9), ("not a whole safetensors file: it begins",), name="w.safetensors"
    ),
    "safetensors cut short": Refused(
        lambda p: (save_file(STATE, p), p.write_bytes(p.read_bytes()[:-100])),
        ("is not a whole safetensors file",),
        name="w.safetensors",
    ),
    "a header cut short": Refused(
        lambda p: (save_file(STATE, p), p.write_bytes(p.read_bytes()[:60])),
        ("is not a whole safetensors file: its header says",),
        name="w.safetensors",
    ),
    "a folder": Refused(lambda p: p.mkdir(), ("is a folder, not a file",), name="folder"),
    "a pipe": Refused(lambda p: os.mkfifo(p), ("is a pipe or a device, not a file",), name="pipe"),
    "nothing there": Refused(lambda p: None, ("there is no file",), name="none.pt"),
}


def with_ids(dtype: Any = torch.int64) -> nn.Module:
    net = nn.Module()
    net.weight = nn.Parameter(torch.zeros(2))
    net.register_buffer("ids", torch.zeros(3, dtype=dtype))
    return net


def test_every_file_that_is_not_the_models_weights_is_refused_by_name(place: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(place)
    wrong = []
    for case, refused in REFUSED.items():
        path = place / refused.name
        if callable(refused.content) and not isinstance(refused.content, nn.Module):
            refused.content(path)
        else:
            write(refused.content, path)
        try:
            loaded = load_weights(refused.into(), path, refused.key)
            wrong.append(f"{case}: taken ({loaded.done})")
        except ModelError as error:
            said = str(error)
            wrong += [
                f"{case}: {words!r} is not said: {said}" for words in (*refused.says, str(path)) if words not in said
            ]
            if refused.silent in said or len(said) > 2000:
                wrong.append(f"{case}: says too much: {said[:3000]}")
    assert not wrong, "\n".join(wrong)
    assert not (place / "ran").exists()


def test_a_refused_file_leaves_the_model_as_it_was(place: Path) -> None:
    for content in ({"model": OTHER, "ema": STATE}, {**OTHER, "head.bias": torch.full((3,), float("nan"))}):
        net = Net().eval()
        before = answer(net)
        with pytest.raises(ModelError):
            load_weights(net, write(content, place / "w.pt"))
        assert torch.equal(answer(net), before)


LAZY_MODEL = """
from torch import nn
def build():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
"""


def test_lazy_layers_in_stages_and_checkpoints(place: Path) -> None:
    (place / "lazy.py").write_text(LAZY_MODEL)
    net = build_model("lazy.py", {}, lambda name: place / name)
    x = X[:1]
    wanted = net(x)
    torch.save({"net": net.state_dict()}, place / "w.pt")
    inputs = {"data_root": place, "weights": place / "w.pt", "data": place}
    spec = ReferenceSpec(ModelSource("lazy.py", {}, 0), (InputSpec(tuple(x.shape)),), (), "regression", "r2")
    samples = SampleTensor(tuple(x.shape[1:]), "float32")
    data = Sampled("", "regression", (), Counts(1, 0, 0, 1, 0, 0), {}, (samples,), SampleTensor((), "float32"),
                   Preprocessing(None, None, ()), None, ())  # fmt: skip
    np.save(place / "eval_0.npy", x.numpy())
    traced = load_traced(inputs, spec, data)
    assert torch.equal(traced.program.module()(x), wanted)
    assert traced.parameters == sum(value.numel() for value in net.parameters())
    assert traced.weights == WeightsRead("w.pt", "net", ("taken from 'net'",))
    # Without weights a first input tells the sizes, and the seed the values.
    spec = dataclasses.replace(spec, model=ModelSource("lazy.py", {}, 5))
    drawn = [load_traced({"data_root": place, "data": place}, spec, data).program.module()(x) for _ in range(2)]
    assert torch.equal(*drawn)
    checkpoint = open_checkpoint(inputs, spec.model)
    assert type(checkpoint.module[0]) is nn.Conv2d and checkpoint.module[0].in_channels == 2
    edit = KeepChannels({"0.weight": {0: (0, 3)}, "0.bias": {0: (0, 3)}, "3.weight": {1: tuple(range(32))}})
    apply_edits(checkpoint.module, [edit])
    checkpoint.edits.append(edit)
    save_checkpoint(checkpoint, place / "saved")
    again = load_checkpoint(place / "saved", resolve=lambda name: place / name)
    assert torch.equal(again.module(x), checkpoint.module(x))
    assert again.weights == checkpoint.weights


def test_torchscript_under_the_name_of_an_exported_program_is_told_what_it_is(tmp_path):
    from zipfile import ZipFile

    from pocketforge.model.load import load_exported

    path = tmp_path / "net.pt2"
    with ZipFile(path, "w") as archive:
        archive.writestr("net/code/__torch__.py", "")
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(ModelError, match=r"net\.pt2 is a TorchScript file, whose graph cannot be traced") as refused:
        load_exported(path)
    assert 'torch.jit.load("net.pt2").state_dict()' in refused.value.hint
