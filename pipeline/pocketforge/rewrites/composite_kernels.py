"""Operators that are made of others get a decomposition's kernels all at once, and give them back as they were.

For each decomposition, of which an export makes up to five, torch changes some 500 operators: each gets a kernel for
each of 22 keys by a call of its own, most of them made anew for the key, and an operator's memory of what it calls is
emptied each time. That was a tenth of an export. Here each operator's kernels are put together first.

It also asks some 900 operators what their schemas say, which they say each time: that is remembered.

A torch that does not do so in these places fails here, at import.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._export import utils  # noqa: PLC2701 - no public name
from torch._ops import OperatorBase, OpOverload  # noqa: PLC2701 - no public name
from torch.export import exported_program as torchs

Kernel = Callable[..., Any]

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
# As dicts: copies of them have no key hashed again.
AUTOGRAD_KEYS = dict.fromkeys(torchs._AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE)
BACKEND_KEYS = dict.fromkeys(torchs._BACKEND_KEYS_TO_OVERRIDE)


@contextlib.contextmanager
def overridden(decompositions: Mapping[OperatorBase, Kernel]) -> Iterator[None]:
    """torch's `_override_composite_implicit_decomp`: inside, each operator decomposes as it is told here.

    Its comments say why there is a kernel for which key.
    """
    before = {}
    for op, decomposition in decompositions.items():
        before[op] = op.py_kernels.copy()
        own = torchs._get_decomp_for_cia(op)
        not_differentiated = torchs.autograd_not_implemented(op, deferred_error=True)
        op.py_kernels.update(
            dict.fromkeys(AUTOGRAD_KEYS, not_differentiated)
            | dict.fromkeys(BACKEND_KEYS, own)
            | before[op]
            | {COMPOSITE: decomposition}
        )
        op._dispatch_cache.clear()
        if not torchs._is_op_registered_to_fake_rule(op):
            torchs.register_op_impl(op)(functools.partial(_by_its_own, original_callable=own))
    try:
        yield
    finally:
        for op, kernels in before.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()
            torchs._deregister_op_impl(op)


def _by_its_own(fake_tensor_mode: Any, _op: OperatorBase, *args: Any, original_callable: Kernel, **kwargs: Any) -> Any:
    with fake_tensor_mode:
        return original_callable(*args, **kwargs)


def remembered(may_stay: Callable[[OperatorBase], bool]) -> Callable[[OperatorBase], bool]:
    """`may_stay`, whose answer hangs on an operator's schema and tags, which stay, and on whether it has a kernel."""
    answers: dict[OperatorBase, bool] = {}

    @functools.wraps(may_stay)
    def again(op: OperatorBase) -> bool:
        if not isinstance(op, OpOverload) or not torch._C._dispatch_has_kernel(op.name()):
            return may_stay(op)
        if op not in answers:
            answers[op] = may_stay(op)
        return answers[op]

    return again


def expect(function: Any, *names: str) -> None:
    """Raises ImportError for a function of torch whose code says none of these names: it works otherwise."""
    if missing := set(names).difference(function.__code__.co_names):
        raise ImportError(f"{function.__qualname__} has no {min(missing)}: see rewrites/composite_kernels.py")


TORCHS_OVERRIDE, TORCHS_MAY_STAY = torchs._override_composite_implicit_decomp, utils._check_valid_to_preserve


def take_over() -> None:
    expect(TORCHS_OVERRIDE.__wrapped__, "py_kernels", "py_impl", "_dispatch_cache", "register_op_impl")
    expect(torchs._decompose_and_get_gm_with_new_signature_constants, "_override_composite_implicit_decomp")
    expect(utils._is_preservable_cia_op, "_check_valid_to_preserve")
    expect(TORCHS_MAY_STAY, "_schema", "_dispatch_has_kernel")
    torchs._override_composite_implicit_decomp = overridden
    utils._check_valid_to_preserve = remembered(TORCHS_MAY_STAY)


take_over()
