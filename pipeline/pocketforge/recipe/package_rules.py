"""The rules between what a target's file does of the app's side and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.recipe.data import Data, is_of_images
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.model import Model
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.package import Package
from pocketforge.recipe.packed import OF_NUMBERS, ROLES_OF, cut, packed_output
from pocketforge.recipe.target import Target

# From which a file's own probabilities are judged.
_THRESHOLD = Post().threshold


def faults_of_package(target: Target, model: Model, data: Data, judged: Sequence[Output]) -> Iterator[Fault]:
    """What is wrong with a target's `package`. judged: as `Recipe.judged`."""
    if target.package.packs and model.varying and not target.sizes and not target.bucket:
        yield Fault(
            "what is inside is of fixed shapes, and sizes of the model's inputs vary: give the target sizes = [[…], "
            "[…]], a file of fixed shapes for each",
            "preprocess" if target.package.inside else "postprocess",
        )
    if target.package.inside:
        yield from _of_inputs(target, model, data)
    if target.package.postprocess != "none":
        yield from _of_output(target, judged)
    if target.package.calibration:
        yield from _of_calibration(target, judged)


def calibrated_output(package: Package, judged: Sequence[Output]) -> Output | None:
    """The output whose scores a calibration is of: the first of role logits, where there is one."""
    return next((each for each in judged if each.role == "logits"), None) if package.calibration else None


def _of_calibration(target: Target, judged: Sequence[Output]) -> Iterator[Fault]:
    if target.runtime != "tflite" or not target.has_metadata:
        yield Fault(
            "is a part of TFLite Metadata: it wants runtime tflite and metadata = true, found runtime "
            f"{target.runtime!r}, metadata {str(target.has_metadata).lower()}",
            "calibration",
        )
    if calibrated_output(target.package, judged) is None or target.package.postprocess == "argmax":
        found = ", ".join(each.role for each in judged) or "none"
        found = "argmax of it" if target.package.postprocess == "argmax" else found
        yield Fault(f"is of a classifier's scores: wanted an output of role logits, found {found}", "calibration")


def _of_inputs(target: Target, model: Model, data: Data) -> Iterator[Fault]:
    if model.states:
        yield Fault("a model with states takes what the step before gave: leave preprocess outside", "preprocess")
        return
    try:
        cut(data.preprocess, target.layout, images=is_of_images(data.source))
    except WrongTable as error:
        for fault in error.faults:
            yield Fault(f"{fault.inside('data.preprocess')}", "preprocess")


def _of_output(target: Target, judged: Sequence[Output]) -> Iterator[Fault]:
    package = target.package
    packed = packed_output(package, judged)
    able = ROLES_OF[package.postprocess]
    if packed is None:
        roles = " or ".join(able)
        found = ", ".join(f"{each.name or 'the only one'} of role {each.role}" for each in judged) or "none"
        named = f" of the name {package.output!r}" if package.output else ""
        yield Fault(f"{package.postprocess} is for an output of role {roles}{named}, found {found}", "postprocess")
        return
    if _is_finished(packed, package.postprocess):
        given = "class numbers" if packed.role == "segmentation" else "probabilities"
        yield Fault(
            f"the output is said to give {given} already, and {package.postprocess} of them is another answer: leave "
            f'postprocess out, or post = "none" of the output',
            "postprocess",
        )
        return
    if package.postprocess == "argmax" and packed.role == "logits":
        # Top-5 is passed over, but it cannot be all that there is to judge by.
        passed = {"accuracy_top5"} if set(packed.taken) & OF_NUMBERS else set[str]()
        lost = [name for name in packed.metrics if name not in OF_NUMBERS and name not in passed]
        if lost:
            yield Fault(
                f"argmax gives class numbers, which {', '.join(lost)} cannot be taken of: use softmax", "postprocess"
            )
    if packed.post.threshold != _THRESHOLD:
        yield Fault(
            f"{package.postprocess} inside gives probabilities, which are judged from {_THRESHOLD} on, found "
            f"post.threshold = {packed.post.threshold}: leave postprocess to the app",
            "postprocess",
        )
    if packed.processed not in ("none", "argmax" if package.postprocess == "masks" else package.postprocess):
        yield Fault(
            f"the output is judged after post {packed.processed!r}, and the file would give it after "
            f"{package.postprocess!r}: leave postprocess to the app",
            "postprocess",
        )
    if packed.post.upsample:
        yield Fault(
            "scores are brought to the target's size before argmax (post.upsample), which no file does", "postprocess"
        )


def _is_finished(output: Output, postprocess: str) -> bool:
    """Whether the output is what postprocess makes. Of class scores and of shares the largest is the same."""
    return output.post.type == "none" and (postprocess != "argmax" or output.role == "segmentation")


def fault_of_numbers(target: Target, metric: str, output: Output, judged: Sequence[Output]) -> str:
    """Why a target has no value of an output's metric: it gives class numbers; empty where it has one."""
    is_number = target.package.postprocess == "argmax" and output.role == "logits"
    own = any(each.name == metric for each in output.user_metrics)
    if not is_number or own or metric in OF_NUMBERS or packed_output(target.package, judged) != output:
        return ""
    return f"target {target.name!r} gives class numbers (argmax), which {metric} cannot be taken of: use softmax"
