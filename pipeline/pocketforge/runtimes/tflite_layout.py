"""litert-torch's layout pass, with a de-quantize op for each reader whose axes it exchanges.

Before a reader that takes a quantized map in the other order the pass puts `transpose, quantize, de-quantize`, and
notes the new order on the de-quantize op that it comes from too. That op's next reader is then taken to have its map in
this order, and gets it in the other: no file, or, where sizes are equal, axes that are silently exchanged (9 dB).
litert-torch's own decompositions, of `lerp` for one, make two readers of one, where no rewrite of ours sees them.
"""

from __future__ import annotations

import functools
from typing import Any

from litert_torch._convert.fx_passes import OptimizeLayoutTransposesPass  # noqa: PLC2701 - no public name
from torch.fx import Graph, Node

_insert = OptimizeLayoutTransposesPass.insert_t_q_dq


@functools.wraps(_insert)
def _insert_behind_a_copy(self: Any, graph: Graph, input_dq: Node, target: Node, *rest: Any) -> Any:
    with graph.inserting_before(target):
        own = graph.node_copy(input_dq)
    own.meta = dict(input_dq.meta)
    target.replace_input_with(input_dq, own)
    return _insert(self, graph, own, target, *rest)


OptimizeLayoutTransposesPass.insert_t_q_dq = _insert_behind_a_copy
