"""Rules between what trains, or ranks by a loss, and the losses that [[output]] tables say or leave to their roles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.recipe.compress import Compress, DropLayers, Finetune, PruneChannels, PruneUnstructured
from pocketforge.recipe.faults import Fault
from pocketforge.recipe.output import Output
from pocketforge.recipe.output_loss import UNTRAINED
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.target import Target
from pocketforge.recipe.user_words import user_code

# What is left out of distillation whatever it is held against: nothing of it can be learnt.
_NOT_TAUGHT = ("state", "classes", "count")
# Whose targets are places in an image, or an image: they would have to move with it.
_PLACES = ("segmentation", "boxes", "keypoints", "heatmap", "image")


def goes_by_losses(entry: Compress) -> bool:
    """Whether an entry of [[compress]] trains by the outputs' losses, or ranks by them."""
    if isinstance(entry, Finetune):
        return not entry.loss
    if isinstance(entry, PruneUnstructured):
        return entry.criterion == "taylor"
    if isinstance(entry, PruneChannels):
        within = entry.finetune is not None and goes_by_losses(entry.finetune)
        return entry.importance == "taylor" or within
    assert isinstance(entry, DropLayers)
    return True


def faults_of_losses(outputs: Sequence[Output], because: str) -> Iterator[Fault]:
    """What has no loss, of a recipe in which something goes by them. because: what does, in words."""
    detector = next((each for each in outputs if each.keep and each.role == "boxes"), None)
    matched = detector is not None and user_code(detector.trained_by) is not None
    for index, output in enumerate(outputs):
        if not output.keep:
            continue
        why = ROLES[output.role].untrained
        if output.loss.type or output.role in ("state", "count") or (matched and output.role in ("scores", "classes")):
            why = ""
        elif output.role == "segmentation" and output.processed == "none":
            why = "class numbers have no gradient"
        if why:
            ways = [f'"{each}" where each sample has as many boxes as the output' for each in _plain(output)]
            several = ", ".join(['"file.py:function"', *ways, f'"{UNTRAINED}" to leave it out of training'])
            fault = f"{because} goes by losses, and role {output.role} has none of its own ({why}): say {several}"
            yield Fault(fault, f"output[{index}].loss")
    if all(output.trained_by == UNTRAINED for output in outputs if output.keep):
        yield Fault(f'{because} goes by losses, and no output has one: say loss = "file.py:function"', "output")


def _plain(output: Output) -> tuple[str, ...]:
    return ROLES[output.role].losses[:1] if output.role == "boxes" else ()


def faults_of_dropped(outputs: Sequence[Output]) -> Iterator[Fault]:
    """Losses of outputs that are in no file: no sample's targets are read for them."""
    for index, output in enumerate(outputs):
        if not output.keep and output.loss.type not in ("", UNTRAINED):
            unread = "keep = false: its targets are not read, so nothing trains it; leave out loss"
            yield Fault(unread, f"output[{index}].loss")


def faults_of_schemes(targets: Sequence[Target], outputs: Sequence[Output]) -> Iterator[Fault]:
    """Schemes that cannot be of outputs with roles."""
    dropped = [output.name for output in outputs if not output.keep]
    for index, target in enumerate(targets):
        info, where = target.quantize.info, f"target[{index}].quantize"
        if info.studies_layers:
            one = "searches by one task: it needs task classification or regression"
            yield Fault(f"scheme {target.quantize.scheme} {one}", where)
        if info.is_trained and dropped:
            whole = f"{target.quantize.scheme} trains the whole graph, with output {dropped[0]!r} of keep = false"
            yield Fault(f"{whole}: leave it out in forward()", where)


def taught(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """Those that learn from a teacher's: real numbers, not what goes into the next call, nor what is left out of
    training."""
    return tuple(
        each
        for each in outputs
        if each.role not in _NOT_TAUGHT
        and each.loss.type != UNTRAINED
        and not (each.role == "segmentation" and each.processed == "none")
    )


def faults_of_training(entry: Finetune, outputs: Sequence[Output], where: str) -> Iterator[Fault]:
    """What settings of a training cannot be, of outputs that have roles. outputs: those that are kept."""
    if entry.label_smoothing and not any(each.trained_by == "cross_entropy" for each in outputs):
        yield Fault("label_smoothing is of loss cross_entropy, which no output is trained by", where)
    places = [each for each in outputs if each.role in _PLACES and (entry.loss or each.trained_by != UNTRAINED)]
    if entry.shift and places:
        moved = f"shift moves images, and not the {places[0].kind_of_target} of role {places[0].role} with them"
        yield Fault(f"{moved}: leave it out", where)
    distill = entry.distill
    if distill is None:
        return
    learning = taught(outputs)
    if not learning:
        left = f'roles {", ".join(_NOT_TAUGHT)}, class numbers and loss "{UNTRAINED}" are left out'
        yield Fault(f"distill: no output can be learnt from a teacher ({left})", where)
    roles = [each.role for each in learning]
    if distill.method == "dkd" and roles != ["logits"]:
        yield Fault(f"distill: method dkd is for one output of role logits, found {', '.join(roles)}: use kd", where)
