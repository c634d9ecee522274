"""What a weights file holds: safetensors or a PyTorch checkpoint, told by its content and not by its name.

No pickle runs: torch reads with weights_only, and a class that it does not know becomes an `Unread`.
"""

from __future__ import annotations

import pickle
import re
import stat
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pocketforge.errors import ModelError
from pocketforge.model.zip_kinds import holds_torchscript

SAVE_SNIPPET = """save plain weights, where you trained the model:
    from safetensors.torch import save_file
    state = model.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, "weights.safetensors")"""
_AGAIN = "fetch or save it again, and compare its size and SHA-256 with where it came from"

# How a file begins that is neither, what it is, and what to do.
_OTHERS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the weights themselves", "git lfs pull"),
    (0, b"\x89HDF", "an HDF5 file (Keras)", "load it where it was made, and save PyTorch weights"),
    (0, b"GGUF", "a GGUF file", "take the PyTorch weights that it was made from"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip"),
    (0, b"BZh", "compressed with bzip2", "unpack it: bunzip2"),
    (0, b"\xfd7zXZ", "compressed with xz", "unpack it: unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: unzstd"),
    (0, b"\x93NUMPY", "one NumPy array", "name the tensors: a state dict in safetensors"),
    (257, b"ustar", "a tar archive", "unpack it, and name the weights file inside"),
    (4, b"TFL3", "a TFLite model", "take the PyTorch weights that it was made from"),
    (4, b"ORTM", "an ONNX Runtime model", "take the PyTorch weights that it was made from"),
    (4, b"ET12", "an ExecuTorch program", "take the PyTorch weights that it was made from"),
)
# A pickle that names one of these wants to do something, not to hold something.
_ACTING_MODULES = frozenset(
    """os posix nt sys subprocess shutil socket pty runpy importlib codeop ctypes multiprocessing signal pickle _pickle
    cloudpickle dill webbrowser urllib requests ftplib smtplib asyncio pip pkgutil zipimport bdb pdb timeit marshal
    """.split()  # noqa: SIM905 (readable)
)
_ACTING_BUILTINS = frozenset("eval exec compile getattr setattr delattr __import__ open input globals locals".split())  # noqa: SIM905
# More kinds of foreign objects than this in one file is no checkpoint.
_MOST_KINDS = 100
_LARGEST_GROWTH, _SMALL_BYTES = 10, 1 << 26


def plain(text: str, most: int = 80) -> str:
    """A name from a file as it can be printed: not too long, and without control characters."""
    shown = text[:most] + ("…" if len(text) > most else "")
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


class Unread:
    """Stands where a file holds an object that is not plain data: its class is not imported, nothing of it runs."""

    kind = "object"
    state: object = None

    def __new__(cls, *_: object, **__: object) -> Unread:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Takes what the object's own class would have been called with."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    @property
    def is_module(self) -> bool:
        """Whether it is a pickled nn.Module."""
        return isinstance(self.state, dict) and {"_parameters", "_modules"} <= self.state.keys()


@dataclass(frozen=True, slots=True)
class Content:
    """What a weights file holds.

    Attributes:
        tree: Dicts and lists of tensors and plain values, as in the file.
        unread: Kinds of the objects that were not made.
        metadata: The texts beside safetensors' tensors.
    """

    tree: object
    unread: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


def read_content(path: Path) -> Content:
    """Read the file. Raises ModelError, with its name: missing, damaged, something else, or a pickle that acts."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise ModelError(f"model.weights: {path} is {what}, not a file", "name the weights file itself")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise ModelError(
            f"model.weights: there is no file {path}", "paths are relative to the recipe's folder"
        ) from None
    except OSError as error:
        raise ModelError(f"model.weights: {path} cannot be read: {error.strerror}") from error
    size = path.stat().st_size
    _refuse_others(head, path)
    if head[:2] == b"PK":
        _check_zip(path, size)
        return _read_torch(path)
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and length <= size - 8:
        return _read_safetensors(path)
    if path.suffix == ".safetensors":
        if len(head) > 8 and head[8:9] == b"{":
            why = f"its header says {length:,} bytes, the whole file has {size:,}: it was cut short"
        else:
            why = f"it begins with {head[:8].hex(' ')}"
        raise ModelError(f"model.weights: {path} is not a whole safetensors file: {why}", _AGAIN)
    return _read_torch(path)


def _refuse_others(head: bytes, path: Path) -> None:
    other = next(((what, try_) for at, magic, what, try_ in _OTHERS if head[at:].startswith(magic)), None)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        other = ("empty", _AGAIN)
    elif re.match(rb"<(!doctype|html|head|\?xml|!--)", text, re.IGNORECASE):
        other = ("an HTML or XML page", "the download gave a page in place of the file: open its address in a browser")
    elif text.startswith(b"{") and b"weight_map" in head:
        other = ("an index of weights in several files", "load them where they were saved, and save one file")
    elif text.startswith((b"{", b"[")) and head[:1] not in b"\x80":
        other = ("a JSON text", "name the weights file itself")
    elif path.suffix == ".onnx" and head[:2] not in (b"PK", b"\x80\x02"):
        other = ("an ONNX model", "take the PyTorch weights that it was made from")
    elif not head.strip(b"\0"):
        other = ("nothing but zeros", _AGAIN)
    if other:
        raise ModelError(f"model.weights: {path} is {other[0]}; wanted safetensors or a PyTorch checkpoint", other[1])


def _check_zip(path: Path, size: int) -> None:
    """That a zip file is torch.save's, and no larger unpacked than it may be."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"model.weights: {path} is not a whole PyTorch checkpoint: {error}", _AGAIN) from error
    names = [record.filename for record in records]
    inside = {name.partition("/")[2] for name in names}
    if holds_torchscript(names):
        raise ModelError(
            f"model.weights: {path} is a TorchScript file: code and weights in one",
            f'take its weights: torch.save(torch.jit.load("{path.name}").state_dict(), "weights.pt"), if you trust it',
        )
    if "archive_format" in inside or any(name.endswith("exported_program.json") for name in names):
        raise ModelError(
            f"model.weights: {path} is a torch.export archive: a traced graph with its weights",
            f'name it as the definition: definition = "{path.with_suffix(".pt2").name}", without weights',
        )
    if "data.pkl" not in inside:
        some = ", ".join(plain(name) for name in names[:3]) + (f" … {len(names)} in all" if len(names) > 3 else "")
        what = "NumPy arrays (.npz)" if names and names[0].endswith(".npy") else "a zip archive of something else"
        raise ModelError(
            f"model.weights: {path} is {what}: {some or 'nothing'}; wanted safetensors or a PyTorch checkpoint",
            "name the weights file itself",
        )
    whole = sum(record.file_size for record in records)
    if whole > max(_LARGEST_GROWTH * size, _SMALL_BYTES):
        raise ModelError(f"model.weights: {path} has {size:,} bytes and would unpack to {whole:,}: no checkpoint does")
    _check_sums(path, records)


