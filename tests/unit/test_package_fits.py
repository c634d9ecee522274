"""Generated code that makes pictures fit: Python's against the data stage, and no part too many for a page."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import every_fit
import numpy as np
import PIL
import pytest
import releases

from pocketforge.data.preprocess import About, prepare
from pocketforge.data.preprocess_words import describe
from pocketforge.outcomes.data import Preprocessing
from pocketforge.package.generators import generate
from pocketforge.package.model import AppModel, read_model
from pocketforge.recipe.image_steps import Layout, Scale
from pocketforge.recipe.preprocess import InputSteps


def model_of(name: str, folder: Path) -> AppModel:
    steps, shape, _ = every_fit.FITTED[name]
    said = describe((InputSteps((*steps, Scale(by=255.0), Layout("NHWC"))),), About())
    assert isinstance(said, Preprocessing)
    taken = releases.INPUT | {"shape": [1, *shape], "layout": "NHWC"}
    made = releases.Net(name=name, steps=tuple(map(dict, said.steps)), inputs=(taken,))
    return read_model(releases.write(folder, made) / f"{name}.onnx")


@pytest.mark.parametrize("name", ["floats_picked", "gray_of_bgr", "bgr_again"])
def test_python_fits_pictures_as_the_data_stage_does(name: str, tmp_path: Path) -> None:
    code: dict[str, Any] = {"__file__": f"{name}.py", "__name__": name}
    exec(compile(generate("python", model_of(name, tmp_path), None)[f"{name}.py"], f"{name}.py", "exec"), code)
    for picture in every_fit.pictures():
        wanted = prepare((InputSteps(every_fit.FITTED[name][0]),), (picture,), About()).inputs[0]
        assert np.array_equal(code["fit_x"](picture), wanted)


@pytest.mark.parametrize("name", every_fit.FITTED)
def test_every_function_of_a_page_is_called(name: str, tmp_path: Path) -> None:
    """tsc refuses another, as tsconfig.json says."""
    code = generate("web", model_of(name, tmp_path), None)[f"src/{name}_pictures.ts"].decode()
    code = re.sub(r"/\*\*.*?\*/|//[^\n]*", "", code, flags=re.DOTALL)
    written = re.findall(r"^function (\w+)", code, re.MULTILINE)
    assert [each for each in written if len(re.findall(rf"\b{each}\b", code)) == 1] == []


@pytest.mark.parametrize(("made_with", "wanted"), [("13.0.0", "13 or later"), ("12.1.0", "before 13")])
def test_python_refuses_a_pillow_that_resizes_otherwise(
    made_with: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dataclasses.replace(model_of("any_size", tmp_path), libraries={"pillow": made_with})
    code: dict[str, Any] = {"__file__": "any_size.py", "__name__": "any_size"}
    exec(compile(generate("python", model, None)["any_size.py"], "any_size.py", "exec"), code)
    picture = every_fit.pictures()[0]
    found = "12.9.9" if wanted == "13 or later" else "13.0.0"
    monkeypatch.setattr(PIL, "__version__", found)
    with pytest.raises(Exception, match=f"wanted Pillow {wanted}, found {found}"):
        code["fit_x"](picture)
    monkeypatch.setattr(PIL, "__version__", made_with)
    assert code["fit_x"](picture).shape == (9, 10, 3)
