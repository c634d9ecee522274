"""What XNNPACK computes as parts of the graph that no cycle runs through."""

from __future__ import annotations

from collections.abc import Mapping

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir.backend.canonical_partitioners.group_partitioner import GroupBasedPartitioner
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.passes.infra.partitioner import Partition
from torch.fx.passes.operator_support import OperatorSupportBase


class PartitionerWithoutCycles(XnnpackPartitioner):  # type: ignore[misc]
    """XNNPACK's, whose merging sees each pair of partitions alone: a way out of two through a third, and back into
    them, it does not see, and lowering fails on "dependency cycles" then.
    """

    def generate_partitions(self, ep: ExportedProgram) -> list[Partition]:
        """As its base does."""
        groups = self.get_matched_nodes_from_configs(ep)
        ours = _Ours({node for group in groups for node in group})
        merging = _Merging(ep.graph_module, ours, allows_single_node_partition=True, node_groups=groups)
        partitions: list[Partition] = merging.propose_partitions()
        return partitions


class _Ours(OperatorSupportBase):  # type: ignore[misc]
    def __init__(self, nodes: set[Node]) -> None:
        self._nodes = nodes

    def is_node_supported(self, submodules: Mapping[str, object], node: Node) -> bool:
        return node in self._nodes


class _Merging(GroupBasedPartitioner):  # type: ignore[misc]
    def _can_merge_partitions(self, p1: int, p2: int, partitions_by_id: dict[int, Partition]) -> bool:
        if not super()._can_merge_partitions(p1, p2, partitions_by_id):
            return False
        together = {**partitions_by_id[p1].nodes, **partitions_by_id[p2].nodes}
        of = {node: part for part in partitions_by_id.values() for node in part.nodes}
        waiting = [user for node in together for user in node.users if user not in together]
        seen = set(waiting)
        while waiting:
            node = waiting.pop()
            # Who enters a partition leaves it at any of its ends.
            inside = list(of[node].nodes) if node in of else [node]
            seen.update(inside)
            for each in inside:
                for user in each.users:
                    if user in together:
                        return False
                    if user not in seen:
                        seen.add(user)
                        waiting.append(user)
        return True
