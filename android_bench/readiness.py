"""Whether a phone can be benchmarked, and what would spoil it: each question with its answer and its remedy.

"missing" stops a benchmark, "warn" makes it worth less or less certain. Nothing is left on the phone, and nothing
changed but this: fixed-performance mode is switched off, which is how a phone says whether it has it; where a measured
run is under way, not even that.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from android_bench.adb import Adb
from android_bench.cooling import Limits
from android_bench.errors import PhoneError
from android_bench.link import Link
from android_bench.lock import LOCK
from android_bench.phone import PhoneFacts, read_facts
from android_bench.readings import THERMAL_STATUS, Heat, read_clocks, read_heat
from android_bench.texts import lines, marked, sections, whole

State = Literal["ok", "warn", "missing"]

ABI = "arm64-v8a"
PLACE = "/data/local/tmp"
# A runtime, a runner and a model of a phone's size, twice; below the lower one not even a small model fits.
ROOMY_BYTES, LEAST_BYTES = 512 * 2**20, 64 * 2**20
# Without the first nothing can be verified, run detached or polled; without the others nothing can be pinned to cores.
NEEDED_COMMANDS = ("sha256sum", "setsid", "nohup", "stat", "wc")
WANTED_COMMANDS = ("taskset",)

# A measured run waits for its temperature, and does not begin below its level.
_LIMITS = Limits()
_FREEZE = "cool it (out of its case, off the charger, away from the sun) and wait"
_QUESTIONS = {
    "space": f"df -k {PLACE}",
    "commands": "".join(
        f"command -v {name} >/dev/null || echo {name}; " for name in (*NEEDED_COMMANDS, *WANTED_COMMANDS)
    )
    + "echo asked",
    "saver": "settings get global low_power",
    "developer": "settings get global development_settings_enabled",
    # Never under a measured run: it may have switched the mode on.
    "fixed": f"if [ -e {LOCK} ]; then echo busy; "
    "else cmd power set-fixed-performance-mode-enabled false 2>&1; echo code $?; fi",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One row. fix: what to do about a state that is not ok."""

    name: str
    state: State
    found: str
    fix: str = ""


def check_adb(adb: Adb) -> Iterator[Check]:
    """The program, and its server, which is started where none runs."""
    yield Check("adb", "ok", f"{adb.version}: {adb.program}")
    try:
        adb.ready()
    except PhoneError as error:
        yield _trouble("adb server", error)
    else:
        yield Check("adb server", "ok", f"{adb.server.spec}, of the same version")


def check_link(link: Link, program: Path | None = None) -> Iterator[Check]:
    """Everything on the phone, each row as soon as it is known. Ends early when the phone is lost.

    program: an arm64 program that ends with code 0 on `--version`, which is run there to prove that such run.
    """
    try:
        facts = read_facts(link)
        yield _who(facts)
        yield _abi(facts)
        yield _folder(link)
        if program is not None:
            yield _runs(link, program)
        token = secrets.token_hex(8)
        said = sections(link.shell(marked(token, _QUESTIONS), timeout_s=60, repeat=True).stdout, token)
        yield _space(said.get("space", ""))
        yield _commands(said.get("commands", ""))
        if "busy" in lines(said.get("fixed", "")):
            fix = "wait for its end; one whose computer died ends by itself"
            yield Check("in use", "warn", f"a benchmark runs on the phone ({LOCK})", fix)
        heat = read_heat(link)
        yield _thermal(heat)
        yield _cpufreq(link, facts)
        yield _fixed(said.get("fixed", ""), facts)
        yield _battery(heat)
        yield _screen(heat)
        yield from _settings(said)
    except PhoneError as error:
        yield _trouble("link", error)


def _trouble(name: str, error: PhoneError) -> Check:
    return Check(name, "missing", error.message, error.hint)


def _who(facts: PhoneFacts) -> Check:
    android = f"Android {facts.android_version}" if facts.android_version else "Android of unknown version"
    name = " ".join(word for word in (facts.manufacturer, facts.model) if word) or "a phone that gives no name"
    found = f"{name} ({facts.device or 'device unknown'}), {android}"
    if facts.emulator:
        return Check("phone", "warn", f"{found}: a virtual device", "its times are this computer's: use a phone")
    return Check("phone", "ok", found)


