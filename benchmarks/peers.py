"""Accuracy at equal MACs: our channel pruning beside the peers', on the shipped digits ResNet.

    python benchmarks/peers.py [--seeds 3] [--epochs 6] [--ratio 0.5] [--out peers.json]

torch-pruning   its high-level pruner by its documented loop: BasePruner(importance=GroupMagnitudeImportance(p=2),
                pruning_ratio, ignored_layers=[classifier], round_to), one step
nn.utils.prune  ln_structured(n=2, dim=0) on every convolution of the blocks, which zeroes filters and removes none:
                its real MACs do not fall; "counted" are the MACs without the zeroed filters and what reads them
ours            prune_channels with a goal on the MACs that torch-pruning reached: local and global scope, then global
                with distillation from the unpruned model

"half": both again with a budget of half of the MACs. A ratio is turned into widths layer by layer, and rounding to 8
takes 16 channels to 8 at any ratio; a goal takes away single pieces of 8 channels until the budget is met.

All start from the same weights and get the same fine-tuning by the same loop (`pocketforge.training.loop.fit`:
same data, epochs, optimizer, seeds); only the last learns from the teacher as well. Accuracy is top-1 on the eval
split.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from pocketforge.data.dataset import open_recipe
from pocketforge.model.load import build_model, count_macs, count_parameters
from pocketforge.model.weights import load_weights
from pocketforge.pruning import channels
from pocketforge.pruning.base import Subject
from pocketforge.pruning.subject import gather
from pocketforge.recipe.compress import Distill, Finetune, Goal, PruneChannels
from pocketforge.recipe.toml import load_recipe
from pocketforge.stats import mean_interval
from pocketforge.training.distillation import DistillationLoss
from pocketforge.training.judge import top1
from pocketforge.training.loop import fit
from pocketforge.training.options import FitOptions

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "models" / "resnet_cifar" / "digits.toml"
ROUND_TO = 8

# What a method hands back: the module to train, and what must be done after every update.
Prepared = tuple[nn.Module, Any, Callable[[nn.Module], int]]


class FiltersStayZero:
    """nn.utils.prune's masks re-applied after every update, as its own reparametrization does in forward."""

    def __init__(self, masks: dict[str, Tensor]) -> None:
        self.masks = masks
        self.module: nn.Module | None = None

    def after_update(self, step: int, total_steps: int) -> None:
        assert self.module is not None
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if name in self.masks:
                    parameter.mul_(self.masks[name])

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


def torch_pruning(module: nn.Module, example: Tensor, ratio: float) -> Prepared:
    import torch_pruning as tp

    classifier = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        module,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[classifier],
        round_to=ROUND_TO,
    )
    pruner.step()
    return module, None, lambda m: count_macs(m, (example,))


def torch_pruning_under(original: nn.Module, example: Tensor, limit: int) -> Prepared:
    """Its largest model of at most `limit` MACs: the ratios 0.02, 0.04 … tried by hand, as a user of it must."""
    best: tuple[int, Prepared] | None = None
    for step in range(1, 48):
        prepared = torch_pruning(copy.deepcopy(original), example, step / 50)
        macs = count_macs(prepared[0], (example,))
        if macs <= limit and (best is None or macs > best[0]):
            best = (macs, prepared)
    assert best is not None
    return best[1]


def nn_utils_prune(module: nn.Module, example: Tensor, ratio: float) -> Prepared:
    """Filters of the first convolution of each block: what may go without touching the residual stream."""
    inner = {name: m for name, m in module.named_modules() if name.endswith("conv1") and "." in name}
    masks = {}
    for name, layer in inner.items():
        torch_prune.ln_structured(layer, "weight", amount=ratio, n=2, dim=0)
        masks[f"{name}.weight"] = layer.weight_mask.clone()
        torch_prune.remove(layer, "weight")
    constraint = FiltersStayZero(masks)
    constraint.module = module

    def counted(trained: nn.Module) -> int:
        total = count_macs(trained, (example,))
        for name in inner:
            block, share = (
                name.rpartition(".")[0],
                float((masks[f"{name}.weight"].flatten(1).sum(1) == 0).float().mean()),
            )
            for conv in ("conv1", "conv2"):
                total -= round(share * layer_macs(trained, f"{block}.{conv}", example))
        return total

    return module, constraint, counted


