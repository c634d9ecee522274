"""Stage `time_sandbox`: time the exact exported file in several sandboxes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.outcomes import files
from pocketforge.outcomes.bench import Bench, HowHere, ProcessTimes
from pocketforge.outcomes.export import Exported
from pocketforge.registries import RUNTIMES
from pocketforge.specs.base import Spec
from pocketforge.specs.places import Place
from pocketforge.stats import percentile
from pocketforge_sandbox import runner


@dataclass(frozen=True, slots=True)
class SandboxSpec(Spec):
    """Stage `time_sandbox`: where, how often; `identity` is in the key."""

    runtime: str
    identity: str
    device: Place
    processes: int
    samples: int


def run(inputs: Mapping[str, Path], spec: SandboxSpec, out: Path, emit: Callable[[float, str], None]) -> None:
    """inputs: "data", "export". Writes bench.json."""
    model = files.read(inputs["export"], Exported).model_in(inputs["export"])
    request = RunRequest(
        session=RUNTIMES[spec.runtime].session,
        model=model,
        sha256=hash_file(model),
        inputs=tuple(sample_paths(inputs["data"], "eval")),
        outputs=out,
        samples=spec.samples,
        warmup=1,
        place=spec.device,
    )
    files.write(out, time_file(request, spec.processes))
    emit(1.0, f"{spec.processes} sandboxes")


def time_file(request: RunRequest, processes: int) -> Bench:
    answers = [runner.run(request) for _ in range(processes)]
    parts = tuple(
        ProcessTimes(len(a.samples_ms), percentile(a.samples_ms, "p50"), a.load_ms, a.peak_rss_bytes) for a in answers
    )
    return Bench(
        sha256=request.sha256,
        samples_ms=tuple(ms for answer in answers for ms in answer.samples_ms),
        load_ms=median(part.load_ms for part in parts),
        peak_rss_bytes=max(part.peak_rss_bytes for part in parts),
        loaded_rss_bytes=max(answer.loaded_rss_bytes for answer in answers),
        how=HowHere(1, answers[0].cpus, request.warmup, answers[0].runtime, 0.0, parts),
    )
