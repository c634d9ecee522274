"""Operators that a .pte calls outside of its delegates, the parts of ExecuTorch that have their kernels, and the list
that its selective build takes (`codegen/tools/gen_oplist.py`, which reads the file by itself).
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pocketforge.runtimes.describe import ModelFile, item_at
from pocketforge.runtimes.describe_executorch import dtype_of, executorch_root, load_program
from pocketforge.runtimes.executorch_tables import ExecutionPlan
from pocketforge.runtimes.operators import BuildFile, Calls, UsedOperator, UsedOperators

# Operator → its function in ExecuTorch's optimized_native_cpu_ops_lib, which has the portable kernel of any other. The
# wheel holds no list of them; tests/contract/test_app_operators.py holds this one against its library's symbols.
OPTIMIZED = {
    "aten::_fft_c2r.out": "opt_fft_c2r_out",
    "aten::_fft_r2c.out": "opt_fft_r2c_out",
    "aten::_log_softmax.out": "opt_log_softmax_out",
    "aten::add.Scalar_out": "opt_add_scalar_out",
    "aten::add.out": "opt_add_out",
    "aten::bmm.out": "opt_bmm_out",
    "aten::div.Scalar_out": "opt_div_scalar_out",
    "aten::div.out": "opt_div_out",
    "aten::elu.out": "opt_elu_out",
    "aten::exp.out": "opt_exp_out",
    "aten::gelu.out": "opt_gelu_out",
    "aten::grid_sampler_2d.out": "opt_grid_sampler_2d_out",
    "aten::le.Scalar_out": "opt_le_scalar_out",
    "aten::le.Tensor_out": "opt_le_tensor_out",
    "aten::linear.out": "opt_linear_out",
    "aten::mm.out": "opt_mm_out",
    "aten::mul.Scalar_out": "opt_mul_scalar_out",
    "aten::mul.out": "opt_mul_out",
    "aten::native_layer_norm.out": "opt_native_layer_norm_out",
    "aten::sub.Scalar_out": "opt_sub_scalar_out",
    "aten::sub.out": "opt_sub_out",
    "aten::sum.IntList_out": "opt_sum_dim_out",
    "aten::where.self_out": "opt_where_out",
}
# Part of the runtime → its operators, in the wheel; `op:` names them without aten's namespace.
_LISTS = {"portable": "kernels/portable/functions.yaml", "quantized": "kernels/quantized/quantized.yaml"}
_NAMED = re.compile(r"^- (?:op: |func: )([\w:.]+)", re.MULTILINE)
_CORE = "executorch_prim"


def read(file: ModelFile) -> UsedOperators:
    operators = _operators(file.data)
    plans = load_program(file.data).tables.execution_plan
    delegates = tuple(dict.fromkeys(delegate.id for plan in plans for delegate in plan.delegates))
    notes = []
    if not any(each.domain != _CORE for each in operators):
        notes.append("everything is delegated: the app needs no library of kernels, only the core and the delegate")
    unknown = [f"{each.domain}::{each.name}" for each in operators if not each.kernels]
    if unknown:
        notes.append(f"no library of ExecuTorch has kernels for {', '.join(unknown)}: the app must bring them")
    return UsedOperators(operators, delegates, tuple(notes))


def build_files(paths: Sequence[Path]) -> tuple[BuildFile, ...]:
    """Each file's own list, as gen_oplist writes it, and one of all for CMake."""
    from executorch.codegen.tools.gen_oplist import gen_oplist

    files, names = [], set()
    for path in paths:
        with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder, contextlib.redirect_stdout(io.StringIO()):
            written = Path(folder, "selected_operators.yaml")
            gen_oplist(written, str(path))
            # It says which file it is of by the path that it was given.
            text = written.read_text("utf-8").replace(str(path), path.name)
        use = f"CMake: -DEXECUTORCH_SELECT_OPS_YAML=…, or -DEXECUTORCH_SELECT_OPS_MODEL=…/{path.name}, which writes it"
        files.append(BuildFile(f"{path.stem}.selected_operators.yaml", text, use))
        names |= {f"{each.domain}::{each.name}" for each in _operators(path.read_bytes()) if each.domain != _CORE}
    use = "CMake: -DEXECUTORCH_SELECT_OPS_LIST=, of all files together; empty where everything is delegated"
    return (*files, BuildFile("select_ops_list.txt", f"{','.join(sorted(names))}\n", use))


def _operators(data: bytes) -> tuple[UsedOperator, ...]:
    calls = Calls()
    for plan in load_program(data).tables.execution_plan:
        for instruction in plan.instructions:
            if instruction.instr_args_type == "KernelCall":
                call = instruction.instr_args
                operator = item_at(plan.operators, call.op_index)
                domain, _, name = operator.name.rpartition("::")
                full = ".".join(part for part in (name, operator.overload) if part)
                # The last value is the answer; where it goes is among the arguments of an out-variant too.
                answer = _tensors(plan, call.args[-1:])
                given = [place for place in _tensors(plan, call.args[:-1]) if place not in answer]
                types = (_types(plan, given), _types(plan, answer))
                calls.add(domain, full, None, *types, _kernels(f"{domain}::{full}"))
    return calls.operators()


def _tensors(plan: ExecutionPlan, places: Sequence[int]) -> list[int]:
    """Places of the tensors among values, those of lists too."""
    found: list[int] = []
    for place in places:
        value = item_at(plan.values, place)
        items = value.val.get("items")
        if value.val_type == "Tensor":
            found.append(place)
        elif value.val_type in ("TensorList", "OptionalTensorList") and isinstance(items, list):
            found += _tensors(plan, [item for item in items if item >= 0])  # -1 stands for none
    return found


def _types(plan: ExecutionPlan, places: Sequence[int]) -> list[str]:
    tensors = [item_at(plan.values, place).tensor for place in places]
    return [dtype_of(tensor.scalar_type) for tensor in tensors if tensor is not None]


def _kernels(operator: str) -> str:
    """In which part of the runtime its kernel is; empty where in none."""
    if operator.startswith(f"{_CORE}::"):
        return "core"
    parts = [part for part, names in _listed().items() if operator in names]
    return ", ".join([*parts, *(["optimized"] if operator in OPTIMIZED else [])])


@cache
def _listed() -> dict[str, frozenset[str]]:
    root = executorch_root()
    found = {}
    for part, place in _LISTS.items():
        names = _NAMED.findall((root / place).read_text("utf-8"))
        found[part] = frozenset(name if "::" in name else f"aten::{name}" for name in names)
    return found
