"""`pocketforge worker`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import FiniteRange, cache_option, certificates_option, echo, insecure_option
from pocketforge.cli.quantities import BYTES, Quantity


@click.command("worker")
@click.argument("scheduler")
@certificates_option
@insecure_option
@cache_option
@click.option("--name", default="", help="As messages call it.  [default: the host's name and the process]")
@click.option(
    "--without", multiple=True, type=click.Choice(["host-bench", "emulator", "phones"]),
    help="Do not offer this, although it is here (may be given several times).",
)  # fmt: skip
@click.option("--memory", type=Quantity("size", BYTES, "8GB"), default=0.0, help="End a step that has more, as 8GB.")
@click.option(
    "--hours", type=FiniteRange(0, 1000), default=24.0, show_default=True, help="End a step that takes longer."
)
@click.option("--keep", type=Quantity("size", BYTES, "20GB"), help="Of results in its cache, the latest so many bytes.")
@click.option(
    "--patience", type=FiniteRange(0, 1e6), default=60.0, show_default=True, metavar="SECONDS",
    help="How long to wait for a scheduler that does not answer, or is gone.",
)  # fmt: skip
def command(
    scheduler: str,
    certificates: Path | None,
    insecure: bool,
    cache: Path,
    name: str,
    without: tuple[str, ...],
    memory: float,
    hours: float,
    keep: float | None,
    patience: float,
) -> None:
    """Run steps of other machines' builds here.

    One at a time, until ^C. SCHEDULER is tls://HOST:PORT. A build takes no worker whose Pocketforge, Python or tools
    are other than its own. What a worker may do to this machine: `pocketforge docs cluster`.
    """
    from pocketforge.commands.cluster import Cluster, WorkerRequest, serve_worker
    from pocketforge.folders import cluster_dir
    from pocketforge.run.cluster.limits import Limits

    serve_worker(
        WorkerRequest(
            Cluster(scheduler, certificates or cluster_dir(), insecure, patience),
            cache,
            name,
            without,
            Limits(hours * 3600, int(memory)),
            None if keep is None else int(keep),
        ),
        lambda text: echo(text, err=True),
    )