def _abi(facts: PhoneFacts) -> Check:
    found = ", ".join(facts.abis) or "unknown"
    if ABI in facts.abis:
        return Check("ABI", "ok", found)
    if not facts.abis:
        return Check("ABI", "warn", "the phone does not tell its ABIs", f"programs for {ABI} are what runs")
    return Check("ABI", "missing", f"{found}: programs for {ABI} do not run on it", f"a phone with {ABI}")


def _folder(link: Link) -> Check:
    """By a script that is written, made executable and started; the shell removes it also when the link drops."""
    folder = f"{PLACE}/pocketforge-doctor-{secrets.token_hex(8)}"
    word = secrets.token_hex(8)
    script = f"'#!/system/bin/sh\\necho {word}\\n'"
    done = link.shell(
        f"trap 'rm -rf {folder}' EXIT; trap 'exit 1' HUP INT TERM; mkdir -m 700 {folder} && "
        f"printf {script} >{folder}/try && chmod 700 {folder}/try && {folder}/try",
        repeat=True,
    )
    if done.code == 0 and word in done.stdout:
        return Check("folder", "ok", f"{PLACE}: files can be written and started")
    reason = (lines(done.stderr.strip() or done.stdout.strip())[-1:] or [""])[0] or f"exit code {done.code}"
    return Check(
        "folder",
        "missing",
        f"{PLACE}: no file can be written and started there: {reason}",
        "free space on the phone; a work profile or its maker's policy may forbid it: try another phone",
    )


def _runs(link: Link, program: Path) -> Check:
    folder = f"{PLACE}/pocketforge-doctor-{secrets.token_hex(8)}"
    remote = f"{folder}/program"
    try:
        link.run(["mkdir", "-m", "700", folder], repeat=True)
        try:
            link.push(program, remote, executable=True)
            link.run([remote, "--version"])
        finally:
            link.shell(["rm", "-rf", folder], repeat=True)
    except PhoneError as error:
        if error.transient:
            raise
        return Check("arm64 program", "missing", error.message, error.hint or f"a phone with {ABI}")
    return Check("arm64 program", "ok", "was pushed, verified and run")


def _space(df: str) -> Check:
    """`df -k`: the 1K-blocks that are available are the number before the percentage."""
    found = re.search(r"\s([0-9]{1,15})\s+[0-9]{1,3}%", " ".join(lines(df)))
    if not found:
        return Check("free space", "warn", f"unknown: df says nothing of {PLACE}", "")
    free = int(found[1]) * 1024
    shown = f"{free // 2**20} MB in {PLACE}"
    if free >= ROOMY_BYTES:
        return Check("free space", "ok", shown)
    state: State = "warn" if free >= LEAST_BYTES else "missing"
    return Check("free space", state, shown, "delete apps, photos or downloads on the phone")


def _commands(said: str) -> Check:
    if "asked" not in lines(said):
        return Check("commands", "missing", "the phone's shell could not be asked", "run this again")
    absent = [line for line in lines(said) if line in (*NEEDED_COMMANDS, *WANTED_COMMANDS)]
    if not absent:
        return Check("commands", "ok", ", ".join((*NEEDED_COMMANDS, *WANTED_COMMANDS)))
    found = f"the phone has no {', '.join(absent)}"
    if set(absent) & set(NEEDED_COMMANDS):
        return Check("commands", "missing", found, "an Android of 8 or later has them; a stripped one may not")
    return Check("commands", "warn", found, "nothing can be pinned to cores: measure with --cores all")


def _thermal(heat: Heat) -> Check:
    temperatures = [
        f"{name} {value:g} °C" for name, value in (("skin", heat.skin_c), ("CPU", heat.cpu_c)) if value is not None
    ]
    shown = ", ".join(temperatures)
    warnings = [warning for warning in heat.warnings if "battery" not in warning]
    if heat.thermal_status is None:
        said = warnings[0] if warnings else "the phone tells no thermal status"
        what, _, fix = said.partition(": ")
        state: State = "missing" if heat.faked and "by hand" in said else "warn"
        return Check("thermal status", state, f"{what}; {shown}" if shown else what, fix)
    found = f"{THERMAL_STATUS[heat.thermal_status]}{', ' + shown if shown else ''}"
    if heat.thermal_status > _LIMITS.max_thermal_status:
        return Check("thermal status", "warn", found, f"{_FREEZE}: a benchmark waits until it is none")
    return Check("thermal status", "ok", found)


