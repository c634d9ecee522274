"""What sandboxes found: values for budgets, and the report's table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocketforge.outcomes import files
from pocketforge.outcomes.bench import Bench
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.plan.steps import Facts, OnDevice, Timed
from pocketforge.records import TargetRecord
from pocketforge.results.devices import DeviceResult, Value
from pocketforge.results.emulated import verified_values
from pocketforge.run.walk import Outcome
from pocketforge.stats import percentile

if TYPE_CHECKING:
    from rich.table import Table


def read(device: str, on: OnDevice, outcome: Outcome, known: Facts) -> DeviceResult:
    assert isinstance(on, Timed)
    verified, bench = outcome.result(on.verify, VerifiedThere), outcome.result(on.bench, Bench)
    about: dict[str, object] = {"where": known.devices[device]}
    values = list(verified_values(verified, device)) if verified else []
    if bench:
        p50_ms = percentile(bench.samples_ms, "p50")
        about["p50_ms"] = p50_ms
        how = files.to_json(bench.how)
        values.append(Value("latency_ms", p50_ms, device, how, bench.samples_ms, bench.sha256))
    return DeviceResult(about, tuple(values), (f"{device} is this machine",))


def tables(targets: Sequence[TargetRecord]) -> "list[Table]":
    from pocketforge.report.tables import milliseconds, table

    rows = [(t.name, device, about) for t in targets for device, about in t.facts.of_kind("sandboxes").items()]
    drawn = table("in sandboxes", "target", "device", "p50 ms", numbers=("p50 ms",))
    for name, device, about in rows:
        p50_ms = about.get("p50_ms")
        drawn.add_row(name, device, milliseconds(p50_ms) if isinstance(p50_ms, float) else "")
    return [drawn] if rows else []
