"""Linear layers fitted to stand where a block was: least squares in float64, deterministic.

`fit_map` fits a linear layer or a convolution to what a block computed; `fit_classifier` fits the last linear layer
anew when the features that enter it are others than before.

The ridge's strength is chosen by generalized cross-validation (Golub, Heath & Wahba 1979), from the spectrum of the
inputs, without fitting again. Inputs with more rows than columns are only summed into their moments; with fewer rows
than columns (thousands of features, a hundred samples) the dual form is solved, whose cost grows with the rows.
Calibration samples are few: a fine-tuning afterwards is expected to do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketforge.training.losses import Loss

# Strengths tried, as a share of the largest eigenvalue of the inputs' moments: 1e-10 … 10.
_STRENGTHS = torch.logspace(-10, 1, 45, dtype=torch.float64)
# Eigenvalues below this share of the largest are rounding noise.
_NOISE = 1e-12
# Weight on the distance to the ridge solution while the loss is minimized; infinite: the ridge solution itself.
_ANCHORS = (float("inf"), 1.0, 0.1, 0.01)
_LOSS_STEPS = 30


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x weightᵀ + bias.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs).
        error: ‖y - ŷ‖ over ‖y - mean of y‖, on the rows fitted.
        strength: The ridge's.
    """

    weight: Tensor
    bias: Tensor
    error: float
    strength: float


