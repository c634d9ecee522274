"""The losses of the roles: of an output's values and a batch's targets a scalar, the mean over what is held.

Cross entropy, binary cross entropy, L1, smooth L1, mean square and cosine distance, and CTC are torch's own. The focal
loss (Lin et al. 2017, arXiv:1708.02002, without its class weights) is computed here: torchvision's is of two classes
alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pocketforge.accuracy.base import Unfit
from pocketforge.accuracy.post import IGNORED_PIXEL, About
from pocketforge.data.role_targets import IGNORED_TAG
from pocketforge.recipe.output import Output
from pocketforge.training.batches import NamedTargets


@dataclass(frozen=True, slots=True)
class Term:
    """One output's loss, and what it has to know.

    Attributes:
        output: The recipe's.
        about: Letters and the size of the image input.
        smoothing: Of the labels of cross entropy, 0 to 1.
    """

    output: Output
    about: About
    smoothing: float = 0.0

    def __call__(self, values: Tensor, targets: NamedTargets) -> Tensor:
        """The loss of an output's values, samples first. Raises Unfit where they and the targets do not fit."""
        return _TERMS[self.output.role](self, values, targets)


def _stacked(term: Term, targets: NamedTargets) -> Tensor:
    """The output's target of all samples. Raises Unfit where they differ in shape."""
    column = targets.columns[term.output.held_against]
    tensors = [each for each in column if isinstance(each, Tensor)]
    shapes = {tuple(each.shape) for each in tensors}
    if len(shapes) != 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes)[:4])
        raise Unfit(f"targets {term.output.held_against!r} of one batch differ in shape: {listed}")
    return torch.stack(tensors)


def _of_classes(term: Term, scores: Tensor, numbers: Tensor, ignored: int | None, what: str) -> Tensor:
    """scores: (n, classes, …), numbers: (n, …); a number that is ignored counts for nothing."""
    numbers = numbers.long()
    held = numbers != ignored if ignored is not None else torch.ones_like(numbers, dtype=torch.bool)
    wrong = numbers[held & ((numbers < 0) | (numbers >= scores.shape[1]))]
    if len(wrong):
        raise Unfit(f"it has {scores.shape[1]} {what}, and the data have number {int(wrong.max())}")
    skipped = IGNORED_TAG if ignored is None else ignored
    smoothing = term.smoothing if term.output.trained_by == "cross_entropy" else 0.0
    if term.output.role == "logits" and term.output.post.type == "none":
        logs = _log_of_shares(scores)
        each = functional.nll_loss(logs, numbers, ignore_index=skipped, reduction="none")
        if smoothing:  # as in cross_entropy, whose scores these are not: towards all classes alike
            each = (1 - smoothing) * each - smoothing * logs.mean(1)
    else:
        each = functional.cross_entropy(
            scores, numbers, ignore_index=skipped, reduction="none", label_smoothing=smoothing
        )
    return _mean_of(_focused(term, each), held)


def _focused(term: Term, each: Tensor) -> Tensor:
    """-log p of each thing, by how wrong it is where the loss is focal."""
    if term.output.trained_by != "focal":
        return each
    # What is surely right has no gradient: a power below 1 has none at 0 that is a number.
    wrong = (1 - torch.exp(-each)).clamp(min=torch.finfo(each.dtype).tiny)
    return wrong**term.output.loss.gamma * each


def _of_yes_or_no(term: Term, scores: Tensor, wanted: Tensor, held: Tensor | None = None) -> Tensor:
    """Scores, or probabilities where the recipe says that they are, of as many things that hold or do not."""
    wanted = wanted.to(scores.dtype)
    if term.output.role in ("multilabel", "binary") and term.output.processed == "none":
        if bool(((scores < 0) | (scores > 1)).any()):
            raise Unfit('post "none" is for probabilities, and it answers others: post = "sigmoid"')
        # Torch refuses NaN here; of a training that diverges its loss is NaN, and says so.
        broken = scores.isnan()
        each = functional.binary_cross_entropy(scores.masked_fill(broken, 0.5), wanted, reduction="none")
        each = each.masked_fill(broken, torch.nan)
    else:
        each = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    return _mean_of(_focused(term, each), torch.ones_like(each, dtype=torch.bool) if held is None else held)


