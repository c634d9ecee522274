"""Pins: what our package requires is read from one place, and installed versions are placed against it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from pocketforge import version
from pocketforge.facts import pins

# Of PEP 440, "Summary of permitted suffixes and relative ordering", and of wheels as they are built.
STANDINGS = [
    ("1.5.1", "==1.5.1", ""), ("1.5.1+cpu", "==1.5.1", ""), ("1.5.1.0", "==1.5.1", ""), ("2.13", "==2.13.0", ""),
    ("1.5.0", "==1.5.1", "older"), ("1.10.0", "==1.9.9", "newer"), ("1.5.1rc1", "==1.5.1", "older"),
    ("1.5.1.dev20261101+cpu", "==1.5.1", "older"), ("1.5.1a0+git12", "==1.5.1", "older"),
    ("1.5.1.post1", "==1.5.1", "newer"),
    ("1.15", "<2,>=1.15", ""), ("1.14.9", "<2,>=1.15", "older"), ("2.0", "<2,>=1.15", "newer"), ("3", "<=3", ""),
    ("3.1", "<=3", "newer"), ("3", ">3", "older"), ("4", "", ""), ("unknown", "==1", "another"),
]  # fmt: skip


@pytest.mark.parametrize(("installed", "wanted", "found"), STANDINGS)
def test_where_a_version_stands(installed: str, wanted: str, found: str) -> None:
    assert pins.standing(installed, wanted) == found


def test_requirements_as_files_and_metadata_write_them() -> None:
    lines = [
        "executorch==1.5.1; extra == 'executorch'", "ruamel.yaml[oldlibyaml]; extra == 'all'", "accelerate>=1.15,<2",
        "Torch_Pruning (==1.6.1)", "pocketforge[onnx,tflite]; extra == 'all'",
    ]  # fmt: skip
    assert pins.parse(lines) == {
        "executorch": "==1.5.1", "ruamel-yaml": "", "accelerate": "<2,>=1.15", "torch-pruning": "==1.6.1",
    }  # fmt: skip
    with pytest.raises(ValueError, match="another form than"):
        pins.standing("1.0", "~=1.0")


def test_ours_are_pinned_and_each_is_one_that_can_be_placed() -> None:
    wanted = pins.required()
    assert {
        "torch",
        "executorch",
        "torchao",
        "litert-torch",
        "ai-edge-litert",
        "onnx",
        "onnxscript",
        "onnxruntime",
    } <= {name for name, text in wanted.items() if text.startswith("==")}
    assert "pocketforge" not in wanted
    for text in wanted.values():
        assert pins.standing("0", text) in ("older", "")


def test_an_installed_package_has_them_in_its_metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a checkout around it, and where it is not installed at all."""
    monkeypatch.setattr(version, "__file__", str(tmp_path / "site-packages" / "pocketforge" / "version.py"))
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'another'\ndependencies = ['executorch==9']\n")
    info = tmp_path / "pocketforge-0.1.0.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.4",
        "Name: pocketforge",
        "Version: 0.1.0",
        "Requires-Dist: torch==9.0",
        "Requires-Dist: soxr>=7; extra == 'audio'",
        "Requires-Dist: soundfile; extra == 'audio'",
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert pins.required() == {"torch": "==9.0", "soxr": ">=7", "soundfile": ""}
    assert version.install("audio") == "pip install 'soxr>=7' soundfile"

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert pins.required() == {}
    assert version.install("audio") == "install Pocketforge again with its extra 'audio', from where it came from"


def test_whoever_lacks_packages_is_told_these(tmp_path: Path) -> None:
    """Pocketforge is on no index, where `pip install 'pocketforge[audio]'` would find another's package."""
    ours = Path(version.__file__).parent
    assert not [path for path in ours.rglob("*.py") if "pip install 'pocketforge" in path.read_text(encoding="utf-8")]
    for extra in version.requirements().keys() - {"", "all"}:
        assert version.install(extra).startswith("pip install ")
    asked = {
        name
        for path in ours.rglob("*.py")
        for name in re.findall(r"""\binstall\(["'](\w+)["']\)""", path.read_text("utf-8"))
    }
    assert len(asked) > 5 and asked <= version.requirements().keys()
