"""What `pocketforge bench` is asked for, and which options go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.measure.ab import MIN_BLOCKS


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """The command line, one field an option. Numbers are None where the devices' own hold.

    Attributes:
        what: A recipe, or a model file.
        targets: Only these of the recipe; all when empty.
        inputs: A .npy of samples for each input of a model file.
        devices: Words of --device; where there are none and no profiles either, the recipe's devices.
        profiles: Profiles to emulate, or the one that a phone stands for.
        cores: Which cluster of an emulated device or a phone; its own choice when empty.
        calibration: Absolute path of a file that estimates use; the shipped one when empty.
        explain: Whether to show where estimated cycles go.
        what_if: A change that is supposed, as width=0.75; nothing when empty.
        clock_ghz: Of the cores, supposed; the profile's when None.
        against: A target or a file to compare with on a phone; none when empty.
        tolerance: How much slower than that the file may be, as a fraction.
        noise_floor: Whether to compare each file with itself.
        runner: Absolute path of a program of the user's that runs files on phones; ours when empty.
        runner_library: Absolute path of what that program loads; nothing when empty.
        rounds: On phones.
        processes: On the host.
        threads: Of the runtime.
        min_samples: Timed inferences in all, at least.
        min_seconds: Timed seconds at least: on the host in all, on a phone in each round.
    """

    what: Path
    targets: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    cores: str = ""
    calibration: str = ""
    explain: bool = False
    what_if: str = ""
    clock_ghz: float | None = None
    against: str = ""
    tolerance: float = 0.05
    noise_floor: bool = False
    runner: str = ""
    runner_library: str = ""
    rounds: int | None = None
    processes: int | None = None
    threads: int | None = None
    min_samples: int | None = None
    min_seconds: float | None = None

    def __post_init__(self) -> None:
        """Raises RecipeError for options that do not go together, whatever the devices are."""
        if self.of_recipe and self.inputs:
            raise RecipeError("--inputs is for a model FILE; a recipe's targets run on its own eval samples")
        if not self.of_recipe and self.targets:
            raise RecipeError("--target is for a recipe, not for a model file")
        if self.calibration and not self.profiles:
            raise RecipeError("--calibration is for estimates of a --profile", "a recipe's devices name their own")
        if self.what_if:
            from pocketforge.estimation.what_if import parse

            parse(self.what_if)
        if self.runner_library and not self.runner:
            raise RecipeError("--runner-library is what a --runner loads")
        if self.compares and self.rounds is not None and self.rounds < MIN_BLOCKS:
            raise RecipeError(f"a comparison needs {MIN_BLOCKS} rounds or more, found --rounds {self.rounds}")

    @property
    def of_recipe(self) -> bool:
        """Whether it is about a recipe's targets, not about a model file."""
        return self.what.suffix == ".toml"

    @property
    def compares(self) -> bool:
        """Whether two files, or one twice, are timed in turns."""
        return bool(self.against or self.noise_floor)

    @property
    def given(self) -> frozenset[str]:
        """Options that only some kinds of device know, of those that were given."""
        options = {
            "--explain": self.explain,
            "--what-if": self.what_if,
            "--clock": self.clock_ghz,
            "--against": self.against,
            "--noise-floor": self.noise_floor,
            "--runner": self.runner,
            "--rounds": self.rounds,
            "--processes": self.processes,
        }
        return frozenset(option for option, value in options.items() if value)
