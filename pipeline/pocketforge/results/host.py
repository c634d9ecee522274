"""What a lane's benchmarks on this host found."""

from __future__ import annotations

from pocketforge.outcomes import files
from pocketforge.outcomes.bench import Bench
from pocketforge.plan.steps import Facts, OnDevice, Timed
from pocketforge.results.devices import DeviceResult, Value
from pocketforge.run.walk import Outcome
from pocketforge.stats import percentile


def read(device: str, on: OnDevice, outcome: Outcome, _known: Facts) -> DeviceResult:
    """Times; what the file's outputs are on this host, `verify` says."""
    assert isinstance(on, Timed)
    bench = outcome.result(on.bench, Bench)
    if bench is None:
        return DeviceResult()
    how = files.to_json(bench.how)
    return DeviceResult(
        values=(
            Value("latency_ms", percentile(bench.samples_ms, "p50"), device, how, bench.samples_ms, bench.sha256),
            Value("load_ms", bench.load_ms, device, how, sha256=bench.sha256),
            Value("peak_rss_bytes", bench.peak_rss_bytes, device, how, sha256=bench.sha256),
        )
    )
