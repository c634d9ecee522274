"""One target: its files, what `verify` found, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pocketforge.outcomes.elsewhere import Elsewhere
from pocketforge.outcomes.mixed import MixedChoice
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.quantize import CalibratedRange, CodebookChoice, Repairs
from pocketforge.outcomes.verify import AtSize, Measured
from pocketforge.outcomes.verify import FileCheck as Check
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.records.devices import OnEmulator, OnPhone
from pocketforge.records.words import Count, FileBytes, May, Name, Sha256, Share, Words
from pocketforge.registries import RUNTIMES

RuntimeName = Annotated[str, May(names=tuple(RUNTIMES.ours))]
# Of a file made elsewhere that could not be read.
UNKNOWN_SCHEME = "unknown"
SchemeName = Annotated[str, May(names=(*SCHEMES.ours, UNKNOWN_SCHEME))]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that an app ships.

    Attributes:
        key: Of the step that made it.
        kind: Its role: "model" is what the runtime loads; further files have the runtime's own words for them.
        path: Its name in release/.
        sha256: Of its bytes.
        size_bytes: Of the file.
        gzip_bytes: Of the file, packed by gzip -9.
    """

    key: Sha256
    kind: Name
    path: Name
    sha256: Sha256
    size_bytes: FileBytes
    gzip_bytes: FileBytes


@dataclass(frozen=True, slots=True)
class Delegation:
    """How much of an ExecuTorch file its accelerated backend took.

    Attributes:
        subgraphs: Handed to the backend.
        delegated_ops: Operators in them.
        other_ops: Operators that are left to portable kernels.
        delegated_share: Of all operators.
        left: Operator that is left → how often.
    """

    subgraphs: Count
    delegated_ops: Count
    other_ops: Count
    delegated_share: Share
    left: Mapping[str, Count]


@dataclass(frozen=True, slots=True)
class MobileUsability:
    """What ONNX Runtime's own checker says of an .onnx file.

    Attributes:
        accelerators_may_help: Whether NNAPI or CoreML would take enough of it.
        details: In its words.
    """

    accelerators_may_help: bool
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgedOn:
    """On which kernels a file's outputs were judged.

    Attributes:
        device: The device's name; "host" for this machine.
        kernels: The instruction sets that they use, in words.
        how: "this machine", "emulated" or "phone"; a plug-in's device has words of its own.
    """

    device: Name
    kernels: Name
    how: Name


@dataclass(frozen=True, slots=True)
class WhyWrong:
    """Of a file that is wrong: where its numbers break.

    Attributes:
        sentence: The first stage and layer that break, in words.
        path: Of the whole story, in the build's output folder; empty where there is none.
    """

    sentence: Name
    path: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibration saw of a model's activations.

    Attributes:
        ranges: Of each tensor, in the graph's order, `MOST_RANGES` at most.
        left_out: How many more there are.
    """

    MOST_RANGES: ClassVar[int] = 300

    ranges: tuple[CalibratedRange, ...]
    left_out: Count = 0


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is known of a target's files. What does not apply, or was not reached, is absent.

    Attributes:
        numerics: What the file's numbers are, in words.
        quantized_layers: How many layers compute in fewer bits.
        float_layers: Those that stayed float.
        elsewhere: Of a file made elsewhere: which it is, and what it was held against (docs/files.md).
        package: What the file does of the app's side (docs/packaging.md).
        mixed: How the layers of scheme `mixed` were chosen (docs/quantization.md).
        codebook: Sizes of a codebook, and what each weight lost.
        repairs: What each repair changed.
        calibration: The ranges that calibration saw, of a static scheme.
        opset: Of an .onnx file.
        onnx_weights: "int8" of an .onnx file for ARM alone; absent of others.
        mobile_usability: Of an .onnx file.
        delegation: Of a .pte file.
        runtimes: Each runtime that the file was tried in, by name and version → how that ended.
        files: Role of a file → what its outputs are worth; `legacy` is the model file in the older TFLite runtime,
            `mediapipe_resize` the model file fed pictures that MediaPipe resized; `litert_js`, `onnxruntime_web` and
            `onnxruntime_web_ort` are files in a browser.
        sizes: Each file at each size of its inputs that it was tried at, where they vary.
        kernels: On which instruction sets' kernels the file was judged: this machine's first, then each device's.
        emulated: Emulated device → what is known there.
        phones: Phone → what is known there.
        why: Where the numbers of a wrong file break.
        more: What exporters and kinds of devices from plug-ins say, by their own names.
    """

    OMIT_UNSET: ClassVar[bool] = True
    FLAT: ClassVar[str] = "more"

    numerics: Name | None = None
    quantized_layers: Count | None = None
    float_layers: tuple[str, ...] | None = None
    elsewhere: Elsewhere | None = None
    package: Packed | None = None
    mixed: MixedChoice | None = None
    codebook: CodebookChoice | None = None
    repairs: Repairs | None = None
    calibration: Calibration | None = None
    opset: Annotated[int, May(least=18)] | None = None
    onnx_weights: Literal["int8"] | None = None
    mobile_usability: MobileUsability | None = None
    delegation: Delegation | None = None
    runtimes: Mapping[str, Name] = field(default_factory=dict)
    files: Mapping[str, Measured] = field(default_factory=dict)
    sizes: tuple[AtSize, ...] = ()
    kernels: tuple[JudgedOn, ...] = ()
    emulated: Mapping[str, OnEmulator] = field(default_factory=dict)
    phones: Mapping[str, OnPhone] = field(default_factory=dict)
    why: WhyWrong | None = None
    more: Words = field(default_factory=dict)

    def of_kind(self, about: str) -> Mapping[str, Mapping[str, object]]:
        """Device → what a plug-in's kind of device says, by the name that it says it under (`DeviceInfo.about`)."""
        devices = self.more.get(about)
        if not isinstance(devices, Mapping):
            return {}
        return {str(device): known for device, known in devices.items() if isinstance(known, Mapping)}


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """One target of the recipe.

    Attributes:
        name: As the recipe names it.
        runtime: Which loads its file.
        scheme: How it was quantized; of a file made elsewhere what it holds, "unknown" of one that could not be read.
        status: "wrong": a check did not pass. "failed": a step did not end.
        artifacts: Its files, the model first.
        checks: Every comparison that was made.
        warnings: What a user should know, in words.
        facts: What else is known of it.
        error: Why it failed, by the step that met it, also where all targets hang on that; empty when it did not.
        hint: What to try; empty where nothing is known.
    """

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"artifacts", "checks", "warnings"})

    name: Name
    runtime: RuntimeName
    scheme: SchemeName
    status: Literal["built", "wrong", "failed"]
    artifacts: tuple[Artifact, ...] = ()
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: TargetFacts = TargetFacts()
    error: str = ""
    hint: str = ""
