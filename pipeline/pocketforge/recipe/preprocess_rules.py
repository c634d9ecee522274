"""Which steps may stand after which, and which numbers cannot go together: known before a sample is read."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.recipe.faults import Fault
from pocketforge.recipe.image_steps import CenterCrop, Color, Layout, Normalize, Pad, Resize
from pocketforge.recipe.sound_steps import LogMel, Mono, Resample, Tokenize

# What layouts of sound need: features, or a plain waveform.
_OF_FEATURES = frozenset({"NTF", "NFT", "NCTF", "NCFT"})


def list_faults(steps: Sequence[object]) -> list[Fault]:
    """What is wrong with a list: steps of another kind, an order that makes no sense, numbers that cannot fit."""
    faults = [*_kinds(steps), *_order(steps)]
    if not faults:
        faults = [*_sizes(steps), *_channels(steps), *_rates(steps)]
    return faults


def _kinds(steps: Sequence[object]) -> list[Fault]:
    """An image, a sound and a text have steps of their own."""
    kinds = [(index, kind) for index, step in enumerate(steps) if (kind := getattr(step, "KIND", ""))]
    if not kinds:
        return []
    at, first = kinds[0]
    of = f"and {_name(steps[at])} for {first}: one list, one kind"
    return [
        Fault(f"{_name(steps[index])} is for {kind}, {of}", f"step[{index}]") for index, kind in kinds if kind != first
    ]


def _order(steps: Sequence[object]) -> list[Fault]:
    faults: list[Fault] = []
    last = len(steps) - 1
    made = ""  # log_mel or mfcc, once it has been
    for index, step in enumerate(steps):
        at = f"step[{index}]"
        if isinstance(step, Layout):
            if index != last:
                faults.append(Fault(f"layout must be the last step, found {_name(steps[index + 1])} after it", at))
            if step.KIND == "sound" and (step.to in _OF_FEATURES) != bool(made):
                has = "after log_mel or mfcc" if step.to in _OF_FEATURES else "of a waveform, not of bands"
                faults.append(Fault(f"layout {step.to} is {has}", at))
        if isinstance(step, Tokenize) and index:
            before = _name(steps[0])
            faults.append(Fault(f"tokenize must be the first step: it takes the text, not what {before} gives", at))
        if index and isinstance(steps[0], Tokenize):
            faults.append(Fault(f"nothing is done to token ids, found {_name(step)} after tokenize", at))
        if made and isinstance(step, Resample | Mono | LogMel):
            faults.append(Fault(f"{_name(step)} takes a waveform, not what {made} gives: put it before", at))
        if isinstance(step, LogMel):
            made = _name(step)
    return faults


def _sizes(steps: Sequence[object]) -> list[Fault]:
    """Crops that are larger than any image can be there, and padding to less than it is."""
    faults = []
    known: tuple[int | None, int | None] = (None, None)  # height and width, where every image has one
    most: int | None = None  # of the shorter side
    for index, step in enumerate(steps):
        at = f"step[{index}]"
        if isinstance(step, CenterCrop):
            wrong = [w for w, k in zip(step.size, known, strict=True) if k is not None and w > k]
            if wrong or (most is not None and min(step.size) > most):
                has = f"{known[0]} × {known[1]} pixels" if known[0] else f"a shorter side of {most} pixels"
                faults.append(Fault(f"a crop of {_by(step.size)} is larger than the image, which has {has} there", at))
        if isinstance(step, Pad) and any(k is not None and k > w for w, k in zip(step.size, known, strict=False)):
            faults.append(Fault(f"a pad to {_by(step.size)} is less than the image's {_by(known)}", at))
        known, most = _size_after(step, known, most)
    return faults


def _size_after(
    step: object, known: tuple[int | None, int | None], most: int | None
) -> tuple[tuple[int | None, int | None], int | None]:
    """The size of every image after a step, and the most that its shorter side may be; None where images differ."""
    if isinstance(step, Resize):
        if step.size:
            return (step.size[0], step.size[1]), min(step.size)
        return (None, None), step.shorter or step.longest or min(step.fit)
    if isinstance(step, CenterCrop) or (isinstance(step, Pad) and step.size):
        return (step.size[0], step.size[1]), min(step.size)
    if isinstance(step, Pad):
        left, top, right, bottom = step.by
        high = known[0] + top + bottom if known[0] is not None else None
        wide = known[1] + left + right if known[1] is not None else None
        return (high, wide), None if high is None or wide is None else min(high, wide)
    return known, most


def _channels(steps: Sequence[object]) -> list[Fault]:
    """Means and padding of another number of channels than `color` leaves."""
    faults = []
    channels = 0
    for index, step in enumerate(steps):
        if isinstance(step, Color):
            channels = step.channels
        found = len(step.mean) if isinstance(step, Normalize) else len(step.value) if isinstance(step, Pad) else 1
        if channels and found not in (1, channels):
            what = "mean and std" if isinstance(step, Normalize) else "value"
            wanted = "1 value" if channels == 1 else f"1 value or {channels}, one a channel"
            faults.append(Fault(f"{what}: wanted {wanted}, found {found}", f"step[{index}]"))
    return faults


def _rates(steps: Sequence[object]) -> list[Fault]:
    """Bands of another rate than the samples have there."""
    faults = []
    rate = 0
    for index, step in enumerate(steps):
        if isinstance(step, LogMel) and rate and step.rate_hz != rate:
            faults.append(
                Fault(f"{_name(step)} is of {step.rate_hz} Hz, and resample gives {rate} Hz", f"step[{index}].rate_hz")
            )
        if isinstance(step, Resample):
            rate = step.rate_hz
    return faults


def _name(step: object) -> str:
    return str(getattr(step, "type", step))


def _by(size: Sequence[int | None]) -> str:
    return " × ".join("any" if side is None else str(side) for side in size)
