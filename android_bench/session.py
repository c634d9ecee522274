"""A measured run on a phone: facts, place, settings, cool-down, warm-up, rounds; and everything put back.

jobs = [Job("old", bundle, old_file, inputs, old_sha256), Job("new", bundle, new_file, inputs, new_sha256)]
measured = measure(link, jobs, Plan(cores="big", rounds=10), say)
if measured.shortfall: …          # too few rounds in which the phone was not slowed down: no verdict
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from android_bench.bundle import Bundle, Request, without_start_log
from android_bench.cooling import Limits, refuse_faked, unknown, wait_until_cool
from android_bench.detached import Ended, run_detached
from android_bench.errors import BadFile, BadOutput, RunnerFailed, TransferDamaged
from android_bench.files import sha256_of
from android_bench.phone import PhoneFacts, read_facts
from android_bench.pinning import choose, mask
from android_bench.readings import Heat, read_clocks, read_heat
from android_bench.settings import measuring_settings
from android_bench.texts import plain
from android_bench.throttling import Round, judge, mean_clock, throttled_blocks
from android_bench.workplace import GRACE_S, Workplace, open_workplace

if TYPE_CHECKING:
    from android_bench.adb import Link

__all__ = ["Answer", "Job", "Measured", "Round", "SessionPlan", "measure", "run_once"]

# What exit codes of our runners mean (android_bench/runner/README.md).
_CODES = {
    64: "was called in a way that it does not know",
    65: "does not take this model or these inputs",
    66: "cannot read or write a file",
    69: "cannot use the runtime's library",
    70: "failed in the runtime",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to measure. label: unlike the others'. inputs: raw files as the runner takes them. sha256: model's."""

    label: str
    bundle: Bundle
    model: Path
    inputs: tuple[Path, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How to measure. cores: "big", "mid", "little", "all", or numbers as "0-3,7". rounds: of one job; blocks (A B B A)
    of two. samples: at least so many inferences a round, and at least round_ms of them. warmup: inferences before, in
    every round. clock_drop: see throttling.judge. The limits hold when a round begins.
    """

    cores: str = "big"
    threads: int = 1
    warmup: int = 5
    rounds: int = 5
    samples: int = 20
    round_ms: int = 1000
    max_thermal_status: int = 0
    max_battery_c: float = 38.0
    cool_timeout_s: float = 600
    min_battery_level: int = 15
    clock_drop: float = 0.05

    def limits(self) -> Limits:
        return Limits(self.max_thermal_status, self.max_battery_c, self.min_battery_level, self.cool_timeout_s)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a session gave. cpus, mask: what was pinned to; both empty where Android chose. settings: see
    settings.Setting. waited_s: for cool-downs. rounds: all, throttled ones too, in the order in which they ran.
    runner_sha256, runtime_versions, model_sha256: by label; the last is of the bytes that the runner loaded.
    shortfall: why there are too few rounds for a verdict, "" when there are enough. notes: what could not be watched.
    """

    facts: PhoneFacts
    plan: SessionPlan
    order: str
    cpus: tuple[int, ...]
    mask: str
    settings: tuple[dict[str, Any], ...]
    rounds: tuple[Round, ...]
    waited_s: float
    runner_sha256: Mapping[str, str]
    runtime_versions: Mapping[str, str]
    model_sha256: Mapping[str, str]
    shortfall: str
    notes: tuple[str, ...]

    def clean(self) -> tuple[Round, ...]:
        """The rounds that a verdict may rest on: of blocks in which no round was throttled."""
        spoilt = throttled_blocks(self.rounds)
        return tuple(each for each in self.rounds if each.block not in spoilt)

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it; unknown is null."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runner said (its JSON; android_bench/runner/README.md), and where its outputs lie on this computer."""

    said: Mapping[str, Any]
    outputs: tuple[Path, ...]
    cpus: tuple[tuple[int, ...], ...]


def run_once(
    place: Workplace,
    bundle: Bundle,
    model: Path,
    inputs: Sequence[Path] = (),
    outputs: Path | None = None,
    *,
    sha256: str = "",
    cpus: Sequence[int] = (),
    threads: int = 1,
    timeout_s: float = 600,
) -> Answer:
    """Run every sample once and fetch the outputs into the folder `outputs`; without it only describe the model.

    inputs: raw files, one an input, samples back to back. Raises RunnerFailed, BadOutput, TransferDamaged (an output is
    not what the runner wrote) and as `run_detached` and `Workplace.install`.
    """
    folder = place.install(bundle)
    remote_model, *remote_inputs = place.put_all([model, *inputs])
    to = place.path(f"outputs-{place.new_run()}")
    request = Request(
        mode="describe" if outputs is None else "run",
        model=remote_model,
        inputs=tuple(remote_inputs),
        sha256=sha256,
        threads=threads,
        outputs=to,
    )
    said, ended = _ask(place, bundle, folder, request, model.name, cpus, timeout_s)
    fetched = []
    if outputs is not None:
        outputs.mkdir(parents=True, exist_ok=True)
        for number, output in enumerate(said["outputs"]):
            local = outputs / f"outputs_{number}.bin"
            place.link.pull(f"{to}/outputs_{number}.bin", local)
            if sha256_of(local) != output.get("sha256"):
                raise TransferDamaged(
                    f"output {number} of {model.name} is not what the runner on {place.link.serial} wrote",
                    "try again; if it stays so, the phone's storage is damaged",
                )
            fetched.append(local)
        # A phone's storage is small: nobody asks for them again.
        place.run(f"rm -rf {to}", repeat=True)
    return Answer(said, tuple(fetched), ended.cpus)


def measure(
    link: Link,
    jobs: Sequence[Job],
    plan: SessionPlan,
    say: Callable[[str], None],
    *,
    order: str = "ABBA",
    timeout_s: float = 600,
    grace_s: int = GRACE_S,
    close_wait_s: float = 60,
    pause: Callable[[float], None] = time.sleep,
) -> Measured:
    """Measure jobs against each other, or one alone, in one session on one phone.

    order: of two jobs within a block, "ABBA" or "AB". timeout_s: of one round on the phone. grace_s: after how long
    without us the phone cleans up by itself. close_wait_s: how long to wait at the end for a phone that is out of
    reach. pause: sleeps; may raise to end the session. Rounds in which the phone was
    slowed down are kept, marked, and run again, up to as many more as were planned.

    Raises BadFile, BadCores, PhoneBusy, NoSpace, TooHot, BatteryLow, FakedReadings, RunnerFailed, BadOutput, Rebooted
    and what Link raises. Nothing stays on the phone; one that is out of reach at the end cleans itself up.
    """
    _check(jobs, plan, order)
    facts = read_facts(link)
    cpus = choose(facts, plan.cores, plan.threads)
    pinned = cpus if plan.cores != "all" else ()
    first = read_heat(link)
    refuse_faked(link.serial, first)
    notes = [f"{name} is unknown: it is not watched" for name in unknown(first)]
    with open_workplace(link, say, facts=facts, grace_s=grace_s, pause=pause, close_wait_s=close_wait_s) as place:
        work = _Work(place, jobs, plan, cpus, pinned, timeout_s)
        work.push()
        with measuring_settings(place, first, undo_wait_s=close_wait_s) as settings:
            work.cool()
            work.warm_up()
            rounds = work.all_rounds(order)
    if all(each.clock_ghz is None for each in rounds):
        notes.append("the phone does not tell its clocks: rounds in which they fell cannot be told from others")
    notes += [f"{label}: {warning}" for label, said in work.said.items() for warning in said.get("warnings", ())]
    for note in notes:
        say(f"{link.serial}: {note}")
    return Measured(
        facts=facts,
        plan=plan,
        order=order if len(jobs) == 2 else "A",
        cpus=pinned,
        mask=mask(pinned) if pinned else "",
        settings=tuple(setting.to_json() for setting in settings),
        rounds=rounds,
        waited_s=work.waited_s,
        runner_sha256={job.label: job.bundle.sha256 for job in jobs},
        runtime_versions={label: said["runtime_version"] for label, said in work.said.items()},
        model_sha256={label: said["model_sha256"] for label, said in work.said.items()},
        shortfall=_shortfall(rounds, plan),
        notes=tuple(notes),
    )


def _check(jobs: Sequence[Job], plan: SessionPlan, order: str) -> None:
    if not 1 <= len(jobs) <= 2 or len({job.label for job in jobs}) != len(jobs):
        raise ValueError(f"one job or two of different labels can be measured, not {[job.label for job in jobs]}")
    if order not in ("ABBA", "AB"):
        raise ValueError(f"the order is ABBA or AB, not {order!r}")
    if min(plan.rounds, plan.threads, plan.samples) < 1 or min(plan.warmup, plan.round_ms) < 0:
        raise ValueError(f"rounds, threads and samples are at least 1, warm-up and round_ms at least 0: {plan}")
    for job in jobs:
        found = sha256_of(job.model)
        if found != job.sha256:
            raise BadFile(
                f"{job.model} is not the file that was to be measured: wanted SHA-256 {job.sha256}, found {found}",
                "was it made again? Start from the present file",
            )


class _Work:
    """The part of a session that runs in its folder."""

    def __init__(
        self,
        place: Workplace,
        jobs: Sequence[Job],
        plan: SessionPlan,
        cpus: tuple[int, ...],
        pinned: tuple[int, ...],
        timeout_s: float,
    ) -> None:
        self.place = place
        self.jobs = jobs
        self.plan = plan
        self.cpus = cpus
        self.pinned = pinned
        self.timeout_s = timeout_s
        self.waited_s = 0.0
        self.said: dict[str, dict[str, Any]] = {}
        self._heat: Heat | None = None
        self._folders: dict[str, str] = {}
        self._requests: dict[str, Request] = {}

    def push(self) -> None:
        """Everything at once: a phone that is too full says so before the first file."""
        files = [path for job in self.jobs for path in (*job.bundle.files.values(), job.model, *job.inputs)]
        self.place.say(f"{self.place.link.serial}: pushing {_size(files)} to {self.place.folder}")
        self.place.put_all(files)
        for job in self.jobs:
            self._folders[job.label] = self.place.install(job.bundle)
            model, *inputs = self.place.put_all([job.model, *job.inputs])
            self._requests[job.label] = Request(
                mode="time",
                model=model,
                inputs=tuple(inputs),
                sha256=job.sha256,
                threads=self.plan.threads,
                warmup=self.plan.warmup,
                samples=self.plan.samples,
                time_ms=self.plan.round_ms,
            )

    def cool(self) -> Heat:
        """Wait; the last reading of the round before serves as the first one."""
        heat, waited_s = wait_until_cool(
            self.place.link.serial,
            self._read_heat,
            self.plan.limits(),
            self.place.say,
            first=self._heat,
            pause=self.place.pause,
        )
        self.waited_s += waited_s
        return heat

    def warm_up(self) -> None:
        """Once each, thrown away: files come into memory, and what does not work fails here."""
        for job in self.jobs:
            self._time(job, self._requests[job.label])

    def all_rounds(self, order: str) -> tuple[Round, ...]:
        """The planned blocks, and for each throttled one another, up to twice as many in all."""
        block = self.jobs if len(self.jobs) == 1 or order == "AB" else (*self.jobs, *reversed(self.jobs))
        rounds: tuple[Round, ...] = ()
        blocks = 0
        while blocks - len(throttled_blocks(rounds)) < self.plan.rounds and blocks < 2 * self.plan.rounds:
            for job in block:
                rounds = judge((*rounds, self._round(job, len(rounds), blocks)), self.plan.clock_drop)
                self._tell(rounds[-1])
            blocks += 1
        return rounds

    def _round(self, job: Job, index: int, block: int) -> Round:
        heat_before = self.cool()
        clocks_before = read_clocks(self.place.link, self.cpus)
        said, ended = self._time(job, self._requests[job.label])
        clocks_after = read_clocks(self.place.link, self.cpus)
        return Round(
            label=job.label,
            index=index,
            block=block,
            samples_ms=tuple(map(float, said["samples_ms"])),
            load_ms=said["load_ms"],
            peak_rss_bytes=said["peak_rss_bytes"],
            loaded_rss_bytes=said["loaded_rss_bytes"],
            clock_ghz=mean_clock(clocks_before, clocks_after, self.cpus),
            clocks_before=clocks_before,
            clocks_after=clocks_after,
            heat_before=heat_before,
            heat_after=self._read_heat(),
            gone=self._gone(ended),
        )

    def _time(self, job: Job, request: Request) -> tuple[dict[str, Any], Ended]:
        said, ended = _ask(
            self.place, job.bundle, self._folders[job.label], request, job.label, self.pinned, self.timeout_s
        )
        self.said[job.label] = said
        return said, ended

    def _read_heat(self) -> Heat:
        self.place.touch()
        self._heat = read_heat(self.place.link)
        return self._heat

    def _gone(self, ended: Ended) -> tuple[int, ...]:
        """CPUs of ours that were off at the end, or that the program was moved away from."""
        gone = set(self.cpus) - set(ended.online) if ended.online else set()
        for seen in ended.cpus[1:]:
            gone |= set(self.pinned) - set(seen)
        return tuple(sorted(gone))

    def _tell(self, done: Round) -> None:
        samples = sorted(done.samples_ms)
        clock = f", {done.clock_ghz:.2f} GHz" if done.clock_ghz else ""
        marked = f", throttled: {'; '.join(done.reasons)}" if done.throttled else ""
        self.place.say(
            f"{self.place.link.serial}: round {done.index + 1}, {done.label}: {samples[len(samples) // 2]:.3f} ms "
            f"({len(samples)} samples{clock}){marked}"
        )


def _ask(
    place: Workplace,
    bundle: Bundle,
    folder: str,
    request: Request,
    name: str,
    cpus: Sequence[int],
    timeout_s: float,
) -> tuple[dict[str, Any], Ended]:
    """One run of a runner; its answer checked."""
    environment = {
        "HOME": place.folder,
        "LC_ALL": "C",
        "OMP_NUM_THREADS": str(request.threads),
        "TMPDIR": place.folder,
        **bundle.environment,
    }
    what = f"{bundle.program.name} ({name})"
    ended = run_detached(
        place,
        bundle.command(request),
        folder=folder,
        cpus=cpus,
        environment=environment,
        timeout_s=timeout_s,
        what=what,
        keep_stderr=bundle.tool is not None,
    )
    if ended.code:
        how = _CODES.get(ended.code, "") if bundle.tool is None else ""
        raise RunnerFailed(
            f"{what} {how or 'failed'} on {place.link.serial} (exit code {ended.code})",
            ended.code,
            without_start_log(ended.stderr),
        )
    log = ""
    if bundle.tool is not None and bundle.tool.log_tag:
        log = place.shell(f"logcat -d -s {bundle.tool.log_tag}:I", repeat=True).stdout
    said = bundle.answer(request, ended.stdout, ended.stderr, log, ended.pid)
    if request.sha256 and said["model_sha256"] != request.sha256:
        raise BadOutput(
            f"{what} loaded another file than was pushed: wanted SHA-256 {request.sha256}, "
            f"found {said['model_sha256']}",
            "a runner must load the file that --model names",
        )
    return said, ended


def _shortfall(rounds: Sequence[Round], plan: SessionPlan) -> str:
    blocks = {each.block for each in rounds}
    clean = len(blocks - throttled_blocks(rounds))
    if clean >= plan.rounds:
        return ""
    reasons = sorted({reason for each in rounds for reason in each.reasons})
    return (
        f"{clean} of {len(blocks)} rounds were not slowed down by the phone, wanted {plan.rounds}: "
        + "; ".join(reasons[:3])
        + ("; …" if len(reasons) > 3 else "")
    )


def _size(files: Sequence[Path]) -> str:
    return f"{sum(path.stat().st_size for path in set(files)) / 1024 / 1024:.1f} MiB"
