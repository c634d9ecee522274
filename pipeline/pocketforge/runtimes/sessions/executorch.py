"""ExecuTorch: .pte files, through the runtime's own bindings (no compiler side is loaded).

The bindings take and give torch tensors, so torch is in this process; it takes no part in the inference.
"""

import importlib
import importlib.metadata
import json
import sys
import types

_PACKAGE = "executorch.extension.pybindings"
# The public name, last, imports the whole compiler first: 3.6 CPU s a start, where the runtime alone takes .2.
_BINDINGS = ("_C", "_portable_lib", "portable_lib")
# A third of torch's import: its rules for tensors without data, by which programs are traced. None is traced here.
_UNUSED, _TRIED_WITH = "torch._meta_registrations", "2.13."


def alone():
    """In a process that will do nothing else: torch, which carries the arrays, comes without what none of that needs
    (1.0 CPU s where it was 1.5)."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return  # its absence is for prepare() to say
    if version.startswith(_TRIED_WITH) and "torch" not in sys.modules:
        sys.modules[_UNUSED] = types.ModuleType(_UNUSED)


def binding():
    """The runtime's Python binding, under the name that the installed release gives it (1.5 renamed it)."""
    for name in _BINDINGS[:-1]:
        try:
            return importlib.import_module(f"{_PACKAGE}.{name}")
        except ModuleNotFoundError as missing:
            if missing.name != f"{_PACKAGE}.{name}":
                raise
    return importlib.import_module(f"{_PACKAGE}.{_BINDINGS[-1]}")


def prepare(threads):
    import torch

    torch.set_num_threads(threads)
    binding()._unsafe_reset_threadpool(threads)


class Session:
    def __init__(self, path, threads):
        self._module = binding()._load_for_executorch(str(path))
        meta = self._module.method_meta("forward")
        known = self._known()
        self.inputs = [describe(meta.input_tensor_meta(i), known, "inputs", i) for i in range(meta.num_inputs())]
        self.outputs = [describe(meta.output_tensor_meta(i), known, "outputs", i) for i in range(meta.num_outputs())]
        self.runtime = f"executorch {importlib.metadata.version('executorch')}"

    def _known(self):
        """Names and quantization, which the exporter keeps in a constant method: the format has no place for them."""
        if "get_io" not in self._module.method_names():
            return {}
        return json.loads(self._module.run_method("get_io", [])[0])

    def run(self, feeds):
        import torch

        return [o.numpy() for o in self._module.forward([torch.from_numpy(f) for f in feeds])]


def describe(tensor, known, side, index):
    # torch's ScalarType numbers
    dtypes = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
              11: "bool"}  # fmt: skip
    named = known.get(side, [])
    own = dict(named[index]) if index < len(named) else {}
    opened = own.pop("open", ())  # the file has the largest lengths there
    shape = [None if axis in opened else length for axis, length in enumerate(tensor.sizes())]
    return {"name": "", "shape": shape, "dtype": dtypes.get(tensor.dtype(), str(tensor.dtype())), **own}


def open_session(path, threads):
    return Session(path, threads)
