"""`pocketforge cluster`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import certificates_option, echo, insecure_option, json_option, print_json


@click.group("cluster")
def command() -> None:
    """Make a cluster's certificates, and show its workers."""


@command.command("init")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="How long they hold.")
def init_command(folder: Path | None, days: int) -> None:
    """Make an authority and a certificate that it signed, in FOLDER.

    Copy ca.pem, node.pem and node-key.pem to each machine of the cluster; ca-key.pem stays where it is. Called again on
    the same folder, it makes a new node.pem of the same authority.
    """
    from pocketforge.folders import cluster_dir
    from pocketforge.run.cluster.certificates import make

    for path in make(folder or cluster_dir(), days):
        echo(path)


@command.command("status")
@click.argument("scheduler")
@certificates_option
@insecure_option
@json_option
def status_command(scheduler: str, certificates: Path | None, insecure: bool, as_json: bool) -> None:
    """Show the workers of the cluster at SCHEDULER and what they offer."""
    from pocketforge.commands.cluster import Cluster, status, told
    from pocketforge.folders import cluster_dir

    offers = status(Cluster(scheduler, certificates or cluster_dir(), insecure))
    if as_json:
        print_json(
            [
                dataclasses.asdict(offer) | {"address": address, "resources": sorted(offer.resources)}
                for address, offer in offers.items()
            ]
        )
        return
    for offer in sorted(offers.values(), key=lambda each: each.name):
        echo(told(offer))
    if not offers:
        echo("no worker is connected")