def _cpufreq(link: Link, facts: PhoneFacts) -> Check:
    fastest = facts.clusters[0].cpus if facts.clusters else (0,)
    clocks = read_clocks(link, fastest)
    if not clocks.current_ghz:
        fix = "the phone hides its clocks: that they dropped can then not be seen"
        return Check("clocks", "warn", "cpufreq cannot be read", fix)
    cpu = min(clocks.current_ghz)
    shown = f"CPU {cpu} at {clocks.current_ghz[cpu]:g} GHz"
    top, cap = clocks.top_ghz.get(cpu), clocks.cap_ghz.get(cpu)
    if top and cap and cap < top:
        return Check(
            "clocks", "warn", f"{shown}, capped to {cap:g} of {top:g} GHz", f"turn battery saver off; {_FREEZE}"
        )
    if not clocks.time_in_state:
        fix = "the phone keeps no time_in_state: a mean clock over a round cannot be told"
        return Check("clocks", "warn", shown, fix)
    return Check("clocks", "ok", f"{shown}, of {top:g} GHz" if top else shown)


def _fixed(said: str, facts: PhoneFacts) -> Check:
    """Source: AOSP, PowerManagerShellCommand.runSetFixedPerformanceModeEnabled (Android 11 and later)."""
    code = re.search(r"^code ([0-9]{1,3})$", "\n".join(lines(said)), re.MULTILINE)
    name, fix = "fixed performance", "clocks may drift more; more rounds even that out"
    if "busy" in lines(said):
        return Check(name, "warn", "not asked: a benchmark runs on the phone", "run this again when it has ended")
    if facts.sdk is not None and facts.sdk < 30:
        return Check(name, "warn", "there is none before Android 11", fix)
    if code and code[1] == "0" and "Failed" not in said and "Unknown command" not in said:
        return Check(name, "ok", "the phone has this mode")
    return Check(name, "warn", "the phone does not have this mode", fix)


def _battery(heat: Heat) -> Check:
    warnings = [warning for warning in heat.warnings if "battery" in warning]
    if warnings:
        what, _, fix = warnings[0].partition(": ")
        return Check("battery", "missing" if heat.faked and "faked" in what else "warn", what, fix)
    parts = []
    if heat.battery_level is not None:
        parts.append(f"{heat.battery_level} %")
    if heat.battery_c is not None:
        parts.append(f"{heat.battery_c:g} °C")
    parts += {True: ["charging"], False: ["not charging"], None: []}[heat.charging]
    found = ", ".join(parts)
    if not found:
        return Check("battery", "warn", "the phone does not tell its battery's level and temperature", "")
    if heat.battery_level is not None and heat.battery_level < _LIMITS.min_battery_level:
        return Check("battery", "missing", found, f"charge it to {_LIMITS.min_battery_level} % or more")
    if heat.battery_c is not None and heat.battery_c > _LIMITS.max_battery_c:
        return Check("battery", "warn", found, f"{_FREEZE}: a benchmark waits for {_LIMITS.max_battery_c:g} °C")
    if heat.charging:
        return Check("battery", "warn", found, "charging warms the phone: let it become full, or use a slow port")
    return Check("battery", "ok", found)


def _screen(heat: Heat) -> Check:
    if heat.wakefulness == "Awake":
        return Check("screen", "ok", "awake")
    shown = heat.wakefulness.lower() or "unknown whether awake"
    return Check("screen", "warn", shown, "wake and unlock it: asleep, a phone lowers its clocks")


def _settings(said: dict[str, str]) -> Iterator[Check]:
    if whole(said.get("saver")) == 1:
        yield Check("battery saver", "warn", "on", "turn it off: it lowers the clocks")
    elif whole(said.get("saver")) == 0 or said.get("saver", "").strip() == "null":
        yield Check("battery saver", "ok", "off")
    else:
        yield Check("battery saver", "warn", "the phone does not tell whether it is on", "see that it is off")
    if whole(said.get("developer")) == 0:
        fix = "Settings > About phone, tap Build number seven times"
        yield Check("developer options", "warn", "off, so adb may be gone at the next connection", fix)
    elif whole(said.get("developer")) == 1:
        yield Check("developer options", "ok", "on")
