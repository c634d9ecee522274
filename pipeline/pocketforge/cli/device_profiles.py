"""`pocketforge device profiles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pocketforge.cli.options import json_option, print_json

if TYPE_CHECKING:
    from pocketforge.devices.profiles import AndroidNames, Cluster, DeviceProfile, Source

_KB = 1024


@click.command("profiles")
@click.argument("profile", required=False)
@json_option
def command(profile: str | None, as_json: bool) -> None:
    """List the device profiles, or every fact of one with its source.

    PROFILE is a shipped profile's name or a .toml file of one.
    """
    from pocketforge.devices.profile_files import load_profile, shipped_profiles

    if profile is not None:
        found = load_profile(profile)
        if as_json:
            print_json(_as_json(found))
        else:
            _show(found)
        return
    profiles = [load_profile(name) for name in shipped_profiles()]
    if as_json:
        print_json([_as_json(p) for p in profiles])
        return
    width = max(len(p.name) for p in profiles)
    for found in profiles:
        click.echo(f"{found.name:<{width}}  {found.title}: {found.soc}")
        click.echo(f"{'':<{width}}  {'; '.join(_cores(c) for c in found.clusters)}")


def _cores(cluster: Cluster) -> str:
    return f"{cluster.name}: {cluster.count} × {cluster.core} {cluster.clock_ghz:g} GHz"


def _show(profile: DeviceProfile) -> None:
    click.echo(f"{profile.name}: {profile.title}")
    _table(profile, profile.sources)
    if profile.android is not None:
        click.echo("\nnames of its phones")
        _table(profile.android, profile.android.sources)
    for cluster in profile.clusters:
        click.echo(f"\n{_cores(cluster)}")
        _table(cluster, cluster.sources)


def _table(facts: DeviceProfile | Cluster | AndroidNames, sources: dict[str, Source] | Any) -> None:
    for field, source in sources.items():
        click.echo(f"  {field:<28} {_text(field, getattr(facts, field))}")
        click.echo(f"  {'':<28} {source.status}: {source.source}")


def _text(field: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) if any(" " in name for name in value) else " ".join(value)
    if field == "midr":
        return f"{value:#010x}"
    if field.endswith("_bytes") and value:
        return f"{value // _KB} KB" if value < _KB**3 else f"{value / _KB**3:g} GB"
    return str(value)


def _as_json(profile: DeviceProfile) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(profile)
