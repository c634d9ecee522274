"""What a plan is made of: steps, the lanes of targets, what the lanes start from, and the facts they depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pocketforge.recipe import Target
from pocketforge.specs.base import Spec
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as it is connected now, or why it is not.

    identity: what decides results on it (model, Android build, kernel), in words. about: of its facts, for reports.
    differs: what it has otherwise than the profile that it stands for. absent: why no phone is there; then nothing
    else is known.
    """

    serial: str = ""
    identity: str = "none"
    about: Mapping[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    absent: str = ""

    def to_json(self) -> dict[str, Any]:
        """For reports: what it is, and what it has otherwise."""
        return {**self.about, "differs": list(self.differs)}


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """The files that a step reads under one role, as they were when their content went into its key.

    marks: for each of `paths` a number that no change of the file leaves as it is (run/fingerprints.py). folders:
    those whose listing decides which files they are, with marks of their own. racy: something changed so shortly
    before that a later change might have the same mark. list_again: gives the paths as they are now, and what their
    places say besides.
    """

    digest: str
    list_again: Callable[[], tuple[Iterable[Path], str]]
    paths: tuple[Path, ...] = ()
    marks: tuple[int, ...] = ()
    folders: tuple[Path, ...] = ()
    folder_marks: tuple[int, ...] = ()
    tree: Path | None = None
    racy: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan depends on outside the recipe (`facts.gather` looks it up).

    digests: role → SHA-256 of the content of the files a step reads. versions: distribution → version. host: the
    processor that benchmarks run on. tflite_runtime: the older runtime's environment, or `none`. emulator: what
    emulated devices run in, or `none`. profiles: those that the recipe's devices name → their files. phones: device →
    the connected phone that it is. kernels: those of this machine (devices/kernels.py), on which `verify` runs. x86:
    profiles of x86 hosts → what plays them, or `none`. data_notes: what the data's folders were taken as, and which
    files were passed over; in no key. files: role → the files that `digests` is of.
    devices: device → what runs there, in words that change when its results would, where its kind has no field above.
    """

    digests: Mapping[str, str]
    versions: Mapping[str, str]
    host: str
    tflite_runtime: str
    emulator: str = "none"
    profiles: Mapping[str, Path] = field(default_factory=dict)
    phones: Mapping[str, Phone] = field(default_factory=dict)
    kernels: str = "unknown"
    x86: Mapping[str, str] = field(default_factory=dict)
    data_notes: tuple[str, ...] = ()
    files: Mapping[str, ReadFiles] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)


def spec_json(spec: Spec | Mapping[str, Any]) -> dict[str, Any]:
    """A step's spec as its key and its record have it."""
    if isinstance(spec, Spec):
        return spec.to_json()
    return {name: dataclasses.asdict(each) if _is_table(each) else each for name, each in spec.items()}


def _is_table(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one stage.

    lane: `trunk`, or the targets it serves joined by "+". needs: role → key of the step whose folder it reads.
    paths: role → the user's own path (where it is does not matter, its content is in the key). after: keys of
    steps to wait for whose results it does not read; one of them must have passed. exclusive: nothing else may run
    beside it (a benchmark). place: what only one step at a time can use (a phone). files: role → the user's files
    whose content is in the key. roots: the user's folders (recipe.folders), from which files that his code opens are
    named.
    """

    stage: str
    lane: str
    spec: Any  # of specs/; a mapping where a stage has none yet
    needs: Mapping[str, str]
    key: str
    paths: Mapping[str, Path] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    exclusive: bool = False
    preload: tuple[str, ...] = ()
    place: str = ""
    files: Mapping[str, ReadFiles] = field(default_factory=dict)
    roots: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}[{self.lane}]"


@dataclass(frozen=True, slots=True)
class Lane:
    """The keys of one target's steps.

    Attributes:
        target: The target that they build.
        quantize: Key of the step that quantizes; empty for a float target.
        export: Key of the step that writes the file.
        verify: Key of the step that runs the file here and compares it with the model.
        on: Name of a [[device]] → its steps.
    """

    target: Target
    quantize: str
    export: str
    verify: str
    on: Mapping[str, OnDevice]

    def of_kind(self, via: str) -> dict[str, OnDevice]:
        """Device → its steps, of the devices of one kind."""
        return {name: steps for name, steps in self.on.items() if steps.via == via}


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order that can be run from first to last, the trunk's keys and each target's lane.

    changes: the steps that compress the model, in order. gains: the step that measures them; empty without any.
    """

    steps: tuple[Step, ...]
    data: str
    reference: str
    lanes: tuple[Lane, ...]
    changes: tuple[Change, ...] = ()
    gains: str = ""

    def step(self, key: str) -> Step:
        return next(s for s in self.steps if s.key == key)


TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the trunk that changed the model: its key, where in the recipe it comes from, what it is called."""

    key: str
    entry: int
    label: str


@dataclass(frozen=True, slots=True)
class OnDevice:
    """The keys of one target's steps on one device. A kind with further steps has a class of its own.

    Attributes:
        via: The kind of device, a name of DEVICES.
        verify: Key of the step that compares the file's outputs there with those here; empty where none does.
    """

    via: str
    verify: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that there are, in the order in which the steps run."""
        named = [getattr(self, field.name) for field in fields(self) if field.name != "via"]
        return tuple(key for key in named if key)


@dataclass(frozen=True, slots=True)
class Timed(OnDevice):
    """On a device that keeps time: this host, or a phone.

    Attributes:
        bench: Key of the step that times the file.
    """

    bench: str


@dataclass(frozen=True, slots=True)
class Emulated(OnDevice):
    """On an emulated device. An x86 host that is played has no further steps: its class is `OnDevice`.

    Attributes:
        count: Key of the step that counts instructions.
        estimate: Key of the step that estimates cycles and time from them.
    """

    count: str
    estimate: str


@dataclass(frozen=True, slots=True)
class Source:
    """What lanes start from.

    Attributes:
        model: Where the model comes from.
        paths: Role → the user's own path: of its weights, and what relative paths are of.
        also: The distribution that it comes from, if it is a library's.
        data: Key of the step that reads the data.
        reference: Key of the step that traces the model.
        checkpoint: Key of the last step that compresses the model; empty where none does.
    """

    model: ModelSource
    paths: Mapping[str, Path]
    also: tuple[str, ...]
    data: str
    reference: str
    checkpoint: str
