"""What a plan is made of: steps, the lanes of targets, what the lanes start from, and the facts they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pocketforge.recipe import Target
from pocketforge.specs.base import Spec
from pocketforge.specs.trained import ModelSource

Told = TypeVar("Told", bound=Spec)


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone as it is connected now, or why it is not.

    Attributes:
        serial: As adb lists it; empty where no phone is there.
        identity: What decides results on it (model, Android build, kernel), in words.
        about: Of its facts, for reports.
        differs: What it has otherwise than the profile that it stands for, in words.
        absent: Why no phone is there, in words; then nothing else is known. Empty for one that is.
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

    Attributes:
        digest: SHA-256 of their content, of their names from each other, and of what else their places say.
        list_again: Gives the paths as they are now, and what their places say besides.
        paths: The files, sorted.
        marks: For each path a number that no change of the file leaves as it is (run/fingerprints.py).
        folders: Those whose listing decides which files they are.
        folder_marks: For each folder a number of that kind.
        tree: The folder that all those are in; None where the files are named one by one.
        racy: Whether something changed so shortly before that a later change might have the same mark.
        hashes: For each path its content's SHA-256; empty where there are more files than anybody reads about.
    """

    digest: str
    list_again: Callable[[], tuple[Iterable[Path], str]]
    paths: tuple[Path, ...] = ()
    marks: tuple[int, ...] = ()
    folders: tuple[Path, ...] = ()
    folder_marks: tuple[int, ...] = ()
    tree: Path | None = None
    racy: bool = False
    hashes: tuple[str, ...] = ()


# In Facts.versions, of a library that is installed and does not say its version: no key can tell it from another.
UNKNOWN_VERSION = "unknown"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan depends on outside the recipe (`facts.gather` looks it up).

    Attributes:
        digests: Role → SHA-256 of the content of the files that a step reads.
        versions: Distribution → version, `none` where it is not installed, `unknown` where it does not say; of a
            package that brings a row that the recipe uses, also a digest of its files.
        host: The processor that benchmarks run on, in words.
        tflite_runtime: The older runtime's environment, or `none`.
        emulator: What emulated devices run in, or `none`.
        profiles: Profile that the recipe's devices name → its file.
        phones: Device → the connected phone that it is.
        kernels: Those of this machine (devices/kernels.py), on which `verify` runs.
        x86: Profile of an x86 host → what plays it, or `none`.
        data_notes: What the data's folders were taken as, and which files were passed over; in no key.
        files: Role → the files that `digests` is of.
        devices: Device → what runs there, in words that change when its results would, where its kind has no field
            above.
        consumers: What reads files in apps, of those that the recipe names → its environment, or `none`.
        gpus: Those that the recipe trains on, each in words; none: the CPU.
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
    consumers: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one stage.

    Attributes:
        stage: Name in STAGES.
        lane: `trunk`, or the targets it serves joined by "+".
        spec: What the stage is told (specs/).
        needs: Role → key of the step whose folder it reads.
        key: SHA-256 of all that its result depends on (builder.py).
        paths: Role → the user's own path. Where it is does not matter, its content is in the key.
        after: Keys of steps to wait for whose results it does not read; one of them must have passed.
        exclusive: Whether nothing else may run beside it (a benchmark).
        preload: Modules that the fork server imports before it starts.
        place: What only one step at a time can use (a phone); empty for none.
        files: Role → the user's files whose content is in the key.
        roots: The user's folders (builder.user_folders), from which files that his code opens are named.
    """

    stage: str
    lane: str
    spec: Spec
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
        export: Key of the step that writes the file, or takes in one that was made elsewhere.
        verify: Key of the step that runs the file here and compares it with the model.
        on: Name of a [[device]] → its steps.
        data: Key of the step that reads the samples for it: a bucket has its own, and a file that takes raw ones.
        reference: Key of the step that traces the model for it, or packed that: a bucket has its own. Empty of a file
            made elsewhere that is held against no other answers.
        prepared: Of a file that does something of the app's side: key of the step that reads the samples as the model
            itself takes them; else empty.
        traced: Of such a file: key of the step that traces the model as it is; else empty.
    """

    target: Target
    quantize: str
    export: str
    verify: str
    on: Mapping[str, OnDevice]
    data: str
    reference: str
    prepared: str = ""
    traced: str = ""

    def of_kind(self, via: str) -> dict[str, OnDevice]:
        """Device → its steps, of the devices of one kind."""
        return {name: steps for name, steps in self.on.items() if steps.via == via}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build does.

    Attributes:
        steps: In an order that can be run from first to last.
        data: Key of the step that reads the samples.
        reference: Key of the step that traces the model, or asks the model file that is the reference; empty for none.
        lanes: One for each target.
        changes: The steps that compress the model, in order.
        gains: Key of the step that measures them; empty without any.
    """

    steps: tuple[Step, ...]
    data: str
    reference: str
    lanes: tuple[Lane, ...]
    changes: tuple[Change, ...] = ()
    gains: str = ""

    def step(self, key: str) -> Step:
        return next(s for s in self.steps if s.key == key)

    def spec(self, key: str, kind: type[Told]) -> Told:
        """What a step is told. Raises TypeError for a step of another stage."""
        step = self.step(key)
        if not isinstance(step.spec, kind):
            raise TypeError(f"{step.name} is told a {type(step.spec).__name__}, not a {kind.__name__}")
        return step.spec


TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the trunk that changed the model.

    Attributes:
        key: Of the step.
        entry: Index of the [[compress]] entry that it comes from.
        label: What it is called in reports.
    """

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
class LaneSource:
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
