"""ONNX Runtime without its graph optimizations: each node by itself, as the file says it."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("session_onnx", Path(__file__).with_name("onnx.py"))
_onnx = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_onnx)
prepare = _onnx.prepare


def open_session(path, threads):
    return _onnx.Session(path, threads, optimise=False)
