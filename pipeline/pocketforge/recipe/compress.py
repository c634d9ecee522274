"""What `[[compress]]` may hold: frozen data, a class for each `type`, cross-field rules checked where each is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pocketforge.recipe.model import definition_place
from pocketforge.recipe.names import Runtime, check_args
from pocketforge.recipe.ranges import INNER_SHARE, SHARE_BELOW_ONE, Range, check_path, check_ranges

Auto = Literal["auto"]


_EPOCHS = Range(1, 10_000)
_WEIGHT = Range(0, 1e9, open_low=True)


@dataclass(frozen=True, slots=True)
class Goal:
    """How far to prune: until `metric` is at most `limit`, or until the share `removed` of it is gone.

    Attributes:
        metric: latency_ms is measured: the candidate is exported and timed on the host. instructions and
            estimated_latency_ms are of the exported candidate on `device`.
        limit: The most that may be left, in the metric's unit; None where `removed` says it.
        removed: The share to remove, 0 to 1; None where `limit` says it.
        device: `host`, or an emulated device of the recipe.
        runtime: What a candidate is exported to; None: the first target's.
    """

    metric: Literal["macs", "parameters", "latency_ms", "instructions", "estimated_latency_ms"]
    limit: float | None = None
    removed: float | None = None
    device: str = "host"
    runtime: Runtime | None = None

    RANGES: ClassVar[Mapping[str, Range]] = {"limit": Range(0, 1e18, open_low=True), "removed": INNER_SHARE}

    def __post_init__(self) -> None:
        if (self.limit is None) == (self.removed is None):
            raise ValueError(
                "a goal needs limit (the most that may be left) or removed (the share to remove), not both"
            )
        check_ranges(self)
        if self.runtime and self.metric in ("macs", "parameters"):
            raise ValueError(f"runtime is for metrics of an exported file, found metric {self.metric!r}")
        if self.metric == "latency_ms" and self.device != "host":
            raise ValueError(f"latency_ms is measured on the host, found device {self.device!r}")
        if self.emulated and self.device == "host":
            raise ValueError(f'{self.metric} needs device: the name of a [[device]] with via = "emulator"')

    @property
    def emulated(self) -> bool:
        """Whether the metric comes from an emulated device."""
        return self.metric in ("instructions", "estimated_latency_ms")

    @property
    def timed(self) -> bool:
        """Whether candidates are timed on the host."""
        return self.metric == "latency_ms"

    @property
    def exported(self) -> bool:
        """Whether the metric is of an exported file, not of the PyTorch model."""
        return self.timed or self.emulated


@dataclass(frozen=True, slots=True)
class PruneUnstructured:
    """`type = "prune_unstructured"`: set single weights of conv and linear layers to zero; masks hold from then on.

    Attributes:
        type: Of the entry.
        scope: global ranks all layers' weights together, local each layer's own.
        criterion: l1 and l2 rank single weights alike; taylor is |weight × gradient| on calibration samples (Molchanov
            et al. 2017).
        amount: Share of zeros, 0 to 1; None where amounts or n_m say it.
        amounts: Layer name pattern → amount (local).
        n_m: [2, 4] keeps the 2 largest of every 4 neighbouring inputs.
        schedule: cubic: from 0 to amount during the fine-tuning that follows (Zhu & Gupta 2017).
        protect: Layers that stay whole, by name pattern.
    """

    type: Literal["prune_unstructured"] = "prune_unstructured"
    scope: Literal["global", "local"] = "global"
    criterion: Literal["l1", "l2", "taylor", "random"] = "l1"
    amount: float | None = None
    amounts: dict[str, float] = field(default_factory=dict)
    n_m: tuple[int, ...] = ()
    schedule: Literal["once", "cubic"] = "once"
    protect: tuple[str, ...] = ()

    RANGES: ClassVar[Mapping[str, Range]] = {"amount": INNER_SHARE, "amounts": SHARE_BELOW_ONE, "n_m": Range(1, 1024)}

    def __post_init__(self) -> None:
        given = [name for name in ("amount", "amounts", "n_m") if getattr(self, name) not in (None, {}, ())]
        if not given:
            raise ValueError("prune_unstructured needs amount, amounts or n_m")
        if self.n_m and len(given) > 1:
            raise ValueError(f"n_m fixes the share of zeros by itself: leave out {' and '.join(given[:-1])}")
        if self.amounts and self.scope == "global":
            raise ValueError('amounts are for scope = "local": a global ranking has one amount')
        if self.n_m and (len(self.n_m) != 2 or not 0 < self.n_m[0] < self.n_m[1]):
            raise ValueError(f"n_m must be [n, m] with 0 < n < m, as in [2, 4], found {list(self.n_m)}")
        if self.n_m and self.schedule != "once":
            raise ValueError("schedule cubic raises an amount step by step: it has no meaning for n_m")
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class PruneChannels:
    """`type = "prune_channels"`: remove whole channels and all that depends on them (DepGraph, Fang et al. 2023).

    How much: ratio, ratios or a goal.

    Attributes:
        type: Of the entry.
        importance: By which channels are ranked (pruning/importance.py).
        scope: local: each layer loses the same share; global: the least important channel of all goes first.
        ratio: Share of each layer's channels, 0 to 1; "auto": of each layer's its own, from a sensitivity study.
        ratios: Layer name pattern → ratio.
        head_ratio: Share of the attention heads, 0 to 1.
        goal: Decides how much.
        round_to: What is left is a multiple of it (the micro-kernels' tiles).
        steps: In how many steps.
        finetune: Between the steps; None trains nothing there.
        protect: Layers that stay whole, by name pattern.
        max_ratio: The most that a global ranking may take from one layer, 0 to 1.
        max_accuracy_drop: Of ratio "auto": what one layer alone may cost, as a share of top-1.
    """

    type: Literal["prune_channels"] = "prune_channels"
    importance: Literal["l1", "l2", "taylor", "bn_scale", "fpgm", "random"] = "l2"
    scope: Literal["global", "local"] = "local"
    ratio: float | Auto | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    head_ratio: float = 0.0
    goal: Goal | None = None
    round_to: int = 8
    steps: int = 1
    finetune: Finetune | None = None
    protect: tuple[str, ...] = ()
    max_ratio: float = 0.9
    max_accuracy_drop: float = 0.01

    RANGES: ClassVar[Mapping[str, Range]] = {
        "ratio": INNER_SHARE,
        "ratios": SHARE_BELOW_ONE,
        "head_ratio": SHARE_BELOW_ONE,
        "round_to": Range(1, 1024),
        "steps": Range(1, 100),
        "max_ratio": INNER_SHARE,
        "max_accuracy_drop": SHARE_BELOW_ONE,
    }

    def __post_init__(self) -> None:
        given = [n for n in ("ratio", "ratios", "goal") if getattr(self, n) not in (None, {})]
        if not given and not self.head_ratio:
            raise ValueError("prune_channels needs ratio, ratios, goal or head_ratio")
        if self.goal is not None and len(given) > 1:
            raise ValueError(f"a goal decides how much is pruned: leave out {' and '.join(given[:-1])}")
        if self.ratio == "auto" and (self.scope == "global" or self.ratios):
            raise ValueError('ratio = "auto" finds a ratio for each layer: use scope = "local" and no ratios')
        check_ranges(self)
        if self.finetune is not None and self.steps == 1:
            raise ValueError("finetune inside prune_channels runs between its steps: set steps to 2 or more")


@dataclass(frozen=True, slots=True)
class DropLayers:
    """`type = "drop_layers"`: remove whole blocks; what is left computes as if they had never been there.

    How many: count, ratio or a goal.

    Attributes:
        type: Of the entry.
        blocks: Candidates by module name pattern; (): residual blocks that keep their input's shape.
        importance: Of a block: the rise of the loss without it (loss), 1 - cosine similarity of its input and output
            (cosine), or |weight × gradient| over its weights (taylor).
        count: How many go.
        ratio: Share of the MACs that goes, 0 to 1.
        goal: Decides how many.
        replace: What stands in for a block: nothing (identity), or a linear or 1×1 map fitted to what the block
            computed (fit).
        classifier: The linear layer to fit again where a removed block changed its width; empty: the last one.
        protect: Modules that stay, by name pattern.
    """

    type: Literal["drop_layers"] = "drop_layers"
    blocks: tuple[str, ...] = ()
    importance: Literal["loss", "cosine", "taylor"] = "loss"
    count: int | None = None
    ratio: float | None = None
    goal: Goal | None = None
    replace: Literal["identity", "fit"] = "identity"
    classifier: str = ""
    protect: tuple[str, ...] = ()

    RANGES: ClassVar[Mapping[str, Range]] = {"count": Range(1, 10_000), "ratio": INNER_SHARE}

    def __post_init__(self) -> None:
        given = [n for n in ("count", "ratio", "goal") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"drop_layers needs one of count, ratio and goal, found {' and '.join(given) or 'none'}")
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Another model to learn from. It must be trained.

    Attributes:
        definition: As the model's.
        weights: Its weights file.
        args: Of the definition's build().
        weights_key: As the model's.
    """

    definition: str
    weights: str
    args: dict[str, Any] = field(default_factory=dict)
    weights_key: str = ""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("a teacher must be trained: weights names its weights file")
        check_path(self.definition.partition(":")[2] or self.definition, "definition")
        check_path(self.weights, "weights")
        check_args(self.args)

    def named_files(self) -> dict[str, str]:
        return {"definition": definition_place(self.definition), "weights": self.weights}


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers whose outputs are compared.

    Attributes:
        student: The layer's name in the model that learns.
        teacher: The layer's name in the teacher.
    """

    student: str
    teacher: str


@dataclass(frozen=True, slots=True)
class Distill:
    """`distill` of a finetune: learn from a teacher's outputs, not only from labels.

    Attributes:
        teacher: Another model; None: the model as it was before `[[compress]]`.
        method: kd: alpha × T² × KL(teacher ‖ student at temperature T) + (1 - alpha) × the labels' loss (Hinton et al.
            2015). dkd: target and non-target parts weighted by themselves (Zhao et al. 2022).
        temperature: T.
        alpha: The teacher's share of the loss, more than 0 and at most 1.
        dkd_alpha: Weight of the target part.
        dkd_beta: Weight of the other classes' part.
        hints: Layers compared by their mean square error, through a learned 1×1 map (FitNets, Romero et al. 2015).
        hint_weight: Of the hints' sum in the loss.
        attention: Layers compared by their attention maps (Zagoruyko & Komodakis 2017).
        attention_weight: Of their sum in the loss.
    """

    teacher: Teacher | None = None
    method: Literal["kd", "dkd"] = "kd"
    temperature: float = 4.0
    alpha: float = 0.9
    dkd_alpha: float = 1.0
    dkd_beta: float = 8.0
    hints: tuple[LayerPair, ...] = ()
    hint_weight: float = 1.0
    attention: tuple[LayerPair, ...] = ()
    attention_weight: float = 1000.0

    RANGES: ClassVar[Mapping[str, Range]] = {
        "temperature": Range(0, 1000, open_low=True),
        "alpha": Range(0, 1, open_low=True, share=True),
        "dkd_alpha": _WEIGHT,
        "dkd_beta": _WEIGHT,
        "hint_weight": _WEIGHT,
        "attention_weight": _WEIGHT,
    }

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(
                f"alpha, the teacher's share of the loss, must be more than 0 and at most 1, found {self.alpha}: "
                "with 0 it would be training on labels alone, which is a finetune without distill"
            )
        check_ranges(self)


# Batch norm has no variance of one.
LEAST_TRAINED_ON = 2
MORE_TO_TRAIN_ON = "lower data.calibration_samples or data.eval_fraction, or add data"


@dataclass(frozen=True, slots=True)
class Finetune:
    """`type = "finetune"`: train on the train split, with labels and, with `distill`, a teacher.

    More than one process, or a lower precision than fp32, may give other last bits.

    Attributes:
        type: Of the entry.
        epochs: How often each sample is seen.
        optimizer: As in torch.optim.
        lr: The learning rate after the warm-up.
        weight_decay: As in torch.optim.
        momentum: Of sgd.
        batch_size: Samples of one update, in all processes together.
        label_smoothing: Of the task's own loss, 0 to 1.
        schedule: lr falls to 0 along a cosine, or by × gamma every step_epochs.
        step_epochs: Of schedule step.
        gamma: Of schedule step.
        warmup_epochs: lr rises linearly from 0 for so long.
        ema_decay: The weights kept are an exponential moving average; 0: they are the last ones.
        clip_norm: Largest norm of all gradients; 0: none.
        shift: Images move by up to so many pixels.
        early_stop_epochs: Stop after so many epochs without a lower loss on the samples held out, and keep the best
            weights; 0: never.
        validation_fraction: Share of the train split held out for that, 0 to 1.
        precision: Of the forward passes, through accelerate; fp16 on GPUs alone.
        processes: How many train together, through accelerate; on GPUs each has one of its own.
        loss: `file.py:function`, (outputs, targets) → scalar tensor; empty: the task's.
        distill: Learn from a teacher, too; None: from labels alone.
    """

    type: Literal["finetune"] = "finetune"
    epochs: int = 3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 5e-4
    weight_decay: float = 1e-2
    momentum: float = 0.9
    batch_size: int = 64
    label_smoothing: float = 0.0
    schedule: Literal["cosine", "step"] = "cosine"
    step_epochs: int = 1
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float = 0.0
    shift: int = 0
    early_stop_epochs: int = 0
    validation_fraction: float = 0.1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    processes: int = 1
    loss: str = ""
    distill: Distill | None = None

    RANGES: ClassVar[Mapping[str, Range]] = {
        "epochs": _EPOCHS,
        "lr": Range(0, 100, open_low=True),
        "weight_decay": Range(0, 10),
        "momentum": SHARE_BELOW_ONE,
        "batch_size": Range(1, 65_536),
        "label_smoothing": SHARE_BELOW_ONE,
        "step_epochs": _EPOCHS,
        "gamma": Range(0, 1, open_low=True),
        "warmup_epochs": Range(0, 10_000),
        "ema_decay": SHARE_BELOW_ONE,
        "clip_norm": Range(0, 1e9),
        "shift": Range(0, 1024, unit="pixels"),
        "early_stop_epochs": Range(0, 10_000),
        "validation_fraction": INNER_SHARE,
        "processes": Range(1, 64),
    }

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.batch_size < 2 * self.processes:
            raise ValueError(
                f"batch_size must be {2 * self.processes} or more (batch norm needs 2 samples in each process), found "
                f"{self.batch_size}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than epochs ({self.epochs}), found {self.warmup_epochs}")
        if self.loss and not (self.loss.partition(":")[0].endswith(".py") and self.loss.partition(":")[2]):
            raise ValueError(f"loss must be file.py:function, found {self.loss!r} (left out: the task's own)")
        check_path(self.loss.partition(":")[0], "loss")
        if self.loss and self.label_smoothing:
            raise ValueError("label_smoothing is of the task's own loss: leave it out beside loss")

    def held_out_of(self, count: int) -> int:
        """How many of so many train samples decide when to stop, and are not trained on."""
        return max(1, round(count * self.validation_fraction)) if self.early_stop_epochs else 0

    def too_few(self, count: int) -> str:
        """Why so many train samples are too few to train on; empty where they are not."""
        held_out = self.held_out_of(count)
        if count - held_out >= LEAST_TRAINED_ON:
            return ""
        beside = f" beside {held_out} held out" if held_out else ""
        left = max(0, count - held_out)
        return f"training needs at least {LEAST_TRAINED_ON} samples, the train split has {left}{beside}"

    def named_files(self) -> dict[str, str]:
        teacher = self.distill.teacher if self.distill else None
        of_teacher = teacher.named_files() if teacher else {}
        return {f"distill.teacher.{key}": file for key, file in of_teacher.items()} | {
            "loss": self.loss.partition(":")[0]
        }


Compress = PruneUnstructured | PruneChannels | DropLayers | Finetune
KINDS: dict[str, type[Compress]] = {
    "prune_unstructured": PruneUnstructured,
    "prune_channels": PruneChannels,
    "drop_layers": DropLayers,
    "finetune": Finetune,
}


def cubic_amount(amount: float, progress: float) -> float:
    """Share of zeros when `progress` (0 to 1) of the schedule is done: amount × (1 - (1 - progress)³).

    Zhu & Gupta 2017, "To prune, or not to prune", with an initial sparsity of 0.
    """
    if math.isnan(progress):
        raise ValueError("progress is NaN")
    return amount * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)
