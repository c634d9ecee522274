"""`device calibrate`: fits to what it is given, says what it left out, and promises no phone that it cannot reach."""

from __future__ import annotations

import csv

import pytest

from pocketforge.device_calibration import published, suite


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("suite") / "s"
    suite.write_suite(made)
    return made


def test_a_phone_measures_the_files_of_a_suite(cli):
    """On a phone: tests/phone/test_phone_calibration.py."""
    done = cli("device", "calibrate", "--adb", "emulator-5554")
    assert done.code == 2 and done.stdout == ""
    assert "--adb measures the files of a --suite DIR" in done.stderr


def test_the_suite_is_written_with_what_to_do_next(cli, tmp_path):
    done = cli("device", "calibrate", "--suite", tmp_path / "phone")
    assert done.code == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "phone" / "manifest.csv").read_text().splitlines()))
    assert done.stdout.startswith(f"{len(rows)} files, ")
    assert "--from" in done.stdout and "taskset" in done.stdout
    assert all((tmp_path / "phone" / row["file"]).stat().st_size for row in rows)
    again = cli("device", "calibrate", "--suite", tmp_path / "phone")
    assert again.code == 3 and "is there already" in again.stderr


def test_a_manifest_without_measurements_is_refused(cli, folder):
    done = cli("device", "calibrate", "--from", folder / "manifest.csv")
    assert done.code == 2
    assert "holds no measurement" in done.stderr and "fill its column latency_ms" in done.stderr


def test_rows_that_cannot_be_compared_are_refused_with_the_reason(cli, tmp_path):
    path = tmp_path / "mine.csv"
    rows = list(csv.DictReader(published.DATA.joinpath("models.csv").read_text().splitlines()))
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerow({**rows[0], "threads": "4"})
    done = cli("device", "calibrate", "--from", path)
    assert done.code == 2 and "4 threads: estimates are for one" in done.stderr
    path.write_text("device,ms\nmine,3\n")
    done = cli("device", "calibrate", "--from", path)
    assert done.code == 2 and "not a table of measurements" in done.stderr


def test_an_unknown_profile_or_core_is_named(cli, folder, tmp_path):
    rows = list(csv.DictReader((folder / "manifest.csv").read_text().splitlines()))
    rows[0].update(device="Nokia 3310", core="Cortex-A76", GHz="2.0", latency_ms="1.5")
    path = folder / "nokia.csv"
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = cli("device", "calibrate", "--from", path)
    assert done.code == 2 and "no device profile for 'Nokia 3310'" in done.stderr and "--profile NAME" in done.stderr
    done = cli("device", "calibrate", "--from", path, "--profile", "rpi4b")
    assert done.code == 2 and "has no cortex-a76, which conv-112x16-32-k1s1-fp32 was measured on" in done.stderr
