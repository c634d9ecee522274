"""Unstructured pruning: single weights become zero, and masks keep them zero.

Pruned are the weights of convolutions (also grouped, depthwise and transposed) and linear layers; biases, norms and
embeddings stay. A mask is uint8 in the shape of its parameter, 1 = kept, and named as the parameter in the state dict.

torch.nn.utils.prune is not used, the tests only compare with it: it replaces `weight` by `weight_orig` and a hook, so
state-dict names change and deepcopy fails until `remove`, its ties fall as topk likes, and it has no n:m of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.outcomes.prune import LayerZeros, LeftDense, WeightsReport, Zeros
from pocketforge.pruning.base import Pruned, Subject
from pocketforge.pruning.costs import check_patterns, matches
from pocketforge.recipe.compress import Compress, PruneUnstructured, cubic_amount
from pocketforge.training.batches import Batch
from pocketforge.training.loop import deterministic
from pocketforge.training.losses import Loss
from pocketforge.training.placement import batch_on

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)

# The cubic schedule: over this share of the steps, in so many increments (fewer steps: one each). Between two
# increments the weights that are left get some updates to make up for those that went, as in Zhu & Gupta 2017.
RAMP = 0.75
INCREMENTS = 50


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    parameter: str
    # Inputs that one output sees (dimension 0 of a transposed convolution's weight, else 1).
    inputs: int
    transposed: bool


@dataclass(slots=True)
class _Selection:
    """The layers to prune, and those that stay dense."""

    layers: list[_Layer] = field(default_factory=list)
    left_dense: list[LeftDense] = field(default_factory=list)


def prune(subject: Subject, settings: Compress) -> Pruned[WeightsReport]:
    """Zero the least important weights in place: exactly round(amount × weights) of each layer, or of all (global).

    Weights that `subject.masks` holds at zero stay so and count towards the amount. Of equal scores the earlier weight
    goes first. With `n_m` the n best of every m neighbouring inputs stay, for each output and kernel position on its
    own; layers whose inputs are no multiple of m stay dense. With schedule cubic nothing is zeroed here, only checked
    that it can be: `GradualPruning` does it during the fine-tuning.

    The report counts masked zeros of the layers pruned. Raises ModelError: nothing to prune, a pattern that fits no
    layer, a layer that would be left without a weight, a loss that is no scalar.
    """
    assert isinstance(settings, PruneUnstructured)
    selection = _select(subject.module, settings)
    before = _checked(subject.module, subject.masks)
    with deterministic(subject.seed):
        scores = _scores(
            subject.module, selection.layers, settings.criterion, subject.loss, subject.batches, subject.seed
        )
    masks = {**before, **_grown(selection.layers, scores, before, settings)}
    if settings.schedule == "cubic":
        masks = before
    _zero(subject.module, masks)
    masks = {name: mask for name, mask in masks.items() if name in before or not mask.all()}
    zeros = _zeros(subject.module, selection.layers, masks)
    report = WeightsReport(
        layers=zeros.layers,
        zeros=zeros.zeros,
        weights=zeros.weights,
        share=zeros.share,
        criterion=settings.criterion,
        scope=settings.scope,
        schedule=settings.schedule,
        n_m=settings.n_m,
        left_dense=tuple(selection.left_dense),
    )
    return Pruned(report, masks=masks)


def measure_zeros(module: nn.Module) -> Zeros:
    """Zeros among the weights of all layers that could be pruned. Counted are values, masked or not; -0.0 counts as
    zero.
    """
    layers = _prunable(module).layers
    return _zeros(module, layers, {layer.parameter: _weight(module, layer) != 0 for layer in layers})


class MaskConstraint:
    """Keeps masked weights at exactly 0.0 while others train (a training.constraint.WeightConstraint).

    masks: by parameter name, 1 = kept. Raises ModelError when the masks do not fit the module.
    """

    def __init__(self, module: nn.Module, masks: Mapping[str, Tensor]) -> None:
        self._module = module
        self.masks = _checked(module, masks)
        _zero(module, self.masks)

    def after_update(self, step: int, total_steps: int) -> None:
        """Call after every update of the weights; `step` of `total_steps` updates are done."""
        _zero(self._module, self.masks)

    def state(self) -> dict[str, Tensor]:
        return {f"mask.{name}": mask.clone() for name, mask in self.masks.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`. Raises ModelError when it is of another module."""
        masks = {name.removeprefix("mask."): mask for name, mask in state.items() if name.startswith("mask.")}
        self.masks = _checked(self._module, masks)


