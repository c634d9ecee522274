"""Steps of preprocessing that are done to sound and to text: what each may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.ranges import Range, check_path, range_faults

RATE = Range(100, 1_000_000, unit="Hz")
# 2^26 samples are 70 minutes at 16 kHz, 256 MB.
LENGTH = Range(1, 2**26)
FEATURES_LIBRARIES = ("transformers", "scipy")


@dataclass(frozen=True, slots=True)
class Resample:
    """Another sample rate, by soxr at its high quality (as librosa's default).

    Attributes:
        rate_hz: That the model takes.
        type: Of the step.
        from_hz: Of the samples, where the source does not say it; 0: it does.
    """

    rate_hz: int
    type: Literal["resample"] = "resample"
    from_hz: int = 0

    KIND: ClassVar[str] = "sound"
    RANGES: ClassVar[Mapping[str, Range]] = {"rate_hz": RATE, "from_hz": Range(0, 1_000_000, unit="Hz")}
    libraries: ClassVar[tuple[str, ...]] = ("soxr",)

    def __post_init__(self) -> None:
        _check(range_faults(self))


@dataclass(frozen=True, slots=True)
class Pcm:
    """16-bit PCM, as apps record sound: rounded half to even, what is too loud clipped. No step of a recipe's own: it
    is what a file takes that does the rest itself.

    Attributes:
        full_scale: What a sample of 1.0 becomes; one that loud is clipped by one.
        type: Of the step.
    """

    full_scale: int = 32_768
    type: Literal["pcm"] = "pcm"

    KIND: ClassVar[str] = "sound"


@dataclass(frozen=True, slots=True)
class Mono:
    """The mean of the channels.

    Attributes:
        type: Of the step.
    """

    type: Literal["mono"] = "mono"

    KIND: ClassVar[str] = "sound"


@dataclass(frozen=True, slots=True)
class PadOrTrim:
    """A length in time: what is longer is cut, what is shorter gets `value`.

    Attributes:
        length: In samples; after log_mel or mfcc in frames.
        type: Of the step.
        keep: What is kept of a longer one, and where a shorter one lies: at the start, or in the middle.
        value: In the units that values have then.
    """

    length: int
    type: Literal["pad_or_trim"] = "pad_or_trim"
    keep: Literal["start", "center"] = "start"
    value: float = 0.0

    KIND: ClassVar[str] = "sound"
    RANGES: ClassVar[Mapping[str, Range]] = {"length": LENGTH, "value": Range(-1e6, 1e6)}

    def __post_init__(self) -> None:
        _check(range_faults(self))


@dataclass(frozen=True, slots=True)
class LogMel:
    """The logarithm of the energies in mel bands, frame by frame: values (frames, bands).

    Attributes:
        rate_hz: Of the samples; others are refused.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: From frame to frame, in samples.
        n_mels: How many bands.
        type: Of the step.
        window_length: Of a frame, in samples; 0: n_fft.
        f_min: The lowest band's lower edge, in Hz.
        f_max: The highest band's upper edge, in Hz; 0: half of the rate.
        like: Whose window, mel scale, edges and logarithm (docs/preprocessing.md has each one's).
        log: The natural logarithm, that to 10, or decibels (10 log10); None: that of `like`.
        floor: The least energy before the logarithm; None: that of `like`.
        floor_way: Whether smaller ones become the floor, or it is added to all; None: as `like` does.
    """

    rate_hz: int
    n_fft: int
    hop_length: int
    n_mels: int
    type: Literal["log_mel"] = "log_mel"
    window_length: int = 0
    f_min: float = 0.0
    f_max: float = 0.0
    like: Literal["torchaudio", "librosa", "whisper", "kaldi"] = "torchaudio"
    log: Literal["ln", "log10", "db"] | None = None
    floor: float | None = None
    floor_way: Literal["max", "add"] | None = None

    KIND: ClassVar[str] = "sound"
    RANGES: ClassVar[Mapping[str, Range]] = {
        "rate_hz": RATE,
        "n_fft": Range(16, 65_536, unit="samples"),
        "hop_length": Range(1, 65_536, unit="samples"),
        "n_mels": Range(1, 1024),
        "window_length": Range(0, 65_536, unit="samples"),
        "f_min": Range(0, 500_000, unit="Hz"),
        "f_max": Range(0, 500_000, unit="Hz"),
        "floor": Range(0, 1, open_low=True),
    }
    libraries: ClassVar[tuple[str, ...]] = FEATURES_LIBRARIES

    def __post_init__(self) -> None:
        _check(self._faults())

    def _faults(self) -> list[str]:
        faults = range_faults(self)
        if self.window_length > self.n_fft:
            faults.append(f"window_length must be at most n_fft ({self.n_fft}), found {self.window_length}")
        if self.highest_hz > self.rate_hz / 2:
            faults.append(f"f_max must be at most half of rate_hz ({self.rate_hz / 2:g}), found {self.f_max:g}")
        if self.f_min >= self.highest_hz:
            faults.append(f"f_min must be less than f_max ({self.highest_hz:g}), found {self.f_min:g}")
        fixed = [name for name in ("log", "floor", "floor_way") if getattr(self, name) is not None]
        if self.like == "whisper" and fixed:
            faults.append(f"like whisper has a logarithm of its own: leave out {', '.join(fixed)}")
        return faults

    @property
    def highest_hz(self) -> float:
        return self.f_max or self.rate_hz / 2

    @property
    def frame_length(self) -> int:
        """Of a frame, in samples."""
        return self.window_length or self.n_fft


@dataclass(frozen=True, slots=True)
class Mfcc(LogMel):
    """Cepstral coefficients: the orthonormal DCT-II of `log_mel`'s bands, values (frames, n_mfcc).

    Attributes:
        type: Of the step.
        n_mfcc: How many coefficients, from the zeroth; at most n_mels.
        lifter: Coefficient k is weighted by 1 + lifter / 2 · sin(π k / lifter) (Kaldi: 22); 0: not.
    """

    type: Literal["mfcc"] = "mfcc"  # type: ignore[assignment]
    n_mfcc: int = 13
    lifter: float = 0.0

    RANGES: ClassVar[Mapping[str, Range]] = {
        **LogMel.RANGES,
        "n_mfcc": Range(1, 1024),
        "lifter": Range(0, 1000),
    }

    def __post_init__(self) -> None:
        faults = LogMel._faults(self)  # not super(): slots make another class of this one
        if self.n_mfcc > self.n_mels:
            faults.append(f"n_mfcc must be at most n_mels ({self.n_mels}), found {self.n_mfcc}")
        _check(faults)


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text → token ids and what goes with them, each an input of the model.

    Attributes:
        file: A tokenizer.json (of the library `tokenizers`; transformers' save_pretrained writes one).
        max_length: So many tokens, special ones counted: what is longer is cut, what is shorter is padded.
        type: Of the step.
        gives: In the model's order: ids, mask (1 for a token, 0 for padding), type_ids.
        special_tokens: Whether the tokenizer's own are added ([CLS], [SEP] …).
        pad_token: What is padded with; empty: as the file says.
        pad_side: Where; None: as the file says, else right.
        dtype: Of the inputs.
    """

    file: str
    max_length: int
    type: Literal["tokenize"] = "tokenize"
    gives: tuple[Literal["ids", "mask", "type_ids"], ...] = ("ids", "mask")
    special_tokens: bool = True
    pad_token: str = ""
    pad_side: Literal["right", "left"] | None = None
    dtype: Literal["int64", "int32"] = "int64"

    KIND: ClassVar[str] = "text"
    RANGES: ClassVar[Mapping[str, Range]] = {"max_length": Range(1, 1_000_000)}
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)

    def __post_init__(self) -> None:
        faults = range_faults(self)
        if not self.gives or len(set(self.gives)) != len(self.gives):
            faults.append(f"gives must name what the model takes, each once, found {list(self.gives)}")
        if not self.file:
            faults.append("file must name a tokenizer.json")
        _check(faults)
        check_path(self.file, "file")


def _check(faults: list[str]) -> None:
    if faults:
        raise WrongTable(*map(Fault, faults))
