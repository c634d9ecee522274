"""What a package's data source gives is held to what `Source` says, and whatever it raises names the package."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_site import Site, site

from pocketforge.data.dataset import open_recipe
from pocketforge.data.files import look_at
from pocketforge.errors import ModelError, PluginFailed
from pocketforge.recipe.toml import parse_recipe

__all__ = ["site"]
RECIPE = """\
name = "x"
data = { source = "mine", eval_samples = 10, calibration_samples = 10 }
target = [{ name = "a", runtime = "onnx" }]
model = { definition = "m.py" }
"""
SOURCE = """\
import numpy as np
from pocketforge.data.base import PlainSource, SourceFiles
from pocketforge.registries import SourceInfo
ROW = SourceInfo("MODULE")
def files(place):
    return SourceFiles(())
class Right(PlainSource):
    labels = ()
    value_max = 0.0
    ids = [str(number) for number in range(40)]
    split = [None] * 40
    def __len__(self):
        return 40
    def sample(self, index):
        return (np.full((4,), index, np.float32),), index % 10
    def digest(self, index):
        return str(index)
class Wrong(Right):
    CHANGE
def open_place(place):
    return GIVEN
"""
WHOSE = r"^plug-in pf-mine 1\.2: pocketforge\.sources 'mine'"


def install(site: Site, change: str = "pass", given: str = "Wrong()") -> None:
    site.install("pf-mine", SOURCE.replace("CHANGE", change).replace("GIVEN", given), "sources")


def read_all() -> list[object]:
    """All that a build asks of a source."""
    dataset = open_recipe(parse_recipe(RECIPE))
    read = [sample for part in (dataset.calibration, dataset.eval) for sample in part]
    return [*read, dataset.source.notes(), dataset.about, dataset.source.slices(0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("split = ['test'] * 20 + ['train'] * 20", "split: wanted 'train', 'eval' or None, found 'test'"),
        ("split = [None] * 3", "split: wanted one for each of 40 samples, found 3"),
        ("ids = list(range(40))", "ids: wanted texts, found 0"),
        ("ids = ['a']", "ids: wanted one for each of 40 samples, found 1"),
        ("ids = 3", r"\(open_place\) failed: TypeError"),
        ("__len__ = None", r"what open_place gives must have __len__\(\), found a Wrong"),
        ("labels = 'abc'", "labels: wanted a tuple of texts, found"),
        ("labels = (1, 2)", "labels: wanted a tuple of texts, found"),
        ("value_max = '255'", "value_max: wanted a number, found '255'"),
        ("sample_rate = None", "sample_rate: wanted a whole number, found None"),
        ("reading = ['resize']", "reading: wanted steps as the sidecar has them"),
        ("sample = lambda self, i: 1 / 0", r"\(sample '\d+'\) failed: ZeroDivisionError"),
        ("def sample(self, i): raise SystemExit(0)", r"\(sample '\d+'\) failed: SystemExit: 0"),
        ("sample = lambda self, i: 3", r"sample '\d+': wanted \(inputs, target\), found a int"),
        ("sample = lambda self, i: (np.ones(4), 1)", "wanted a tuple of arrays as its inputs, found a ndarray"),
        ("sample = lambda self, i: ((), 1)", "wanted a tuple of arrays as its inputs, found none"),
        ("sample = lambda self, i: (([1.0],), 1)", "wanted a tuple of arrays as its inputs, found a list"),
        ("sample = lambda self, i: ((np.array([None]),), 1)", "found a ndarray of object"),
        ("digest = lambda self, i: None", r"digest of sample '\d+': wanted a text, found None"),
        ("sketch = lambda self, i: b'1'", r"sketch of sample '\d+': wanted 8 bytes, found b'1'"),
        ("notes = lambda self: 'abc'", "notes: wanted a list of texts, found 'abc'"),
        ("slices = lambda self, i: {'device': 3}", "slices of sample '0': wanted texts by name"),
    ],
)
def test_what_is_not_as_a_source_says_names_its_package(site: Site, change: str, said: str) -> None:
    """A split `test` was trained on, one array of four values was four inputs."""
    install(site, change)
    with pytest.raises(PluginFailed, match=f"{WHOSE}.*{said}"):
        read_all()


@pytest.mark.parametrize("given", ["None", "object()", "PlainSource()", "Right"])
def test_what_is_no_source_names_its_package(site: Site, given: str) -> None:
    install(site, given=given)
    with pytest.raises(PluginFailed, match=WHOSE):
        read_all()


@pytest.mark.parametrize(
    "change",
    [
        "pass",
        "labels = [str(number) for number in range(10)]",
        "value_max = np.float32(255)",
        "split = ['eval'] * 20 + ['train'] * 20",
        "sample = lambda self, i: ([np.full((4,), i, np.float32)], i % 10)",
    ],
)
def test_what_is_as_a_source_says_is_taken(site: Site, change: str) -> None:
    install(site, change)
    assert len(read_all()) > 10 + 3


def test_errors_that_a_source_raises_on_purpose_are_its_own(site: Site, tmp_path: Path) -> None:
    install(
        site,
        "def sample(self, i):\n        from pocketforge.errors import ModelError\n        raise ModelError('torn')",
    )
    with pytest.raises(ModelError, match=r"^torn"):
        read_all()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("SourceFiles(('x.txt',))", r"paths: wanted tuple\[.*Path, \.\.\.\], found \('x.txt',\)"),
        ("SourceFiles(None)", "paths: wanted tuple"),
        ("SourceFiles((), 'note')", "notes: wanted tuple"),
        ("SourceFiles((), (), None)", "layout: wanted str, found None"),
    ],
)
def test_the_files_it_reads_are_paths(site: Site, files: str, said: str) -> None:
    """Texts were an internal error, a note was one for each letter."""
    site.install("pf-mine", SOURCE.replace("SourceFiles(())", files).replace("CHANGE", "pass"), "sources")
    with pytest.raises(PluginFailed, match=rf"{WHOSE} \(pf_mine:files\) gives {said}"):
        look_at("mine", Path)
