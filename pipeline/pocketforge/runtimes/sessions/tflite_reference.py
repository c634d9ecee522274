"""LiteRT's reference kernels without a delegate: plain loops, as TensorFlow Lite's specification says them."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("session_tflite", Path(__file__).with_name("tflite.py"))
_tflite = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tflite)
prepare = _tflite.prepare


def open_session(path, threads):
    from ai_edge_litert.interpreter import OpResolverType

    return _tflite.Session(path, threads, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