class Moments:
    """Sums over rows that a least-squares map from `columns` inputs to `outputs` needs, gathered batch by batch.

    residual: the map is fitted as identity plus a correction, so the ridge draws it to the identity, not to 0.
    """

    def __init__(self, columns: int, outputs: int, *, residual: bool = False) -> None:
        self.rows = 0
        self.residual = residual
        self._x = torch.zeros(columns, dtype=torch.float64)
        self._y = torch.zeros(outputs, dtype=torch.float64)
        self._xx = torch.zeros(columns, columns, dtype=torch.float64)
        self._xy = torch.zeros(columns, outputs, dtype=torch.float64)
        self._yy = torch.zeros(outputs, dtype=torch.float64)
        self._total = torch.zeros(outputs, dtype=torch.float64)
        self._sum = torch.zeros(outputs, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """x (rows, columns), y (rows, outputs)."""
        x, y = x.double(), y.double()
        self.rows += x.shape[0]
        self._sum += y.sum(0)
        self._total += y.square().sum(0)
        y = y - x if self.residual else y
        self._x += x.sum(0)
        self._y += y.sum(0)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += y.square().sum(0)

    def solve(self) -> Linear:
        rows = max(self.rows, 1)
        mean_x, mean_y = self._x / rows, self._y / rows
        xx = self._xx - rows * torch.outer(mean_x, mean_x)
        xy = self._xy - rows * torch.outer(mean_x, mean_y)
        total = float((self._yy - rows * mean_y.square()).clamp(min=0).sum())
        values, vectors = torch.linalg.eigh(xx)
        used = values > _NOISE * values.max()
        projected = vectors.T @ xy
        power = torch.where(used, projected.square().sum(1) / values.clamp(min=1e-300), torch.zeros_like(values))
        strength, left = _best_strength(values[used], power[used], total, rows)
        shrunk = torch.where(used, 1 / (values + strength).clamp(min=1e-300), torch.zeros_like(values))
        weight = (vectors @ (shrunk[:, None] * projected)).T
        bias = mean_y - weight @ mean_x
        if self.residual:
            weight = weight + torch.eye(weight.shape[0], dtype=torch.float64)
        spread = float((self._total - self._sum.square() / rows).clamp(min=0).sum())
        return Linear(weight, bias, _relative(left, spread), strength)


def _relative(left: float, spread: float) -> float:
    return (left / spread) ** 0.5 if spread > 0 else 0.0


def _best_strength(values: Tensor, power: Tensor, total: float, rows: int) -> tuple[float, float]:
    """The ridge strength with the lowest generalized cross-validation error, and the squared error left with it.

    values: positive eigenvalues of the centred inputs' moments. power: what of the outputs' squares lies along each.
    """
    if not len(values):
        return 0.0, total
    outside = max(total - float(power.sum()), 0.0)
    best = (float("inf"), 0.0, total)
    for strength in (_STRENGTHS * values.max()).tolist():
        lost = strength / (values + strength)
        left = float((power * lost.square()).sum()) + outside
        # Degrees of freedom that are left: of the centred rows, less those the fit uses.
        free = max(rows - 1 - len(values), 0) + float(lost.sum())
        best = min(best, (left / free**2, strength, left))
    return best[1], best[2]


def ridge(x: Tensor, y: Tensor) -> Linear:
    """Ridge regression from x (rows, columns) to y (rows, outputs), in the form that is cheaper."""
    rows, columns = x.shape
    if rows > columns:
        moments = Moments(columns, y.shape[1])
        moments.add(x, y)
        return moments.solve()
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    values, vectors = torch.linalg.eigh(x @ x.T)
    used = values > _NOISE * values.max()
    projected = vectors.T @ y
    total = float(y.square().sum())
    strength, left = _best_strength(values[used], projected.square().sum(1)[used], total, rows)
    shrunk = torch.where(used, 1 / (values + strength).clamp(min=1e-300), torch.zeros_like(values))
    weight = (x.T @ (vectors @ (shrunk[:, None] * projected))).T
    return Linear(weight, mean_y - weight @ mean_x, _relative(left, total), strength)


@dataclass(frozen=True, slots=True)
class MapForm:
    """A layer that could stand for a block.

    Attributes:
        by: Of its Replace.
        kind: Of layer, as `by` has it.
        inputs: A batch of what enters the block → rows (rows, columns).
        outputs: A batch of what leaves it → rows (rows, width).
        columns: Inputs of one row.
        width: Outputs of one row.
        residual: It is fitted as identity plus a correction.
    """

    by: dict[str, object]
    kind: str
    inputs: Callable[[Tensor], Tensor]
    outputs: Callable[[Tensor], Tensor]
    columns: int
    width: int
    residual: bool

    def moments(self) -> Moments:
        return Moments(self.columns, self.width, residual=self.residual)

    def load(self, layer: nn.Module, fitted: Linear) -> None:
        """Put a fitted map into the layer built from `by`."""
        shape = layer.get_parameter("weight").shape
        layer.load_state_dict(
            {"weight": fitted.weight.reshape(shape).float(), "bias": fitted.bias.float()}, strict=True
        )


def map_forms(source: Sequence[int], result: Sequence[int]) -> list[MapForm]:
    """Layers that take batches of shape `source` (first dimension: batch) to `result`; the best fit decides.

    Features last (N, …, C): a linear layer. Images (N, C, H, W): a 1×1 convolution; where both sides shrink by a whole
    factor k, one with kernel and stride k (every input counts), or where they shrink to ceil(size / k), a 1×1 of
    stride k. An empty list when there is no such layer.
    """
    forms = []
    same = tuple(source) == tuple(result)
    if len(source) == len(result) == 4:
        strides = [_stride(a, b) for a, b in zip(source[2:], result[2:], strict=True)]
        if all(strides):
            whole = all(a == b * k for a, b, k in zip(source[2:], result[2:], strides, strict=True))
            forms.append(_conv_form(source[1], result[1], strides, strides if whole else [1, 1], same))
    if len(source) == len(result) >= 2 and tuple(source[:-1]) == tuple(result[:-1]):
        width, outputs = source[-1], result[-1]
        forms.append(
            MapForm(
                {"kind": "linear", "in_features": width, "out_features": outputs},
                "linear",
                lambda x: x.reshape(-1, width),
                lambda y: y.reshape(-1, outputs),
                width,
                outputs,
                same,
            )
        )
    return forms


def _stride(size: int, smaller: int) -> int:
    """The k with ceil(size / k) == smaller; 0 when there is none."""
    k = -(-size // smaller)
    return k if -(-size // k) == smaller else 0


def _conv_form(channels: int, outputs: int, strides: Sequence[int], kernel: Sequence[int], residual: bool) -> MapForm:
    down, across = strides
    high, wide = kernel

    def rows(x: Tensor) -> Tensor:
        if (high, wide) == (1, 1):
            return x[:, :, ::down, ::across].permute(0, 2, 3, 1).reshape(-1, channels)
        n, _, height, width = x.shape
        tiles = x.reshape(n, channels, height // high, high, width // wide, wide)
        return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * high * wide)

    by = {
        "kind": "conv2d",
        "in_channels": channels,
        "out_channels": outputs,
        "kernel_size": list(kernel),
        "stride": list(strides),
    }
    columns = channels * high * wide
    return MapForm(by, "conv2d", rows, lambda y: y.permute(0, 2, 3, 1).reshape(-1, outputs), columns, outputs, residual)


@dataclass(frozen=True, slots=True)
class FittedClassifier:
    """A linear layer, and how it was fitted.

    Attributes:
        weight: (outputs, features).
        bias: (outputs); None without one.
        strength: As `outcomes.prune.Refit.strength`, and so the next three.
        error: Of the ridge regression.
        anchor: Weight on the distance to its solution.
        loss: With its solution, and with the one taken.
    """

    weight: Tensor
    bias: Tensor | None
    strength: float
    error: float
    anchor: float | None
    loss: tuple[float, float] | None


def fit_classifier(
    features: list[Tensor], logits: list[Tensor], targets: list[Tensor], loss: Loss | None, *, bias: bool
) -> FittedClassifier:
    """Fit a linear layer on cached features.

    features: batches (N, …, new width) that now enter it. logits: what it gave for them before (N, …, outputs).
    First a ridge regression to the old logits. Then, where `loss` is given (the layer's output is the model's), the
    loss on the targets is minimized (L-BFGS) with a weight on the distance to the ridge solution's logits; how strong,
    and whether at all, is decided on every fourth sample, held out of a first fit.
    """
    x = torch.cat([part.reshape(-1, part.shape[-1]) for part in features]).double()
    y = torch.cat([part.reshape(-1, part.shape[-1]) for part in logits]).double()
    weight, offset, strength, error = _ridge_with(x, y, bias)
    used_anchor, losses = None, None
    if loss is not None and features[0].ndim == 2:
        answers = torch.cat(targets)
        answers = answers.double() if answers.is_floating_point() else answers
        before = float(loss(x @ weight.T + offset, answers))
        anchor = _best_anchor(x, y, answers, loss, bias)
        weight, offset = _minimize(x, answers, weight, offset, loss, anchor, bias)
        losses = before, float(loss(x @ weight.T + offset, answers))
        used_anchor = None if anchor == float("inf") else anchor
    return FittedClassifier(weight.float(), offset.float() if bias else None, strength, error, used_anchor, losses)


def _ridge_with(x: Tensor, y: Tensor, bias: bool) -> tuple[Tensor, Tensor, float, float]:
    """Weight, bias (zeros without one), strength and error."""
    # Without a bias nothing may be centred: rows together with their negatives have a mean of 0.
    fitted = ridge(x, y) if bias else ridge(torch.cat([x, -x]), torch.cat([y, -y]))
    return fitted.weight, fitted.bias if bias else torch.zeros_like(fitted.bias), fitted.strength, fitted.error


def _best_anchor(x: Tensor, y: Tensor, targets: Tensor, loss: Loss, bias: bool) -> float:
    """The anchor that gives the lowest loss on every fourth sample, fitted without them."""
    held = torch.arange(len(x)) % 4 == 3
    if not held.any():
        return float("inf")
    weight, offset, _, _ = _ridge_with(x[~held], y[~held], bias)
    scores = []
    for anchor in _ANCHORS:
        w, b = _minimize(x[~held], targets[~held], weight, offset, loss, anchor, bias)
        scores.append(float(loss(x[held] @ w.T + b, targets[held])))
    return _ANCHORS[scores.index(min(scores))]


def _minimize(
    x: Tensor,
    targets: Tensor,
    weight: Tensor,
    offset: Tensor,
    loss: Loss,
    anchor: float,
    bias: bool,
) -> tuple[Tensor, Tensor]:
    """Weights near (weight, offset) with a lower loss."""
    if anchor == float("inf"):
        return weight, offset
    w, b = weight.contiguous().clone().requires_grad_(), offset.clone().requires_grad_(bias)
    old = x @ weight.T + offset
    scale = float(old.square().mean()) or 1.0
    optimizer = torch.optim.LBFGS([w, b] if bias else [w], max_iter=_LOSS_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        new = x @ w.T + b
        value = loss(new, targets) + anchor * (new - old).square().mean() / scale
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    return w.detach(), b.detach()
