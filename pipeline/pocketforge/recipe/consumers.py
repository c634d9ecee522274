"""What reads a file in an app, and which files it can read: rules of a target's `consumers` with the rest of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pocketforge.recipe.data import Data, is_of_images
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.image_steps import CenterCrop, Normalize, Pad, Resize
from pocketforge.recipe.model import Model
from pocketforge.recipe.output import Output
from pocketforge.recipe.packed import Cut, cut, written_out
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Preprocessing, lists_of
from pocketforge.recipe.sound_steps import Resample, Tokenize
from pocketforge.recipe.target import Target

# Kind of the file's input → role of an output → the MediaPipe task that such a file is for.
TASKS = {
    "image": {
        "logits": "ImageClassifier",
        "embedding": "ImageEmbedder",
        "segmentation": "ImageSegmenter",
        "boxes": "ObjectDetector",
    },
    "sound": {"logits": "AudioClassifier"},
    "text": {"logits": "TextClassifier", "embedding": "TextEmbedder"},
}
# Why there is none for an output of a role.
_NO_TASK = {
    "tokens": "it has no task that tags tokens: run the file with LiteRT (pocketforge package)",
}


def consumed_output(judged: Iterable[Output], kind: str) -> Output | None:
    """The output that a MediaPipe task reads: the first of a role that one is for, boxes last, as ObjectDetector takes
    no output beside its own. kind: of the input, as in TASKS."""
    found = [each for each in judged if each.role in TASKS[kind]]
    return min(found, key=lambda each: each.role == "boxes", default=None)


def as_mediapipe_resizes(preprocess: Preprocessing, *, images: bool) -> Preprocessing:
    """Preprocessing of an app that hands whole pictures to a MediaPipe task.

    It stretches them to the model's size, whatever the recipe does, by its own arithmetic. None where the recipe makes
    no size, so that a task has nothing to do.

    images: whether the source's samples are.
    """
    if isinstance(preprocess, Preprocess) or (preprocess is None and images):
        lists: tuple[InputSteps, ...] = (InputSteps(written_out(preprocess or Preprocess())),)
    else:
        lists = preprocess or ()
    if len(lists) != 1:
        return None
    steps = lists[0].step
    places = [place for place, step in enumerate(steps) if isinstance(step, Resize | CenterCrop | Pad)]
    size = getattr(steps[places[-1]], "size", ()) if places else ()
    if not size:
        return None
    kept = (step for step in steps[places[0] :] if not isinstance(step, Resize | CenterCrop | Pad))
    found = (*steps[: places[0]], Resize(size=size, like="mediapipe"), *kept)
    return (replace(lists[0], step=found),) if found != steps else None


def faults_of_consumers(target: Target, model: Model, data: Data, judged: Sequence[Output]) -> Iterator[Fault]:
    """What is wrong with a target's `consumers`. judged: as `Recipe.judged`."""
    for consumer in ("litert_js", "onnxruntime_web"):
        if consumer in target.consumers and model.states:
            yield Fault(f"{consumer} is tried sample by sample, and the model has states: {model.states[0].state}")
    if "mediapipe" not in target.consumers:
        return
    if target.package.postprocess == "argmax":
        yield Fault("mediapipe reads scores of classes, and argmax gives their numbers: use softmax")
    if step := text_step(data.preprocess):
        yield from _of_text(step, target, judged)
        return
    try:
        parts = cut(data.preprocess, target.layout, images=is_of_images(data.source))
    except WrongTable as error:
        if not target.package.inside:  # then it is said of that
            for fault in error.faults:
                yield Fault(f"mediapipe feeds pixels, or sound as it is: {fault.inside('data.preprocess')}")
        return
    kind = parts.inside[0].kind if len(parts.inside) == 1 else ""
    if kind not in TASKS:
        yield Fault("mediapipe is tried with files of one image, one sound or one text")
        return
    read = consumed_output(judged, kind)
    if read is None:
        yield _no_task(kind, judged)
    elif read.role == "segmentation" and target.package.postprocess != "masks":
        yield Fault(
            "mediapipe reads masks channels last, and others wrongly without a word; the model's are first: package = "
            '{ postprocess = "masks" }'
        )
    elif read.role == "boxes":
        yield from _of_boxes(read, judged)
    if kind == "sound":
        yield from _of_sound(target, parts)
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


