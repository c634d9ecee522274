"""Runs a file in a sandbox: a process of its own."""

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest


def run(request: RunRequest) -> RunAnswer:
    """Raises as `host.run`."""
    return host.run(request, timeout_s=request.place.time_limit_s, quiet=True)
