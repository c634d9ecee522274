"""A measured session on a phone: its order, its limits, what it refuses, and that nothing of it stays."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from measuring import QUICK, Heard, job, left_on, link_to, script_bundle, sha256, until
from phone import MakePhone, Phone

from android_bench import errors
from android_bench.bundle import user_bundle
from android_bench.detached import run_detached
from android_bench.readings import read_heat
from android_bench.session import measure, run_once
from android_bench.settings import measuring_settings
from android_bench.workplace import open_workplace


def test_two_jobs_are_measured_in_turn_and_nothing_stays(make_phone: MakePhone, tmp_path: Path) -> None:
    phone = make_phone(userland="arm64", body={"thermal_status": 1})
    before = phone.settings()
    heard = Heard()
    heard.then["cooling down"] = lambda: phone.cool_down(after_s=1)
    slow = job(tmp_path, "ms=7.5", "slow")
    quick = job(tmp_path, "ms=2.5; sleep 0.2", "quick", bundle=slow.bundle)
    plan = dataclasses.replace(QUICK, cool_timeout_s=60)
    measured = measure(link_to(phone), [slow, quick], plan, heard)
    assert [(each.label, each.samples_ms, each.throttled) for each in measured.rounds] == [
        ("slow", (7.5, 7.5), False),
        ("quick", (2.5, 2.5), False),
        ("quick", (2.5, 2.5), False),
        ("slow", (7.5, 7.5), False),
    ]
    assert measured.cpus == (1,) and measured.mask == "2"
    assert measured.runner_sha256 == dict.fromkeys(("slow", "quick"), sha256(tmp_path / "runner.sh"))
    assert measured.model_sha256 == {"slow": slow.sha256, "quick": quick.sha256}
    assert measured.waited_s > 0 and heard.about("cooling down") and "thermal status 1 (light)" in " ".join(heard)
    # Each pair of clock readings covers its round.
    assert all(each.clock_ghz == pytest.approx(2.914) for each in measured.rounds)
    assert measured.shortfall == "" and measured.clean() == measured.rounds
    states = {
        setting["name"]: (setting["state"], setting["before"], setting["undone"]) for setting in measured.settings
    }
    assert states == {
        "fixed performance mode": ("set", "unknown", True),
        "stay awake while plugged in": ("set", "0", True),
        "screen": ("not needed", "Awake", None),
    }
    calls = phone.calls("cmd", "settings")
    assert calls[-2:] == (
        "settings put global stay_on_while_plugged_in 0",
        "cmd power set-fixed-performance-mode-enabled false",
    )
    assert left_on(phone) == {} and phone.settings() == before
    # While it measured, it read the heat only between rounds.
    assert len(phone.calls("dumpsys")) <= 3 * (2 + 4 + len(heard.about("cooling down")) * 4)


def test_throttled_rounds_are_run_again_and_never_counted(phone: Phone, tmp_path: Path) -> None:
    heard = Heard()
    heard.then["round 1,"] = lambda: phone.set_cap(1, 1.8)
    heard.then["round 2,"] = lambda: phone.set_cap(1, 2.914)
    plan = dataclasses.replace(QUICK, rounds=2)
    measured = measure(link_to(phone), [job(tmp_path)], plan, heard)
    assert [each.throttled for each in measured.rounds] == [False, True, False]
    assert "CPU 1 could go no higher than 1.800 GHz, and 2.914 GHz at other times" in measured.rounds[1].reasons
    assert [each.index for each in measured.clean()] == [0, 2] and measured.shortfall == ""

    # Now it stays slow: twice as many rounds as planned, and the result says that they do not suffice.
    heard.then["round 1,"] = lambda: phone.set_cap(1, 1.8)
    measured = measure(link_to(phone), [job(tmp_path)], plan, heard)
    assert [each.throttled for each in measured.rounds] == [False, True, True, True]
    assert measured.shortfall.startswith("1 of 4 rounds were not slowed down by the phone, wanted 2: CPU 1 could go")
    assert left_on(phone) == {}


def test_a_phone_that_stays_hot_is_not_measured(make_phone: MakePhone, tmp_path: Path) -> None:
    phone = make_phone(body={"battery_c": 41.5, "thermal_status": 2})
    with pytest.raises(
        errors.TooHot, match=r"thermal status 2 \(moderate\).*the battery at 41\.5 °C, wanted at most 38"
    ):
        measure(link_to(phone), [job(tmp_path)], QUICK, Heard())
    assert left_on(phone) == {}
    phone.set_body(battery_c=30.0, thermal_status=0, battery_level=9)
    with pytest.raises(errors.BatteryLow, match="at 9 %, wanted at least 15 %"):
        measure(link_to(phone), [job(tmp_path)], QUICK, Heard())
    link_to(phone).run("dumpsys battery set level 90; cmd thermalservice override-status 0")
    with pytest.raises(errors.FakedReadings, match="thermalservice reset"):
        measure(link_to(phone), [job(tmp_path)], QUICK, Heard())
    assert left_on(phone) == {}


def test_a_sleeping_phone_is_woken_and_put_back_to_sleep(make_phone: MakePhone) -> None:
    phone = make_phone("pixel4", power_hal=False, body={"plugged": "", "battery_status": 3})  # Android 10
    link = link_to(phone)
    link.run("input keyevent KEYCODE_SLEEP; settings delete global stay_on_while_plugged_in")
    before = phone.settings()
    heard = Heard()
    with open_workplace(link, heard) as place, measuring_settings(place, read_heat(link)) as made:
        assert {each.name: each.state for each in made} == {
            "fixed performance mode": "not available",
            "stay awake while plugged in": "set",
            "screen": "set",
        }
        assert "Unknown command" in made[0].why and "not charging" in made[1].why
        assert phone.setting("global", "stay_on_while_plugged_in") == "15"
        assert read_heat(link).wakefulness == "Awake"
    assert [each.undone for each in made] == [None, True, True]
    assert phone.settings() == before and read_heat(link).wakefulness == "Asleep"
    assert phone.list("/data/local/tmp") == ()


def test_what_a_phone_cannot_take_is_refused_before_anything_is_pushed(make_phone: MakePhone, tmp_path: Path) -> None:
    small = make_phone(data_size="48m")
    big = tmp_path / "big.model"
    big.write_bytes(b":\n" + bytes(20 * 1024 * 1024))
    wanted = dataclasses.replace(job(tmp_path), model=big, sha256=sha256(big))
    with pytest.raises(errors.NoSpace, match=r"wanted 20\.0 MiB and 32 MiB to spare, found 4\d\.\d MiB"):
        measure(link_to(small), [wanted], QUICK, Heard())
    assert left_on(small) == {}

    closed = make_phone(noexec=True)
    with pytest.raises(errors.NotExecutable, match="cannot be started from /data/local/tmp"):
        measure(link_to(closed), [job(tmp_path)], QUICK, Heard())
    assert closed.list("/data/local/tmp") == ()

    old = make_phone("old_32bit", cpus=None)
    arm64 = tmp_path / "arm64"
    arm64.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(40))
    with pytest.raises(errors.WrongAbi, match=r"arm64 is built for arm64-v8a, and .* runs armeabi-v7a, armeabi"):
        measure(link_to(old), [job(tmp_path, bundle=user_bundle(arm64))], QUICK, Heard())
    assert old.list("/data/local/tmp") == ()


def test_without_taskset_only_all_cores_can_be_measured(make_phone: MakePhone, tmp_path: Path) -> None:
    phone = make_phone(missing=("taskset",))
    with pytest.raises(errors.CommandMissing, match="taskset") as caught:
        measure(link_to(phone), [job(tmp_path)], QUICK, Heard())
    assert "--cores all" in caught.value.hint
    measured = measure(link_to(phone), [job(tmp_path)], dataclasses.replace(QUICK, cores="all"), Heard())
    assert len(measured.rounds) == 1 and measured.mask == ""
    with pytest.raises(errors.BadCores, match=r"no mid cores; it has big 1 \(cortex-x3 2\.9 GHz\), little 0"):
        measure(link_to(phone), [job(tmp_path)], dataclasses.replace(QUICK, cores="mid"), Heard())
    assert left_on(phone) == {}


NASTY = "a b'\"$(touch ${TMPDIR}pwned)`id`;&|\\ -é"


def test_names_never_become_commands(phone: Phone, tmp_path: Path) -> None:
    folder = tmp_path / NASTY
    folder.mkdir()
    bundle = script_bundle(folder, NASTY)
    asked = job(folder, "ms=1.5", NASTY, name=f"-{NASTY}", bundle=bundle)
    measured = measure(link_to(phone), [asked], QUICK, Heard())
    assert measured.rounds[0].samples_ms == (1.5, 1.5)
    assert left_on(phone) == {} and "pwned" not in phone.list("/")


def test_outputs_come_back_whole_and_each_content_is_pushed_once(phone: Phone, tmp_path: Path) -> None:
    asked = job(tmp_path)
    link = link_to(phone)
    with open_workplace(link, Heard()) as place:
        for name in ("one", "two"):
            sent = phone.passed_bytes()["up"]
            answer = run_once(
                place, asked.bundle, asked.model, asked.inputs, tmp_path / name, sha256=asked.sha256, cpus=(0,)
            )
            assert [path.read_bytes() for path in answer.outputs] == [b"0123"]
            assert answer.cpus and set(answer.cpus) == {(0,)}
            names = phone.list(f"{place.folder}/files")
            assert len(names) == 3
        assert phone.passed_bytes()["up"] - sent < 12_000
        # The folder is nobody else's.
        assert link.run(["stat", "-c", "%a", place.folder]).strip() == "700"
    assert left_on(phone) == {}


FAILURES: dict[str, tuple[type[errors.PhoneError], str]] = {
    "kill -KILL $$": (errors.RunnerFailed, r"was killed .SIGKILL.(.|\n)*memory"),
    "kill -SEGV $$": (errors.RunnerFailed, "crashed .segmentation fault"),
    "echo pf: no such operator >&2; exit 65": (
        errors.RunnerFailed,
        r"does not take this model.*exit code 65(.|\n)*pf: no such operator",
    ),
    "echo '{'; exit 0": (errors.BadOutput, "wanted one line of JSON from the runner, found '{'"),
    "sha=00": (errors.BadOutput, "loaded another file than was pushed"),
    "times=NaN": (errors.BadOutput, "wanted one line of JSON"),
}


def test_a_runner_that_fails_is_told_apart(shared_phone: Phone, tmp_path: Path) -> None:
    bundle = script_bundle(tmp_path)
    with open_workplace(link_to(shared_phone), Heard()) as place:
        for script, (error, words) in FAILURES.items():
            asked = job(tmp_path, script, bundle=bundle)
            with pytest.raises(error, match=words):
                run_once(place, bundle, asked.model, sha256=asked.sha256)
    assert left_on(shared_phone) == {}


def test_a_run_that_does_not_end_is_ended_on_the_phone(phone: Phone, tmp_path: Path) -> None:
    with open_workplace(link_to(phone), Heard()) as place:
        with pytest.raises(errors.PhoneTimeout, match=r"had not ended .* after 1 s, and was ended there"):
            run_detached(place, ["sleep", "1234"], folder=place.folder, cpus=(0,), timeout_s=1)
        until(lambda: not any("1234" in line for line in phone.ps()))
        assert any("watch" in line for line in phone.ps())
        ended = run_detached(place, ["sh", "-c", "echo out; echo err >&2; exit 3"], folder=place.folder)
        assert (ended.code, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
    assert left_on(phone) == {}


def test_one_session_at_a_time(phone: Phone) -> None:
    link = link_to(phone)
    heard = Heard()
    with open_workplace(link, heard) as first:
        with (
            pytest.raises(errors.PhoneBusy, match=r"in use: by .* \(process \d+\), since 20.*UTC"),
            open_workplace(link, heard),
        ):
            pytest.fail("two sessions")
        # The one that was refused took nothing with it.
        assert first.run("echo here") == "here\n"
        holder = "/data/local/tmp/pocketforge.lock/holder"
        text = phone.read(holder)

        # As a dead session leaves them: its process is another, or ended; or it is of an earlier boot.
        dead = re.sub(r"process=.*", "process=1 1", text)
        assert dead != text
        phone.put(holder, dead, mode=0o666)
        with open_workplace(link, heard) as second:
            assert heard.about("taking over") and "its process has ended" in heard.about("taking over")[0]
            assert heard.about(f"removed what an earlier session left in {first.folder}")
            with pytest.raises(errors.SessionGone):
                first.run(":")
            assert second.run("echo here") == "here\n"
    assert left_on(phone) == {}