def _check_sums(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """That every record is what was written. Torch does not look, and may end the process on what is not."""
    record = None
    try:
        with zipfile.ZipFile(path) as archive:
            for record in records:
                # torch.serialization.set_crc32_options(False) writes 0.
                if record.CRC and not record.is_dir():
                    with archive.open(record) as content:
                        while content.read(1 << 20):
                            pass
    except Exception as error:  # a damaged zip fails anywhere in its reader
        name = record.filename if record is not None else "the archive"
        raise ModelError(
            f"model.weights: {path} is damaged: {plain(name)}: {plain(str(error), 200)}", _AGAIN
        ) from error


def _read_safetensors(path: Path) -> Content:
    from safetensors import safe_open

    name = ""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensors[name] = file.get_tensor(name)
    except Exception as error:  # its own errors, and torch's for a dtype that torch lacks
        if name:
            raise ModelError(f"model.weights: {path}: the tensor {plain(name)!r} cannot be read: {error}") from error
        raise ModelError(f"model.weights: {path} is not a whole safetensors file: {error}", _AGAIN) from error
    return Content(tensors, metadata=metadata)


def _read_torch(path: Path) -> Content:
    """Read a pickle of torch.save; again for each class that it names, until all of them have a stand-in."""
    stand_ins: dict[str, type[Unread]] = {}
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals([(s, n) for n, s in stand_ins.items()]):
                warnings.simplefilter("ignore")  # a newer pickle protocol is no news to the user
                tree = torch.load(path, map_location="cpu", weights_only=True)
                return Content(tree, tuple(stand_in.kind for stand_in in stand_ins.values()))
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            if named is None or len(stand_ins) >= _MOST_KINDS:
                raise _not_plain(path, error, stand_ins) from error
            kind = named[1] if "." in named[1] else f"builtins.{named[1]}"
            if _acts(kind) or kind in stand_ins:
                raise ModelError(
                    f"model.weights: {path} is a pickle that runs code when it is loaded, not plain weights (it names "
                    f"{plain(named[1])})",
                    SAVE_SNIPPET,
                ) from error
            stand_ins[kind] = type("Unread", (Unread,), {"kind": plain(kind)})
        except Exception as error:  # bytes that are no checkpoint fail anywhere in torch's reader
            if stand_ins:
                raise _not_plain(path, error, stand_ins) from error
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"model.weights: {path} is not a whole PyTorch checkpoint: {first}", SAVE_SNIPPET
            ) from error


def _acts(kind: str) -> bool:
    module, _, name = kind.rpartition(".")
    built_in = module in ("builtins", "__builtin__")
    return kind.partition(".")[0] in _ACTING_MODULES or (built_in and name in _ACTING_BUILTINS)


def _not_plain(path: Path, error: Exception, stand_ins: dict[str, type[Unread]]) -> ModelError:
    lines = str(error).strip().splitlines()
    first = next((line.strip() for line in lines if "Unsupported operand" in line), "")
    protocol = _protocol(path)
    if first and protocol > 2:
        why = f"its pickle is of protocol {protocol}, and torch reads weights of protocol 2"
    elif stand_ins:
        kinds = ", ".join(stand_in.kind for stand_in in list(stand_ins.values())[:4])
        return ModelError(
            f"model.weights: {path} holds objects that cannot be read without their program: {kinds}", SAVE_SNIPPET
        )
    else:
        why = re.sub(r"^.*WeightsUnpickler error: ", "", next((x for x in lines if "Unpickler error" in x), lines[0]))
    return ModelError(f"model.weights: {path} is not a whole PyTorch checkpoint of plain weights: {why}", SAVE_SNIPPET)


def _protocol(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(2)
    if head == b"PK":
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            with archive.open(name) as record:
                head = record.read(2)
    return head[1] if len(head) == 2 and head[0] == 0x80 else 0
