"""Operators that are made of others get the kernels that torch gives them, and have their own again afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch._export import utils  # noqa: E402, PLC2701 - no public name
from torch._subclasses import FakeTensorMode, fake_impls  # noqa: E402, PLC2701 - no public name
from torch.export import exported_program as torchs  # noqa: E402

from pocketforge.rewrites import composite_kernels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other

LINEAR = torch.ops.aten.linear.default


def composites() -> dict[Any, Callable[..., Any]]:
    """Every operator that torch's own table changes, as the table has it; `linear` stays whole."""
    table = dict(torch.export.default_decompositions().items())
    del table[LINEAR]
    changed, _ = torchs._split_decomp_table_to_cia_and_python_decomp(table)
    return changed


def described(kernel: Any) -> Any:
    """A kernel by its code and what it was made of: torch makes new ones each time."""
    if isinstance(kernel, functools.partial):
        return described(kernel.func), kernel.args, kernel.keywords
    if "<locals>" in getattr(kernel, "__qualname__", ""):
        return kernel.__code__, [cell.cell_contents for cell in kernel.__closure__ or ()]
    return kernel


def kernels(ops: Iterable[Any]) -> dict[Any, dict[Any, Any]]:
    return {op: {key: described(kernel) for key, kernel in op.py_kernels.items()} for op in ops}


def test_each_key_has_the_kernel_that_torch_gives_it_and_gets_its_own_back():
    changed = composites()
    assert len(changed) > 400 and LINEAR in changed
    before, rules = kernels(changed), dict(fake_impls.op_implementations_dict)
    inside = []
    for override in (torchs._override_composite_implicit_decomp, composite_kernels.TORCHS_OVERRIDE):
        with override(changed):
            given = fake_impls.op_implementations_dict
            own = {op: described(given[op].keywords["original_callable"]) for op in changed if op not in rules}
            inside.append((kernels(changed), own, given.keys() - rules.keys()))
            assert not any(op._dispatch_cache for op in changed)
        assert kernels(changed) == before
        # torch takes away the rules of all that it changed, also those that were there before.
        assert fake_impls.op_implementations_dict == {op: rule for op, rule in rules.items() if op not in changed}
        fake_impls.op_implementations_dict.update(rules)
    assert inside[0] == inside[1]
    assert all(len(each) > 20 for each in inside[0][0].values())
    with pytest.raises(ZeroDivisionError), composite_kernels.overridden(changed):
        raise ZeroDivisionError
    assert kernels(changed) == before
    fake_impls.op_implementations_dict.update(rules)


def test_fake_tensors_go_by_an_operators_own_code():
    with FakeTensorMode() as mode:
        x, weight = torch.empty(2, 3), torch.empty(5, 3)
    for override in (torchs._override_composite_implicit_decomp, composite_kernels.TORCHS_OVERRIDE):
        with override({LINEAR: lambda *_: NotImplemented}):
            assert fake_impls.op_implementations_dict[LINEAR](mode, LINEAR, x, weight).shape == (2, 5)
            assert fake_impls.op_implementations_dict[LINEAR](mode, LINEAR, x, weight=weight).shape == (2, 5)


def test_decompositions_are_torchs(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(144, 3)).eval()
    program = torch.export.export(net, (torch.zeros(1, 1, 8, 8),))

    def codes() -> list[str]:
        whole = torch.export.default_decompositions()
        whole.pop(LINEAR)
        tables: tuple[Any, ...] = (None, whole, {})
        return [program.run_decompositions(table).graph_module.code for table in tables]

    ours = codes()
    assert "linear" in ours[1] and "linear" not in ours[0]
    monkeypatch.setattr(torchs, "_override_composite_implicit_decomp", composite_kernels.TORCHS_OVERRIDE)
    monkeypatch.setattr(utils, "_check_valid_to_preserve", composite_kernels.TORCHS_MAY_STAY)
    assert ours == codes()


def test_what_may_stay_whole_is_asked_once_and_is_what_torch_says():
    asked: list[Any] = []

    def counted(op: Any) -> bool:
        asked.append(op)
        return composite_kernels.TORCHS_MAY_STAY(op)

    ours = composite_kernels.remembered(counted)
    packets = [getattr(torch.ops.aten, name) for name in torch.ops.aten]
    overloads = [getattr(packet, name) for packet in packets for name in packet.overloads()]
    wanted = [composite_kernels.TORCHS_MAY_STAY(op) for op in overloads]
    assert [ours(op) for op in overloads] == wanted and asked == overloads
    assert len(overloads) > 1000 and True in wanted and False in wanted
    asked.clear()
    assert [ours(op) for op in overloads] == wanted
    assert not any(torch._C._dispatch_has_kernel(op.name()) for op in asked)  # such may get one
    assert ours(torch.ops.higher_order.cond) is composite_kernels.TORCHS_MAY_STAY(torch.ops.higher_order.cond) is False
    with torch.library._scoped_library("pocketforge_test", "DEF") as library:
        library.define("late(Tensor x) -> Tensor")
        library.define("writes(Tensor(a!) x) -> Tensor(a!)")
        late, writes = torch.ops.pocketforge_test.late.default, torch.ops.pocketforge_test.writes.default
        assert [ours(op) for op in (late, writes)] == [composite_kernels.TORCHS_MAY_STAY(op) for op in (late, writes)]
        library.impl("late", lambda x: x + 1, "CompositeImplicitAutograd")
        assert ours(late) and composite_kernels.TORCHS_MAY_STAY(late) and not ours(writes)
    assert ours(late) == composite_kernels.TORCHS_MAY_STAY(late)


def test_a_torch_that_does_so_elsewhere_is_refused():
    with pytest.raises(ImportError, match="codes has no py_kernels: see"):
        composite_kernels.expect(codes, "len", "py_kernels")


def codes(values: Any) -> int:
    return len(values)
