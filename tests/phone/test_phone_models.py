"""Real models on a phone: all three runtimes give what they give on the host, and are measured there."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measuring import QUICK, Heard, left_on, link_to, sha256
from phone import MakePhone
from shared_store import SUFFIXES, DigitsParts, target_of

from android_bench import errors
from android_bench.bundle import Bundle, own_bundle, user_bundle
from android_bench.session import Job, measure, run_once
from android_bench.workplace import open_workplace
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.devices.emulator.parts import Emulator

ModelOf = Callable[[str, str], Path]
SAMPLES = 3


def bundle_of(emulator: Emulator, runtime: str) -> Bundle:
    return own_bundle(emulator.runners[runtime], emulator.libraries[runtime], emulator.sysroot / "lib")


@pytest.fixture(scope="module")
def model_of(digits_parts: DigitsParts, tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """(runtime, kind) → that file, under the name that it ships with."""
    folder = tmp_path_factory.mktemp("models")

    def copied(runtime: str, kind: str) -> Path:
        file = folder / f"{target_of(runtime, kind)}.{SUFFIXES[runtime]}"
        return file if file.exists() else Path(shutil.copyfile(digits_parts.model(runtime, kind), file))

    return copied


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw, as the digits network takes them: float32 of 1 × 32 × 32."""
    path = tmp_path_factory.mktemp("samples") / "samples.bin"
    np.random.default_rng(0).uniform(-1, 1, (SAMPLES, 1, 32, 32)).astype(np.float32).tofile(path)
    return path


def on_host(runtime: str, model: Path, samples: Path, folder: Path) -> np.ndarray:
    folder.mkdir()
    np.save(folder / "in.npy", np.fromfile(samples, np.float32).reshape(SAMPLES, 1, 32, 32))
    host.run(RunRequest(runtime, model, inputs=(folder / "in.npy",), outputs=folder / "out", sha256=sha256(model)))
    return np.load(folder / "out" / "outputs_0.npy")


def test_outputs_on_the_phone_are_the_hosts(
    make_phone: MakePhone, model_of: ModelOf, emulator: Emulator, samples: Path, tmp_path: Path
) -> None:
    models = {(runtime, kind): model_of(runtime, kind) for runtime in SUFFIXES for kind in ("fp32", "int8")}
    phone = make_phone(userland="arm64")
    with open_workplace(link_to(phone), Heard()) as place:
        for runtime in SUFFIXES:
            for kind in ("fp32", "int8"):
                model = models[runtime, kind]
                to = tmp_path / model.name
                answer = run_once(
                    place, bundle_of(emulator, runtime), model, [samples], to, sha256=sha256(model), cpus=(1,)
                )
                assert answer.said["model_sha256"] == sha256(model) and set(answer.cpus) == {(1,)}
                found = np.fromfile(answer.outputs[0], np.float32).reshape(SAMPLES, 10)
                wanted = on_host(runtime, model, samples, tmp_path / f"{model.name}-host")
                # Other kernels than the host's: float32 in another order, int8 a step of its grid away.
                tolerance = 1e-4 if kind == "fp32" else 0.05
                assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max(), model.name
                assert (found.argmax(1) == wanted.argmax(1)).all()
    assert left_on(phone) == {}


def test_two_real_files_are_measured_against_each_other(
    make_phone: MakePhone, model_of: ModelOf, emulator: Emulator, samples: Path
) -> None:
    phone = make_phone()
    bundle = bundle_of(emulator, "tflite")
    jobs = [
        Job(kind, bundle, model := model_of("tflite", kind), (samples,), sha256(model)) for kind in ("fp32", "int8")
    ]
    plan = dataclasses.replace(QUICK, samples=3, warmup=1)
    measured = measure(link_to(phone), jobs, plan, Heard())
    assert [each.label for each in measured.rounds] == ["fp32", "int8", "int8", "fp32"]
    assert all(len(each.samples_ms) >= 3 and min(each.samples_ms) > 0 for each in measured.rounds)
    assert all((each.peak_rss_bytes or 0) > 1_000_000 and (each.load_ms or 0) > 0 for each in measured.rounds)
    assert measured.model_sha256 == {job.label: job.sha256 for job in jobs}
    assert measured.runner_sha256["fp32"] == sha256(emulator.runners["tflite"])
    assert measured.runtime_versions == dict.fromkeys(("fp32", "int8"), "2.3.0")
    # Both jobs' bundle and inputs went over the link once.
    files = {*bundle.files.values(), samples, *(job.model for job in jobs)}
    assert phone.passed_bytes()["up"] < 1.05 * sum(path.stat().st_size for path in files) + 200_000
    assert left_on(phone) == {}


def test_a_damaged_model_fails_in_the_runtimes_own_words(
    make_phone: MakePhone, model_of: ModelOf, emulator: Emulator, samples: Path, tmp_path: Path
) -> None:
    whole = model_of("tflite", "int8").read_bytes()
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole[: len(whole) // 2])
    phone = make_phone()
    with pytest.raises(errors.RunnerFailed, match=r"does not take this model(.|\n)*pf_litert: "):
        measure(link_to(phone), [Job("a", bundle_of(emulator, "tflite"), cut, (samples,), sha256(cut))], QUICK, Heard())
    # Our runner as a user's own: it needs a loader that a phone does not have.
    alone = user_bundle(emulator.runners["tflite"])
    bare = Job("a", alone, cut, (samples,), sha256(cut))
    with pytest.raises(errors.PhoneError):
        measure(link_to(phone), [bare], QUICK, Heard())
    assert left_on(phone) == {}