class GradualPruning(MaskConstraint):
    """Prunes while the module trains: cubically from what `masks` hold to the amount (Zhu & Gupta 2017), then holds.

    The amount is reached after RAMP of the steps, in at most INCREMENTS increments; masks only grow. Scores are taken
    anew at each increment: magnitudes as they are then, and for taylor the gradients on `batches`. A training that
    stops early gets the rest of the zeros in the call with the last step, when its best weights have been put back.
    Raises ModelError as `prune` does, also when an increment would leave a layer without a weight.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: PruneUnstructured,
        masks: Mapping[str, Tensor],
        loss: Loss,
        batches: Sequence[Batch],
        seed: int,
    ) -> None:
        super().__init__(module, masks)
        self._settings, self._loss, self._batches, self._seed = settings, loss, batches, seed
        self._layers = _select(module, settings).layers
        for layer in self._layers:
            if layer.parameter not in self.masks:
                self.masks[layer.parameter] = torch.ones(_weight(module, layer).shape, dtype=torch.uint8)
        # The share of the schedule that is done.
        self._progress = 0.0

    def after_update(self, step: int, total_steps: int) -> None:
        """Call after every update of the weights; `step` of `total_steps` updates are done."""
        _zero(self._module, self.masks)
        ramp = max(1, int(RAMP * total_steps))
        increments = min(INCREMENTS, ramp)
        progress = min(increments, step * increments // ramp) / increments
        if progress <= self._progress:
            return
        # The training has fixed the number of threads. Its random numbers go on as if nothing had been in between.
        with deterministic(self._seed, torch.get_num_threads()):
            scores = _scores(
                self._module, self._layers, self._settings.criterion, self._loss, self._batches, self._seed
            )
        self.masks.update(_grown(self._layers, scores, self.masks, self._settings, progress))
        self._progress = progress
        _zero(self._module, self.masks)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "progress": torch.tensor(self._progress, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_state(state)
        self._progress = float(state["progress"])


def _prunable(module: nn.Module) -> _Selection:
    selection = _Selection()
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    seen: set[int] = set()
    for name, layer in module.named_modules():
        if not isinstance(layer, PRUNABLE):
            continue
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if weight is None:
            selection.left_dense.append(LeftDense(name, "its weight is computed from other parameters"))
        elif id(weight) in embeddings:
            selection.left_dense.append(LeftDense(name, "it shares its weight with an embedding"))
        elif id(weight) not in seen:  # a weight that two layers share is one weight
            seen.add(id(weight))
            transposed = isinstance(layer, TRANSPOSED)
            inputs = weight.shape[0] // layer.groups if transposed else weight.shape[1]
            selection.layers.append(_Layer(name, f"{name}.weight".lstrip("."), inputs, transposed))
    return selection


def _select(module: nn.Module, settings: PruneUnstructured) -> _Selection:
    prunable = _prunable(module)
    if not prunable.layers:
        raise ModelError(
            "there is nothing to prune: the model has no convolution or linear layer with a weight of its own",
            "an archive of torch.export is a traced graph without layers: give the model's Python definition",
        )
    check_patterns(settings.protect, [name for name, _ in module.named_modules()], "prune_unstructured.protect")
    check_patterns(settings.amounts, [layer.name for layer in prunable.layers], "prune_unstructured.amounts")
    chosen = _Selection(left_dense=prunable.left_dense)
    multiple = settings.n_m[1] if settings.n_m else 1
    for layer in prunable.layers:
        if matches(layer.name, settings.protect):
            chosen.left_dense.append(LeftDense(layer.name, "protected"))
        elif layer.inputs % multiple:
            chosen.left_dense.append(LeftDense(layer.name, f"{layer.inputs} inputs are no multiple of {multiple}"))
        else:
            chosen.layers.append(layer)
    if not chosen.layers:
        reasons = ", ".join(f"{dense.name} ({dense.reason})" for dense in chosen.left_dense[:8])
        more = f" … and {len(chosen.left_dense) - 8} more" if len(chosen.left_dense) > 8 else ""
        raise ModelError(f"there is nothing to prune, every layer stays dense: {reasons}{more}", "protect fewer layers")
    if not settings.n_m and not any(
        round(_amount(layer, settings) * _weight(module, layer).numel()) for layer in chosen.layers
    ):
        raise ModelError("there is nothing to prune: every amount is 0 or less than one weight", "raise amount")
    return chosen


def _amount(layer: _Layer, settings: PruneUnstructured) -> float:
    """The amount of the first pattern that fits, else the general one."""
    fitting = (amount for pattern, amount in settings.amounts.items() if matches(layer.name, [pattern]))
    return next(fitting, settings.amount or 0.0)


def _weight(module: nn.Module, layer: _Layer) -> Tensor:
    return module.get_parameter(layer.parameter).detach()


def _checked(module: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the masks, on the CPU. Raises ModelError for one that fits no parameter."""
    shapes = {name: list(parameter.shape) for name, parameter in module.named_parameters(remove_duplicate=False)}
    for name, mask in masks.items():
        if shapes.get(name) != list(mask.shape):
            parameter = f"has shape {shapes[name]}" if name in shapes else "is not there"
            raise ModelError(
                f"the pruning mask of {name} has shape {list(mask.shape)}, the parameter {parameter}",
                "masks hold for the model they were made for: was it changed since?",
            )
    return {name: mask.detach().to("cpu", torch.uint8, copy=True) for name, mask in masks.items()}


