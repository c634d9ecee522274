"""Whose fault an exporter's or quantizer's error is: the layer that it was at, found in the error itself."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from types import TracebackType

from torch.fx import Node

from pocketforge.errors import chain_of
from pocketforge.rewrites.graph import has_origin, where

# As torch.fx says which node it was at, and torch.onnx which it could not translate.
_NAMED = re.compile(r"While executing %(\w+)|Error when translating node %(\w+)|node %(\w+) :")
_OPERATOR = re.compile(r"(?:aten|prims)[.:]{1,2}(\w+)")


def layer_of(error: BaseException, nodes: list[Node]) -> str:
    """The layer, by its module's name and the line of the user's code; empty where the error does not tell.

    nodes: of the graph that was given to what failed. The innermost error is asked first: for a node that its frames
    hold, for one that it names, for the one op of its kind in the graph. Where none is told, it is the layer before
    what a frame holds: passes put in nodes that come from no line, and fail at a graph's end.
    """
    chain = list(reversed(chain_of(error)))
    for each in chain:
        for node in _held(each.__traceback__):
            if node.op == "call_function" and node.meta.get("stack_trace") and has_origin(node):
                # The exporter may have taken the op apart: told is the one that the user wrote.
                written = [n for n in nodes if n.meta.get("stack_trace") == node.meta["stack_trace"]]
                return where(written[0] if len(written) == 1 else node)
    by_name = {node.name: node for node in nodes}
    for each in chain:
        named = (next(filter(None, groups)) for groups in _NAMED.findall(str(each)))
        for name in (*named, *_computed(each.__traceback__)):
            if name in by_name:
                return where(by_name[name])
    for each in chain:
        for kind in _OPERATOR.findall(str(each)):
            alike = [n for n in nodes if n.op == "call_function" and _kind(n) == kind]
            if len(alike) == 1:
                return where(alike[0])
    return _by_line(chain, nodes) or next(filter(None, map(_before, chain)), "")


def _before(error: BaseException) -> str:
    """The layer that a node in an error's frames, under whatever name, comes from by the fewest steps."""
    for found in _locals(error.__traceback__):
        held = [value for value in found.values() if isinstance(value, Node)]
        # Where a frame has a graph's end and one of what it gives, it is at the latter.
        at_end = {each for node in held if node.op == "output" for each in node.all_input_nodes}
        for node in sorted(held, key=lambda node: node not in at_end):
            waiting = [node]
            for each in waiting:  # which grows as it goes
                if has_origin(each):
                    return where(each)
                waiting += [other for other in each.all_input_nodes if other not in waiting]
    return ""


def _computed(traceback: TracebackType | None) -> Iterator[str]:
    """What a graph's own code was about to compute: its lines are `node = op(…)`."""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.startswith("<eval_with_key>"):
            assignment = re.match(r"\s*(\w+) = ", linecache.getline(file, traceback.tb_lineno))
            if assignment:
                yield assignment.group(1)
        traceback = traceback.tb_next


def _held(traceback: TracebackType | None) -> Iterator[Node]:
    """Nodes in the local variables of an error's frames that are named as what a pass is at."""
    for found in _locals(traceback):
        for name in ("node", "n", "op_node", "input_node", "bn_node", "conv_node"):
            value = found.get(name)
            if isinstance(value, Node):
                yield value


def _locals(traceback: TracebackType | None) -> Iterator[dict[str, object]]:
    """The local variables of an error's frames, the innermost frame first."""
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return (frame.f_locals for frame in reversed(frames))


def _kind(node: Node) -> str:
    return getattr(node.target, "__name__", "").split(".")[0]


def _by_line(chain: list[BaseException], nodes: list[Node]) -> str:
    """By the line of torch's or the user's code that a converter's message names, if one layer alone comes from it."""
    for each in chain:
        for file, line in re.findall(r"(/[^\s:\"']+\.py)\W+(?:line )?(\d+)", str(each)):
            alike = [n for n in nodes if f'File "{file}", line {line},' in (n.meta.get("stack_trace") or "")]
            if alike and len({where(n) for n in alike}) == 1:
                return where(alike[0])
    return ""
