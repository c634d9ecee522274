"""Imported by the fork server, once: the modules that the coming stages share.

A module that is missing or broken is left for its stage to report, in that stage's own log.
"""

import contextlib
import gc
import importlib
import json
import os
import sys

from pocketforge.run.stage_server import PRELOAD_VARIABLE

# Read when onnxruntime is first imported, which may be now: a build tells nobody anything.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# As in cli/main.py; here for programs that call us, whose own torch stays as it is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
told = json.loads(os.environ.pop(PRELOAD_VARIABLE))
# What is found now is found by every stage: where the build looks for modules, and not in the user's folders.
sys.path[:] = told["path"]

# Modules make objects that stay: looking through all of them again and again for garbage is a sixth of the time.
gc.disable()
with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
    # The libraries also log from C++: their file descriptors have to be turned away, not only sys.stderr.
    kept = (os.dup(1), os.dup(2))
    os.dup2(silence.fileno(), 1)
    os.dup2(silence.fileno(), 2)
    try:
        for name in told["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        os.close(kept[0])
        os.close(kept[1])

gc.enable()
# What is loaded now lives as long as the server: keep the collector of every child from copying its pages.
gc.freeze()
