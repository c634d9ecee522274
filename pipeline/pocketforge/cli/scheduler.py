"""`pocketforge scheduler`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import certificates_option, echo, insecure_option


@click.command("scheduler")
@click.argument("address", default="tls://127.0.0.1:8786")
@certificates_option
@insecure_option
def command(address: str, certificates: Path | None, insecure: bool) -> None:
    """Serve a cluster: what builds and workers connect to.

    At ADDRESS, tls://HOST:PORT (port 0 takes a free one), until ^C; prints where it serves. It runs no
    steps and holds no files.
    """
    from pocketforge.commands.cluster import Cluster, serve_scheduler
    from pocketforge.folders import cluster_dir

    serve_scheduler(Cluster(address, certificates or cluster_dir(), insecure), echo)
