"""A kind of device is one row: each part that it names is there, and is asked for by the names that the others use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from pkgutil import resolve_name

import pytest

from pocketforge.cli.bench import command
from pocketforge.commands.bench_kinds import bench_on
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.errors import RecipeError
from pocketforge.recipe.device import KINDS
from pocketforge.registries import DEVICES, STAGES, stage_info

KINDS_OF_OURS = tuple(DEVICES.ours)
# `module:name` of the row, in the order of DeviceInfo.
PARTS = ("entry", "steps", "results", "facts", "tables", "bench", "bench_table")
# One value for each option that only some kinds of device know.
GIVEN = {
    "explain": True,
    "what_if": "width=0.5",
    "clock_ghz": 2.0,
    "against": "a",
    "noise_floor": True,
    "runner": "/r",
    "rounds": 9,
    "processes": 9,
}


@pytest.mark.parametrize("via", KINDS_OF_OURS)
def test_each_part_of_a_row_is_there(via: str) -> None:
    info = DEVICES[via]
    for part in PARTS:
        place = getattr(info, part)
        assert not place or resolve_name(place) is not None, part
    assert callable(resolve_name(info.runner).run)
    assert info.entry and info.steps and info.results
    assert bool(info.tables) == bool(info.about), "what is known of such devices is shown, and nothing else"
    assert bool(info.bench) == bool(info.bench_table)


@pytest.mark.parametrize("via", KINDS_OF_OURS)
def test_an_entry_says_the_kind_that_its_row_is_of(via: str) -> None:
    fields = dataclasses.fields(resolve_name(DEVICES[via].entry))
    (default,) = (field.default for field in fields if field.name == "via")
    assert default == via and KINDS[via].GIVES
    assert DEVICES[via].keeps_time == ("timed" in KINDS[via].GIVES)


def test_options_that_only_some_devices_know_are_options_and_are_noticed() -> None:
    options = {option for param in command.params for option in param.opts if option.startswith("--")}
    known = {option for via in KINDS_OF_OURS for option in bench_on(via).OPTIONS}
    assert known <= options
    given = BenchRequest(what=Path("x.toml"), **GIVEN).given  # type: ignore[arg-type]
    assert given == known
    assert BenchRequest(what=Path("x.toml")).given == frozenset()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"what": Path("a.toml"), "inputs": (Path("x.npy"),)}, "--inputs is for a model FILE"),
        ({"what": Path("a.onnx"), "targets": ("t",)}, "--target is for a recipe"),
        ({"what": Path("a.onnx"), "calibration": "/c"}, "--calibration is for estimates"),
        ({"what": Path("a.onnx"), "runner_library": "/l"}, "--runner-library is what a --runner loads"),
        ({"what": Path("a.onnx"), "noise_floor": True, "rounds": 3}, "a comparison needs 4 rounds or more, found"),
    ],
)
def test_options_that_do_not_go_together_are_refused_when_the_request_is_made(options, fault):
    with pytest.raises(RecipeError, match=fault):
        BenchRequest(**options)


def test_a_stage_that_no_row_has_is_no_stage() -> None:
    assert stage_info("bench") is STAGES["bench"]
    with pytest.raises(KeyError, match="nowhere"):
        stage_info("nowhere")