def layer_macs(module: nn.Module, name: str, example: Tensor) -> int:
    layer, found = module.get_submodule(name), []
    handle = layer.register_forward_hook(lambda _m, _i, output: found.append(output.shape))
    with torch.no_grad():
        module(example)
    handle.remove()
    return layer.weight.numel() * int(found[0][2] * found[0][3])


def ours(module: nn.Module, example: Tensor, subject: Subject, scope: str, limit: int) -> Prepared:
    subject.module = module
    settings = PruneChannels(goal=Goal("macs", limit=float(limit)), scope=scope, round_to=ROUND_TO)  # type: ignore[arg-type]
    channels.prune(subject, settings)
    return module, None, lambda m: count_macs(m, (example,))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-half", action="store_true", help="only the budget of half of the MACs")
    options = parser.parse_args()
    recipe = load_recipe(RECIPE)
    data = open_recipe(recipe)
    evaluation, calibration = gather(data.eval), gather(data.calibration)
    original = build_model(recipe.model.definition, recipe.model.args, recipe.resolve, seed=recipe.seed)
    load_weights(original, recipe.resolve(recipe.model.weights))
    example = evaluation[0][0][0][:1]
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def subject() -> Subject:
        return Subject(copy.deepcopy(original), (example,), calibration, nn.functional.cross_entropy)

    def run(name: str, prepared: Prepared, distill: bool = False) -> int:
        module, constraint, macs = prepared
        before = top1(module, evaluation)
        accuracies = []
        for seed in range(options.seeds):
            trained = copy.deepcopy(module)
            if constraint is not None:
                constraint.module = trained
            settings = Finetune(epochs=options.epochs, lr=options.lr, shift=2, distill=Distill() if distill else None)
            teacher = None
            if settings.distill:
                teacher = DistillationLoss(
                    settings.distill, copy.deepcopy(original), trained, calibration[0][0], seed=seed
                )
            fit(trained, data.train, settings, FitOptions(seed=seed, teacher=teacher, constraint=constraint))
            accuracies.append(top1(trained, evaluation))
            print(f"{name} seed {seed}: {accuracies[-1]:.4f}", file=sys.stderr, flush=True)
        interval = mean_interval(accuracies)
        rows.append(
            {
                "method": name,
                "macs": macs(trained),
                "real_macs": count_macs(trained, (example,)),
                "parameters": count_parameters(trained),
                "before": before,
                "accuracies": accuracies,
                "mean": interval.value,
                "half": interval.high - interval.value,
            }
        )
        return int(rows[-1]["macs"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not options.only_half:
            limit = run("torch-pruning", torch_pruning(copy.deepcopy(original), example, options.ratio))
            # Filters inside blocks only: about the share of them that leaves as many MACs.
            share = min(0.95, 1 - limit / count_macs(original, (example,)))
            run("nn.utils.prune (zeroed)", nn_utils_prune(copy.deepcopy(original), example, share))
            run("ours, local", ours(copy.deepcopy(original), example, subject(), "local", limit))
            pruned = ours(copy.deepcopy(original), example, subject(), "global", limit)
            run("ours, global", pruned)
            run("ours, global + distill", pruned, distill=True)
        half = count_macs(original, (example,)) // 2
        run("torch-pruning, half", torch_pruning_under(original, example, half))
        run("ours, half", ours(copy.deepcopy(original), example, subject(), "global", half))
    total = count_macs(original, (example,))
    unpruned = top1(original, evaluation)
    print(f"unpruned: top-1 {unpruned:.4f}, {total:,} MACs, {count_parameters(original):,} parameters")
    columns = ("MACs counted", "real MACs", "parameters", "before", "after")
    print("method".ljust(26), *(c.rjust(w) for c, w in zip(columns, (13, 12, 11, 7, 7), strict=True)), " ± 95 %")
    for row in rows:
        print(
            f"{row['method']:26} {row['macs']:13,} {row['real_macs']:12,} {row['parameters']:11,} {row['before']:7.4f} "
            f"{row['mean']:7.4f}  {row['half']:.4f}"
        )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