def _zero(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            weight = module.get_parameter(name)
            # Not weight × mask: that gives -0.0 for what was negative, and keeps NaN.
            weight.masked_fill_(mask.to(weight.device) == 0, 0.0)


def _scores(
    module: nn.Module, layers: list[_Layer], criterion: str, loss: Loss, batches: Sequence[Batch], seed: int
) -> dict[str, Tensor]:
    """The importance of each weight, 0 or more, on the CPU, by parameter name."""
    weights = {layer.parameter: _weight(module, layer) for layer in layers}
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return {n: torch.rand(w.shape, generator=generator, dtype=torch.float64) for n, w in weights.items()}
    if criterion == "taylor":
        gradients = _gradients(module, list(weights), loss, batches)
        weights = {name: weight * gradients[name] for name, weight in weights.items()}
    # l1 and l2: of a single number both norms are its absolute value.
    scores = {
        name: value.abs().to("cpu", torch.promote_types(value.dtype, torch.float32)) for name, value in weights.items()
    }
    for name, score in scores.items():
        if not torch.isfinite(score).all():
            what = "gradient" if criterion == "taylor" else "weight"
            raise ModelError(f"{name} cannot be ranked: its {what} has NaN or infinite values", "did training diverge?")
    return scores


def _gradients(module: nn.Module, names: list[str], loss: Loss, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """The sum over the samples of the loss's gradients, in eval mode; `.grad` and all modes stay as they were."""
    if not batches:
        raise ModelError("importance needs calibration samples, there are none", "raise data.calibration_samples")
    weights = [module.get_parameter(name) for name in names]
    totals = [torch.zeros_like(weight) for weight in weights]
    with _eval_mode(module), _differentiable(weights), torch.enable_grad():
        for batch in batches:
            inputs, targets = batch_on(batch, weights[0].device)
            value = loss(module(*inputs), targets)
            if not isinstance(value, Tensor) or value.ndim:
                form = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ModelError(
                    f"the loss must be a scalar tensor, found {form}", "return its mean over the batch: loss.mean()"
                )
            if not value.requires_grad:
                raise ModelError(
                    "the loss does not depend on the weights", "is it computed from detached values, or under no_grad?"
                )
            for total, gradient in zip(totals, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    # The mean of a batch counts as often as the batch has samples.
                    total += gradient * len(targets)
    return dict(zip(names, totals, strict=True))


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    # One by one: a fine-tuning may hold some norms in eval mode, which module.train() would undo.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _differentiable(weights: list[nn.Parameter]) -> Iterator[None]:
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _grown(
    layers: list[_Layer],
    scores: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    settings: PruneUnstructured,
    progress: float = 1.0,
) -> dict[str, Tensor]:
    """The layers' masks with the zeros that `progress` of the schedule asks for; what was masked stays so."""
    old = {n: masks[n] if n in masks else torch.ones_like(score, dtype=torch.uint8) for n, score in scores.items()}
    # Below every score: what is masked already is counted first.
    ranked = {n: score.masked_fill(old[n] == 0, -torch.inf) for n, score in scores.items()}
    if settings.n_m:
        n, m = settings.n_m
        chosen = [_best_of(ranked[layer.parameter], n, m, layer.transposed) for layer in layers]
    elif settings.scope == "local":
        chosen = []
        for layer in layers:
            flat = ranked[layer.parameter].flatten()
            chosen.append(_without_smallest(flat, round(cubic_amount(_amount(layer, settings), progress) * len(flat))))
    else:
        assert settings.amount is not None
        flats = [ranked[layer.parameter].flatten() for layer in layers]
        together = torch.cat(flats)
        keep = _without_smallest(together, round(cubic_amount(settings.amount, progress) * len(together)))
        chosen = list(keep.split([len(flat) for flat in flats]))
    grown = {}
    for layer, keep in zip(layers, chosen, strict=True):
        mask = old[layer.parameter]
        grown[layer.parameter] = mask & keep.view_as(mask)
        if not grown[layer.parameter].any():
            local = 'set scope = "local", ' if settings.scope == "global" else ""
            raise ModelError(
                f"pruning would zero all {mask.numel():,} weights of {layer.name}: nothing would pass through it",
                f"{local}lower the amount, or add {layer.name!r} to protect",
            )
    return grown


def _without_smallest(scores: Tensor, count: int) -> Tensor:
    """1 for each of `scores` (flat), 0 for the `count` smallest of them; of equal ones the first."""
    keep = torch.ones_like(scores, dtype=torch.uint8)
    if count:
        limit = torch.kthvalue(scores, count).values
        keep[scores < limit] = 0
        ties = (scores == limit).nonzero().flatten()
        keep[ties[: count - int((keep == 0).sum())]] = 0
    return keep


def _best_of(scores: Tensor, n: int, m: int, transposed: bool) -> Tensor:
    """1 for the `n` largest scores of each `m` neighbouring inputs, 0 for the rest; of equal ones the later stays."""
    inputs = 0 if transposed else 1
    last = scores.movedim(inputs, -1)
    groups = last.reshape(-1, m)
    keep = torch.ones_like(groups, dtype=torch.uint8)
    keep.scatter_(1, groups.sort(dim=1, stable=True).indices[:, : m - n], 0)
    return keep.view(last.shape).movedim(-1, inputs).contiguous()


def _zeros(module: nn.Module, layers: list[_Layer], masks: Mapping[str, Tensor]) -> Zeros:
    """Where the masks of the layers' weights are 0; one without a mask has none."""
    rows = []
    for layer in layers:
        weights = _weight(module, layer).numel()
        zeros = int((masks[layer.parameter] == 0).sum()) if layer.parameter in masks else 0
        rows.append(LayerZeros(layer.name, weights, zeros, _share(zeros, weights)))
    zeros, weights = sum(row.zeros for row in rows), sum(row.weights for row in rows)
    return Zeros(tuple(rows), zeros, weights, _share(zeros, weights))


def _share(zeros: int, weights: int) -> float:
    return zeros / weights if weights else 0.0
