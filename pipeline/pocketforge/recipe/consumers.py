"""What reads a file in an app, and which files it can read: rules of a target's `consumers` with the rest of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pocketforge.recipe.data import Data, is_of_images
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.image_steps import Normalize
from pocketforge.recipe.model import Model
from pocketforge.recipe.output import Output
from pocketforge.recipe.packed import cut
from pocketforge.recipe.target import Target

# Of outputs that a task is for.
ROLES = ("logits", "embedding")


def consumed_output(judged: Iterable[Output]) -> Output | None:
    """The output that a MediaPipe task reads: the first of a role that one is for."""
    return next((each for each in judged if each.role in ROLES), None)


def faults_of_consumers(target: Target, model: Model, data: Data, judged: Sequence[Output]) -> Iterator[Fault]:
    """What is wrong with a target's `consumers`. judged: as `Recipe.judged`."""
    for consumer in ("litert_js", "onnxruntime_web"):
        if consumer in target.consumers and model.states:
            yield Fault(f"{consumer} is tried sample by sample, and the model has states: {model.states[0].state}")
    if "mediapipe" not in target.consumers:
        return
    if consumed_output(judged) is None:
        found = ", ".join(each.role for each in judged)
        yield Fault(f"mediapipe is tried with an output of role {' or '.join(ROLES)}, found {found}")
    if target.package.postprocess == "argmax":
        yield Fault("mediapipe reads scores of classes, and argmax gives their numbers: use softmax")
    try:
        parts = cut(data.preprocess, target.layout, images=is_of_images(data.source))
    except WrongTable as error:
        if not target.package.inside:  # then it is said of that
            for fault in error.faults:
                yield Fault(f"mediapipe feeds pixels: {fault.inside('data.preprocess')}")
        return
    if len(parts.inside) != 1 or parts.inside[0].kind != "image":
        yield Fault("mediapipe is tried with files of one image input")
        return
    several = [
        step
        for step in parts.inside[0].steps
        if isinstance(step, Normalize) and max(len(set(step.mean)), len(set(step.std))) > 1
    ]
    reverses = parts.inside[0].reverses_channels
    if not target.package.inside and (several or reverses):
        what = "one mean and std for all channels" if several else "images in RGB"
        yield Fault(f'mediapipe takes {what}: package = {{ preprocess = "inside" }} has the file do the rest')
