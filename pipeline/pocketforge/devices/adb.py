"""The device `adb`: a model file runs on a phone, on its own ARM kernels and its own clock.

Same request and same arrays out as on the host. Time is measured in rounds by android_bench.session, which cools the
phone down before, and marks those in which it slowed down.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np

from android_bench import foreign, session
from android_bench.bundle import Bundle, own_bundle, user_bundle
from android_bench.errors import RunnerFailed
from android_bench.phone import read_facts
from android_bench.pinning import choose
from android_bench.workplace import open_workplace
from pocketforge import events
from pocketforge.devices import host
from pocketforge.devices.answers import NativeAnswer, NativeTensor
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.emulator import parts
from pocketforge.devices.emulator.arrays import described, read_outputs, write_inputs
from pocketforge.devices.emulator.device import run_answer
from pocketforge.devices.emulator.native_runners import named, native_runner
from pocketforge.devices.phones import open_phone, phone_errors
from pocketforge.errors import DeviceError, RecipeError, ToolFailed
from pocketforge.files import hash_file
from pocketforge.outcomes.bench_phone import HowOnPhone, PhoneBench, RoundTimes
from pocketforge.recipe.device import LEAST_ROUNDS
from pocketforge.registries import native_of, native_sessions
from pocketforge.specs.bench_phone import Rounds
from pocketforge.specs.places import PhonePlace
from pocketforge.stats import percentile

Pause = Callable[[float], None]

# As many different samples as the host prepares for timing.
_TIMED_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Measure:
    """One file to time.

    Attributes:
        session: Which runtime opens it.
        model: The file.
        sha256: What it must be.
        runner: A program of the user's that runs it; ours when empty.
        library: What that program loads; nothing when empty.
    """

    session: str
    model: Path
    sha256: str
    runner: str = ""
    library: str = ""


def run(request: RunRequest, *, pause: Pause = time.sleep) -> RunAnswer:
    """Run one file on every sample, on the cores and the phone that `place` names.

    pause: sleeps; may raise to end the session. Raises ToolFailed with the runner's own words, DeviceUnavailable,
    DeviceTimeout, DeviceError (a runner that only keeps time; what went wrong on the phone).
    """
    if request.samples:
        raise DeviceError(f"{request.model.name}: a phone is timed in rounds", "devices.adb.measure does that")
    if not request.model.is_file():
        raise ToolFailed([f"running {request.model.name}"], 1, f"No such file: {request.model}")
    place, files = request.place, request.files
    assert isinstance(place, PhonePlace)
    bundle = bundle_of(request.session, str(files.get("runner", "")), str(files.get("runner_library", "")))
    if bundle.tool is not None:
        raise DeviceError(
            f"{bundle.program} is a {bundle.tool.name}, which only measures time: it runs no samples of yours",
            "leave the runner out, or give one that keeps the contract of android_bench/runner/README.md",
        )
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch, _failures(request.model):
        link = open_phone(place.serial)
        facts = read_facts(link)
        cpus = choose(facts, place.cores or "big", place.threads)
        with open_workplace(link, _quiet, facts=facts, pause=pause) as workplace:
            once = functools.partial(
                session.run_once,
                workplace,
                bundle,
                request.model,
                sha256=request.sha256,
                cpus=cpus,
                threads=place.threads,
                timeout_s=place.time_limit_s,
            )
            inputs, _ = described(_said(once()), request.session)
            raw = write_inputs(inputs, request.inputs, Path(scratch), model=request.model.name)
            answer = once(raw, Path(scratch))
        native = _said(answer)
        outputs: list[NativeTensor] = [
            {**output, "file": str(file)} for output, file in zip(native["outputs"], answer.outputs, strict=True)
        ]
        read_outputs(outputs, request.outputs, len(np.load(request.inputs[0], mmap_mode="r")))
    return run_answer(native, request.session, answer.cpus[0] if answer.cpus else ())


def _said(answer: session.Answer) -> NativeAnswer:
    # android_bench knows none of our types, and what the runner says is the same JSON as under qemu.
    return cast("NativeAnswer", answer.said)


def measure(
    serial: str,
    files: Sequence[Measure],
    samples: Sequence[Path],
    how: Rounds,
    say: events.Say,
    *,
    pause: Pause = time.sleep,
) -> list[PhoneBench]:
    """Time one file in rounds, or two interleaved (A B B A).

    samples: a .npy for each input. pause: as of `run`. Raises as `run`; DeviceTimeout is also a phone that stays hot.
    """
    names = [file.model.name for file in files]
    labels = names if len(set(names)) == len(names) else [f"{name} ({'AB'[k]})" for k, name in enumerate(names)]
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        jobs = []
        for index, file in enumerate(files):
            folder = Path(scratch, str(index))
            folder.mkdir()
            bundle = bundle_of(file.session, file.runner, file.library)
            # A tool of another make runs on inputs of its own.
            raw = () if bundle.tool else _raw_inputs(file, samples, folder)
            jobs.append(session.Job(labels[index], bundle, file.model, raw, file.sha256))
        plan = session.SessionPlan(
            cores=how.cores,
            threads=how.threads,
            warmup=how.warmup,
            rounds=how.rounds,
            samples=math.ceil(how.min_samples / how.rounds),
            round_ms=round(1e3 * how.min_seconds),
            max_thermal_status=how.max_thermal_status,
            max_battery_c=how.max_battery_c,
            cool_timeout_s=how.cool_timeout_s,
        )
        with _failures(*(file.model for file in files)):
            link = open_phone(serial)
            measured = session.measure(link, jobs, plan, say, timeout_s=how.time_limit_s, pause=pause)
    return [
        _result(measured, job, native_runner(file.session).package, how) for job, file in zip(jobs, files, strict=True)
    ]


def bundle_of(runtime: str, runner: str = "", library: str = "") -> Bundle:
    """What is pushed to run files of one runtime. Raises RecipeError for a runner that cannot be used, DeviceError for
    a runtime whose files run on no phone."""
    if native_of(runtime) is None:
        raise DeviceError(
            f"there is no runner of {named(runtime)} for phones", f"there are: {', '.join(native_sessions())}"
        )
    if runner:
        tool = foreign.tool_of(Path(runner).name)
        with phone_errors():
            bundle = user_bundle(Path(runner), Path(library) if library else None, tool)
        if tool is not None and tool.runtime != runtime:
            raise RecipeError(f"{runner} is a {tool.name}: it runs {tool.runtime} files, not {runtime}")
        return bundle
    emulator = parts.installed()
    if runtime not in emulator.runners:
        raise DeviceError(f"there is no runner of {runtime} for phones", f"there are: {', '.join(emulator.runners)}")
    with phone_errors():
        return own_bundle(emulator.runners[runtime], emulator.libraries[runtime], emulator.sysroot / "lib")


def _raw_inputs(file: Measure, samples: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """The first samples as the runner takes them. What the model takes is asked of the host: it runs there too."""
    request = RunRequest(file.session, file.model, file.sha256, tuple(samples), folder, samples=1)
    return write_inputs(
        host.run(request, quiet=True).inputs, samples, folder, model=file.model.name, limit=_TIMED_SAMPLES
    )


def _result(measured: session.Measured, job: session.Job, package: str, how: Rounds) -> PhoneBench:
    """Of one job: samples of the rounds that count, and everything about how they came about."""
    own = [r for r in measured.rounds if r.label == job.label]
    spoilt = {r.index for r in own} - {r.index for r in measured.clean()}
    clean = [r for r in own if r.index not in spoilt]
    reason = measured.shortfall
    if len(clean) < LEAST_ROUNDS:
        reason = reason or f"{len(clean)} rounds count, a verdict needs {LEAST_ROUNDS}"
    name = job.bundle.tool.name if job.bundle.tool else package
    rounds = clean or own
    # None where a runner does not tell.
    loads_ms = [r.load_ms for r in rounds if r.load_ms is not None]
    return PhoneBench(
        sha256=measured.model_sha256[job.label],
        samples_ms=tuple(ms for r in clean for ms in r.samples_ms),
        load_ms=median(loads_ms) if loads_ms else None,
        peak_rss_bytes=max((r.peak_rss_bytes for r in rounds if r.peak_rss_bytes is not None), default=None),
        loaded_rss_bytes=max((r.loaded_rss_bytes for r in rounds if r.loaded_rss_bytes is not None), default=None),
        how=HowOnPhone(
            runtime=f"{name} {measured.runtime_versions[job.label]}".strip(),
            runner_sha256=measured.runner_sha256[job.label],
            cores=how.cores,
            cpus=measured.cpus,
            threads=how.threads,
            warmup=how.warmup,
            waited_s=round(measured.waited_s, 1),
            settings=measured.settings,
            notes=measured.notes,
            conclusive=not reason,
            reason=reason,
            rounds=tuple(_round(r, r.index in spoilt) for r in own),
        ),
    )


def _round(each: session.Round, spoilt: bool) -> RoundTimes:
    """spoilt: it does not count, for itself or for its block."""
    reasons = each.reasons or (("another round of its block was throttled",) if spoilt else ())
    before, after = each.heat_before, each.heat_after
    return RoundTimes(
        index=each.index,
        block=each.block,
        p50_ms=percentile(each.samples_ms, "p50"),
        samples=len(each.samples_ms),
        clock_ghz=each.clock_ghz,
        throttled=spoilt,
        reasons=reasons,
        battery_c=(before.battery_c, after.battery_c),
        skin_c=(before.skin_c, after.skin_c),
        thermal_status=(before.thermal_status, after.thermal_status),
    )


@contextlib.contextmanager
def _failures(*models: Path) -> Iterator[None]:
    """A model that does not load or run there is ToolFailed as on any device; everything else is the phone's."""
    try:
        with phone_errors():
            yield
    except DeviceError as error:
        cause = error.__cause__
        if isinstance(cause, RunnerFailed):
            names = " or ".join(model.name for model in models)
            words = cause.stderr_tail or cause.message
            for model in models:
                # On the phone files are called by their hashes.
                words = re.sub(rf"/[^\s:]*/files/{hash_file(model)}[^\s:]*", model.name, words)
            raise ToolFailed([f"running {names}"], cause.code, words) from None
        raise


def _quiet(text: str) -> None:
    """What a session does on the way is of interest where time is measured."""
