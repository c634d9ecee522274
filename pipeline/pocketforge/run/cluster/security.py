"""Dask's settings: who may speak, how often it repeats (never), what it serves (nothing else)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.errors import ToolMissing
from pocketforge.run.cluster.addresses import CA, CERTIFICATE, KEY, Address, Credentials
from pocketforge.version import install

if TYPE_CHECKING:
    from distributed.security import Security


def check_installed() -> None:
    """Raises ToolMissing without the extra `cluster`."""
    try:
        import distributed  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ToolMissing(f"builds on several machines need Dask: {error}", install("cluster")) from error


def settle() -> None:
    """Of this process, before anything of Dask's starts. What the user's own dask.yaml says else stays."""
    import dask

    dask.config.set(
        {
            # We decide what is repeated (placement.py).
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.work-stealing": False,
            # Plain HTTP on all interfaces, beside an encrypted connection.
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            # Steps have their own limit; Dask's would pause or kill the worker.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.terminate": False,
            "distributed.worker.profile.enabled": False,
            # What its loops do while nothing happens: fifty times a second by default.
            "distributed.admin.tick.interval": "500ms",
            "distributed.admin.system-monitor.interval": "5s",
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.comm.timeouts.connect": "10s",
            # A machine that went without a word (its cable): a build hears of it after so long.
            "distributed.comm.timeouts.tcp": "30s",
            "distributed.scheduler.worker-ttl": "60s",
        }
    )


def security(address: Address, certificates: Path) -> Security | None:
    """Mutual TLS, or nothing for tcp://. Raises RecipeError as `Credentials`."""
    if address.kind != "tls":
        return None
    from distributed.security import Security

    folder = Credentials(certificates).folder
    own = {
        f"tls_{role}_{part}": str(folder / name)
        for role in ("client", "scheduler", "worker")
        for part, name in (("cert", CERTIFICATE), ("key", KEY))
    }
    return Security(require_encryption=True, tls_ca_file=str(folder / CA), **own)