def text_step(preprocess: Preprocessing) -> Tokenize | None:
    """How a text becomes ids, where one text is all that a sample is."""
    lists = lists_of(preprocess)
    steps = [step for step in lists[0].step if isinstance(step, Tokenize)] if len(lists) == 1 else []
    return steps[0] if steps else None


def _no_task(kind: str, judged: Sequence[Output]) -> Fault:
    found = ", ".join(each.role for each in judged)
    why = next((f": {_NO_TASK[each.role]}" for each in judged if each.role in _NO_TASK), "")
    return Fault(f"mediapipe is tried with an output of role {' or '.join(TASKS[kind])}, found {found}{why}")


def _of_text(step: Tokenize, target: Target, judged: Sequence[Output]) -> Iterator[Fault]:
    """Text tasks make a text into ids by themselves, as BERT does, and feed three inputs."""
    if target.package.inside:  # then it is said of that
        return
    if consumed_output(judged, "text") is None:
        yield _no_task("text", judged)
    if set(step.gives) != {"ids", "mask", "type_ids"}:
        yield Fault(
            'mediapipe\'s text tasks feed three inputs: gives = ["ids", "mask", "type_ids"], found '
            f"{', '.join(step.gives)}: give the model these, also where it does not need them"
        )
    if step.dtype != "int32":
        yield Fault(f'mediapipe\'s text tasks feed int32: dtype = "int32" in the step tokenize, found {step.dtype}')
    if not step.special_tokens:
        yield Fault("mediapipe's text tasks put [CLS] and [SEP] around a text: special_tokens = true, found false")
    if step.pad_side == "left":
        yield Fault('mediapipe\'s text tasks pad on the right: pad_side = "right", found "left"')


def _of_boxes(boxes: Output, judged: Sequence[Output]) -> Iterator[Fault]:
    """ObjectDetector takes these four outputs after non-maximum suppression, and no other."""
    posts = {each.role: each.processed for each in judged if each.keep}
    if posts != dict.fromkeys(("boxes", "scores", "classes", "count"), "none"):
        yield Fault(
            "mediapipe's ObjectDetector takes four outputs with post none: of roles boxes, scores, classes and count, "
            "after non-maximum suppression (of raw boxes and anchors it wants metadata that is not written); found "
            f"{', '.join(f'{role} (post {post})' for role, post in posts.items())}: decode boxes in the model, or run "
            "the file with LiteRT (pocketforge package)"
        )
    elif boxes.post.format != "xyxy" or not boxes.post.normalized:
        yield Fault(
            "mediapipe's ObjectDetector takes corners as shares of the image's width and height: post = { type = "
            f'"none", format = "xyxy", normalized = true }}, found format {boxes.post.format}, normalized '
            f"{str(boxes.post.normalized).lower()}"
        )


def _of_sound(target: Target, parts: Cut) -> Iterator[Fault]:
    """AudioClassifier takes floats of -1 to 1 in one channel, at a rate that the file says."""
    inside = parts.inside[0]
    if target.package.inside:
        yield Fault(
            'mediapipe feeds sound in floats: leave preprocess outside (package.preprocess = "inside" is 16-bit)'
        )
    if target.io == "uint8":
        yield Fault('mediapipe feeds sound in floats: io = "float32"')
    # The first is the file's own, of 16-bit samples.
    if len(inside.steps) > 1:
        yield Fault(f"mediapipe feeds sound of -1 to 1, and {inside.steps[1].type} comes after: do it in the model")
    if inside.model_layout != "NT":
        yield Fault(f"mediapipe feeds sound of one channel as [1, samples]: layout NT, found {inside.model_layout}")
    if not any(isinstance(step, Resample) for step in parts.outside[0].step):
        yield Fault("mediapipe has to be told the rate: write a step resample, also where it changes nothing")
