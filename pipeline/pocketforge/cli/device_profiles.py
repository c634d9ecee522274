"""`pocketforge device profiles`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import PocketforgeError

if TYPE_CHECKING:
    from pocketforge.devices.profiles import AndroidNames, Cluster, DeviceProfile, FactSource
    from pocketforge.devices.x86.hosts import X86Host

_KB = 1024


@click.command("profiles")
@click.argument("profile", required=False)
@json_option
def command(profile: str | None, as_json: bool) -> None:
    """List profiles of devices and x86 hosts, or every fact of one.

    Each fact has its source.

    PROFILE is a shipped profile's name or a .toml file of one.
    """
    from pocketforge.devices.profile_files import load_any, load_profile, shipped_profiles
    from pocketforge.devices.x86.hosts import X86Host, shipped_hosts

    if profile is not None:
        one = load_any(profile)
        if as_json:
            print_json(_as_json(one))
        elif isinstance(one, X86Host):
            _show_host(one)
        else:
            _show(one)
        return
    profiles = [load_profile(name) for name in shipped_profiles()]
    hosts = [host for name in shipped_hosts() if isinstance(host := load_any(name), X86Host)]
    if as_json:
        print_json([*map(_as_json, profiles), *map(_as_json, hosts)])
        return
    width = max(len(name) for name in (*shipped_profiles(), *shipped_hosts()))
    for found in profiles:
        echo(f"{found.name:<{width}}  {found.title}: {found.soc}")
        echo(f"{'':<{width}}  {'; '.join(_cores(c) for c in found.clusters)}")
    for host in hosts:
        echo(f"{host.name:<{width}}  {host.title}: outputs alone")
        echo(f"{'':<{width}}  {host.examples}; {_played(host)}")


def _played(host: X86Host) -> str:
    """By what, on this machine."""
    from pocketforge.devices.x86.device import player

    try:
        return f"here by {player(host).version}"
    except PocketforgeError as error:
        return f"not here: {error.message}"


def _show_host(host: X86Host) -> None:
    echo(f"{host.name}: {host.title}")
    echo(f"kernels: {host.kernels}; {_played(host)}")
    _table(host, host.sources)


def _cores(cluster: Cluster) -> str:
    return f"{cluster.name}: {cluster.count} × {cluster.core} {cluster.clock_ghz:g} GHz"


def _show(profile: DeviceProfile) -> None:
    echo(f"{profile.name}: {profile.title}")
    _table(profile, profile.sources)
    if profile.android is not None:
        echo("\nnames of its phones")
        _table(profile.android, profile.android.sources)
    for cluster in profile.clusters:
        echo(f"\n{_cores(cluster)}")
        _table(cluster, cluster.sources)


def _table(facts: DeviceProfile | Cluster | AndroidNames | X86Host, sources: Mapping[str, FactSource]) -> None:
    for field, source in sources.items():
        echo(f"  {field:<28} {_text(field, getattr(facts, field))}")
        echo(f"  {'':<28} {source.status}: {source.source}")


def _text(field: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) if any(" " in name for name in value) else " ".join(value)
    if field == "midr":
        return f"{value:#010x}"
    if field.endswith("_bytes") and isinstance(value, int) and value:
        return f"{value // _KB} KB" if value < _KB**3 else f"{value / _KB**3:g} GB"
    return str(value)


def _as_json(profile: DeviceProfile | X86Host) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(profile)
