"""A runtime's further libraries go along with it, and what runtimes log at every start is nobody's error."""

from __future__ import annotations

from pathlib import Path

from android_bench.bundle import LOADER, own_bundle, parts_beside, without_start_log

BESIDE = ("libexecutorch.so", "libexecutorch_threadpool.so", "libexecutorch_backend_xnnpack.so",
          "libonnxruntime.so.1.2", "libonnxruntime_providers.so", "libexecutorch_notes.txt",
          "libexecutorchother.so")  # fmt: skip


def test_a_library_takes_its_parts_along_and_no_others(tmp_path: Path) -> None:
    for name in (*BESIDE, LOADER):
        (tmp_path / name).write_bytes(b"\x7fELF" + bytes(32))
    (tmp_path / "libexecutorch_folder.so").mkdir()
    found = [path.name for path in parts_beside(tmp_path / "libexecutorch.so")]
    assert found == ["libexecutorch_backend_xnnpack.so", "libexecutorch_threadpool.so"]
    assert [path.name for path in parts_beside(tmp_path / "libonnxruntime.so.1.2")] == ["libonnxruntime_providers.so"]
    (tmp_path / "pf_executorch").write_bytes(b"\x7fELF" + bytes(32))
    bundle = own_bundle(tmp_path / "pf_executorch", tmp_path / "libexecutorch.so", tmp_path)
    assert bundle.library == "lib/libexecutorch.so"
    assert {name for name in bundle.files if name.startswith("lib/")} == {
        "lib/libexecutorch.so",
        *(f"lib/{name}" for name in found),
    }


def test_what_runtimes_log_at_every_start_is_left_out() -> None:
    said = (
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n\n"
        "I 00:00:00.085407 executorch:cpuinfo_utils.cpp:125] CPU info and manual query on # of cpus dont match.\n"
        "E 00:00:00.086220 executorch:program.cpp:114] File size is too small.\n"
        "pf_executorch: Program::load failed\n"
    )
    assert without_start_log(said).splitlines() == [
        "E 00:00:00.086220 executorch:program.cpp:114] File size is too small.",
        "pf_executorch: Program::load failed",
    ]
