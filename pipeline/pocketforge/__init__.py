"""Pocketforge: a trained PyTorch model in, proven and gated phone-ready model files out.

The names in `__all__` are public, and nothing else is (`pocketforge docs python_api`). They are imported when they are
first used: `import pocketforge` alone imports no library.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketforge import errors as errors
    from pocketforge import events as events
    from pocketforge.api.calls import bench as bench
    from pocketforge.api.calls import build as build
    from pocketforge.api.calls import gate as gate
    from pocketforge.api.calls import inspect as inspect
    from pocketforge.api.calls import load_report as load_report
    from pocketforge.api.report import Report as Report
    from pocketforge.commands.gate import Gated as Gated
    from pocketforge.measure.bench_rows import Benched as Benched
    from pocketforge.records import GateResult as GateResult
    from pocketforge.records import Measurement as Measurement
    from pocketforge.records import StepRecord as StepRecord
    from pocketforge.records import TargetRecord as TargetRecord
    from pocketforge.runtimes.describe import Description as Description

    __version__: str

# Name → where it is; modules have none behind the colon.
_PUBLIC = {
    "Benched": "pocketforge.measure.bench_rows:Benched",
    "Description": "pocketforge.runtimes.describe:Description",
    "GateResult": "pocketforge.records:GateResult",
    "Gated": "pocketforge.commands.gate:Gated",
    "Measurement": "pocketforge.records:Measurement",
    "Report": "pocketforge.api.report:Report",
    "StepRecord": "pocketforge.records:StepRecord",
    "TargetRecord": "pocketforge.records:TargetRecord",
    "__version__": "",
    "bench": "pocketforge.api.calls:bench",
    "build": "pocketforge.api.calls:build",
    "errors": "pocketforge.errors",
    "events": "pocketforge.events",
    "gate": "pocketforge.api.calls:gate",
    "inspect": "pocketforge.api.calls:inspect",
    "load_report": "pocketforge.api.calls:load_report",
}
__all__ = [
    "Benched",
    "Description",
    "GateResult",
    "Gated",
    "Measurement",
    "Report",
    "StepRecord",
    "TargetRecord",
    "__version__",
    "bench",
    "build",
    "errors",
    "events",
    "gate",
    "inspect",
    "load_report",
]


if not TYPE_CHECKING:  # who checks types is to see that a name is misspelt

    def __getattr__(name: str) -> object:
        import importlib

        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pocketforge.folders import own_modules

        module, _, member = _PUBLIC[name].partition(":")
        with own_modules():
            if name == "__version__":
                return importlib.import_module("pocketforge.version").version()
            found = importlib.import_module(module)
        value = globals()[name] = getattr(found, member) if member else found
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