def _of_numbers(term: Term, values: Tensor, wanted: Tensor, held: Tensor | None = None) -> Tensor:
    """Real numbers, alike in shape."""
    wanted = wanted.to(values.dtype)
    kind = term.output.trained_by
    if kind == "smooth_l1":
        each = functional.smooth_l1_loss(values, wanted, reduction="none", beta=term.output.loss.beta)
    elif kind == "l1":
        each = functional.l1_loss(values, wanted, reduction="none")
    else:
        each = functional.mse_loss(values, wanted, reduction="none")
    return _mean_of(each, torch.ones_like(each, dtype=torch.bool) if held is None else held)


def _mean_of(each: Tensor, held: Tensor) -> Tensor:
    """Of those that are held; 0 where a batch holds none."""
    return torch.where(held, each, torch.zeros_like(each)).sum() / held.sum().clamp(min=1)


def _log_of_shares(shares: Tensor) -> Tensor:
    if bool(((shares < 0) | (shares > 1)).any()):
        raise Unfit('post "none" says that they are shares of classes, and it answers others: post = "softmax"')
    return shares.clamp(min=torch.finfo(shares.dtype).tiny).log()


def _logits(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    if values.ndim != 2:
        raise Unfit(f"wanted [1, classes], found {_shape(values)}")
    return _of_classes(term, values, _stacked(term, targets), None, "classes")


def _multilabel(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets)
    if values.shape != wanted.shape:
        raise Unfit(f"it gives {_shape(values)}, the target has {wanted.shape[1]} labels")
    return _of_yes_or_no(term, values, wanted)


def _binary(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets)
    if values.numel() != len(wanted):
        raise Unfit(f"wanted one score a sample, found {_shape(values)}")
    wrong = wanted[(wanted != 0) & (wanted != 1)]
    if len(wrong):
        raise Unfit(f"its target is 0 or 1, found {int(wrong[0])}")
    return _of_yes_or_no(term, values.reshape(-1), wanted)


def _regression(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets)
    if values.numel() != wanted.numel():
        raise Unfit(f"it has shape {_shape(values)}, the targets {[1, *wanted.shape[1:]]}")
    return _of_numbers(term, values.reshape(wanted.shape), wanted)


def _segmentation(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets).long()
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4:
        raise Unfit(f"wanted [1, classes, H, W], found {_shape(values)}")
    if values.shape[1:3] == wanted.shape[1:] != values.shape[2:]:
        values = values.permute(0, 3, 1, 2)
    if term.output.post.upsample and values.shape[2:] != wanted.shape[1:]:
        values = functional.interpolate(values, size=wanted.shape[1:], mode="bilinear", align_corners=False)
    if values.shape[2:] != wanted.shape[1:]:
        sizes = [" by ".join(map(str, shape)) for shape in (values.shape[2:], wanted.shape[1:])]
        raise Unfit(
            f"it answers {sizes[0]}, the masks are {sizes[1]} (height by width): set post = "
            '{ type = "argmax", upsample = true }, or bring it to its input\'s size in forward()'
        )
    held = wanted != IGNORED_PIXEL
    if values.shape[1] > 1:
        if term.output.trained_by == "bce":
            raise Unfit(f'loss "bce" is of one class, found {values.shape[1]}: loss = "cross_entropy"')
        return _of_classes(term, values, wanted, IGNORED_PIXEL, "classes")
    if term.output.trained_by == "cross_entropy":
        raise Unfit('one channel is the largest of itself: loss = "bce", and post = "sigmoid"')
    if bool((wanted[held] > 1).any()):
        raise Unfit(f"it scores one class, and the masks have a class {int(wanted[held].max())} (255 is ignored)")
    return _of_yes_or_no(term, values[:, 0], wanted.masked_fill(~held, 0), held)


def _boxes(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    """One box an object, in the target's order; what a detector matches is its own affair."""
    counts = {len(each) for each in targets.columns[term.output.held_against]}
    post = term.output.post
    if values.ndim != 3 or values.shape[2] != 4 or counts != {values.shape[1]}:
        raise Unfit(
            f"it gives {_shape(values)}, and samples have {', '.join(map(str, sorted(counts)))} boxes: loss "
            f'"{term.output.trained_by}" is of as many; which box answers which is for loss = "file.py:function"'
        )
    wanted = _stacked(term, targets).to(values.dtype)
    first, second = wanted[..., :2], wanted[..., 2:]
    if post.format == "xywh":
        wanted = torch.cat([first, second - first], -1)
    elif post.format == "cxcywh":
        wanted = torch.cat([(first + second) / 2, second - first], -1)
    if post.normalized:
        if term.about.size is None:
            raise Unfit("boxes are shares of an image input, and the model has none")
        height, width = term.about.size
        wanted = wanted / wanted.new_tensor([width, height, width, height])
    return _of_numbers(term, values, wanted)


def _keypoints(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets)[:, 0]
    if values.ndim != 3 or values.shape[2] not in (2, 3) or values.shape[1] != wanted.shape[1]:
        raise Unfit(f"it gives {_shape(values)}, the target has {wanted.shape[1]} keypoints (x y)")
    seen = (wanted[..., 2:] > 0).expand(-1, -1, 2)
    return _of_numbers(term, values[..., :2], wanted[..., :2], seen)


def _heatmap(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    """A peak of height 1 around each visible keypoint (Tompson et al. 2014); maps of others count for nothing."""
    wanted = _stacked(term, targets)[:, 0].to(values.dtype)
    if values.ndim != 4 or values.shape[1] != wanted.shape[1]:
        raise Unfit(f"wanted [1, {wanted.shape[1]}, h, w], found {_shape(values)}")
    if term.about.size is None:
        raise Unfit("the model has no image input, whose pixels a peak's place could be of")
    height, width = values.shape[2:]
    rows = (torch.arange(height, dtype=values.dtype, device=values.device) + 0.5)[:, None]
    columns = (torch.arange(width, dtype=values.dtype, device=values.device) + 0.5)[None]
    x = (wanted[..., 0] * (width / term.about.size[1]))[..., None, None]
    y = (wanted[..., 1] * (height / term.about.size[0]))[..., None, None]
    peaks = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * term.output.loss.sigma**2))
    seen = (wanted[..., 2] > 0)[..., None, None].expand_as(values)
    return _of_numbers(term, values, peaks, seen)


def _embedding(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    """Against vectors 1 - cosine; against labels the same of all pairs of one label in a batch, and of pairs of two
    labels their cosine over the margin."""
    wanted, vectors = _stacked(term, targets), values.reshape(len(values), -1)
    if wanted.ndim > 1 or wanted.is_floating_point():
        flat = wanted.reshape(len(wanted), -1).to(values.dtype)
        if flat.shape != vectors.shape:
            raise Unfit(f"it has {vectors.shape[1]} values, the targets have {flat.shape[1]}")
        return (1 - functional.cosine_similarity(vectors, flat, dim=1)).mean()
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1, device=vectors.device)
    if not len(first):
        return vectors.sum() * 0.0  # one sample has no pair
    alike = torch.where(wanted[first] == wanted[second], 1, -1)
    return functional.cosine_embedding_loss(vectors[first], vectors[second], alike, margin=term.output.loss.margin)


def _tokens(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    if values.ndim != 3:
        raise Unfit(f"wanted [1, T, tags], found {_shape(values)}")
    numbers = torch.full(values.shape[:2], IGNORED_TAG, dtype=torch.int64, device=values.device)
    for row, tags in zip(numbers, targets.columns[term.output.held_against], strict=True):
        if len(tags) > len(row):
            raise Unfit(f"it tags {len(row)} tokens, a sample has {len(tags)}")
        row[: len(tags)] = torch.as_tensor(tags)
    return _of_classes(term, values.transpose(1, 2), numbers, IGNORED_TAG, "tags")


def _sequence(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    """CTC (Graves et al. 2006) of each text's letters."""
    if values.ndim != 3:
        raise Unfit(f"wanted [1, T, letters], found {_shape(values)}")
    post = term.output.post
    letters = list(post.alphabet or term.about.labels)
    if not letters or len(letters) != values.shape[2] - 1 or post.blank >= values.shape[2]:
        raise Unfit(
            f"it scores {values.shape[2]} letters, wanted {len(letters)} and a blank (number {post.blank}): say post = "
            '{ type = "ctc_greedy", blank = …, alphabet = "…" }, or give data.labels'
        )
    letters.insert(post.blank, "")
    numbers = {letter: number for number, letter in enumerate(letters) if letter}
    texts = [_numbers_of(str(text), numbers) for text in targets.columns[term.output.held_against]]
    steps = values.shape[1]
    for text, found in zip(targets.columns[term.output.held_against], texts, strict=True):
        # Between two equal letters there is a blank.
        needed = len(found) + sum(one == other for one, other in itertools.pairwise(found))
        if needed > steps:
            raise Unfit(f"it has {steps} time steps, and the text {_cut(str(text))!r} needs {needed} for CTC")
    return functional.ctc_loss(
        functional.log_softmax(values, 2).transpose(0, 1),
        torch.tensor([number for text in texts for number in text], dtype=torch.int64, device=values.device),
        torch.full((len(values),), steps, dtype=torch.int64),
        torch.tensor([len(text) for text in texts], dtype=torch.int64),
        blank=post.blank,
    )


def _numbers_of(text: str, numbers: dict[str, int]) -> list[int]:
    """Letters may be longer than one character: the longest that fits is taken."""
    longest, found, at = max(map(len, numbers)), list[int](), 0
    while at < len(text):
        letter = next((text[at : at + size] for size in range(longest, 0, -1) if text[at : at + size] in numbers), "")
        if not letter:
            raise Unfit(f"the text {_cut(text)!r} has {text[at]!r}, which is none of its {len(numbers)} letters")
        found.append(numbers[letter])
        at += len(letter)
    return found


def _image(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    wanted = _stacked(term, targets)
    top = 255.0 if wanted.dtype == torch.uint8 else 1.0
    planes_first = wanted.permute(0, 3, 1, 2)
    if values.shape not in (planes_first.shape, wanted.shape):
        raise Unfit(f"it answers {list(values.shape[1:])}, the targets are {list(wanted.shape[1:])} (H, W, channels)")
    truth = planes_first if values.shape == planes_first.shape else wanted
    return _of_numbers(term, values, truth.to(values.dtype) * (term.output.post.white / top))


def _waveform(term: Term, values: Tensor, targets: NamedTargets) -> Tensor:
    sounds = targets.columns[term.output.held_against]
    flat = values.reshape(len(values), -1)
    lengths = {len(sound) for sound in sounds}
    if lengths != {flat.shape[1]}:
        listed = ", ".join(f"{length:,}" for length in sorted(lengths)[:4])
        raise Unfit(f"it gives {flat.shape[1]:,} values of sound, the targets have {listed}")
    return _of_numbers(term, flat, _stacked(term, targets))


def _shape(values: Tensor) -> list[int]:
    return [1, *values.shape[1:]]


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


_TERMS: dict[str, Callable[[Term, Tensor, NamedTargets], Tensor]] = {
    "logits": _logits,
    "multilabel": _multilabel,
    "binary": _binary,
    "regression": _regression,
    "segmentation": _segmentation,
    "boxes": _boxes,
    "keypoints": _keypoints,
    "heatmap": _heatmap,
    "embedding": _embedding,
    "tokens": _tokens,
    "sequence": _sequence,
    "image": _image,
    "waveform": _waveform,
}
