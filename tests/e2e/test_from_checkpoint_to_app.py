"""docs/from_checkpoint_to_app.md: its model, its recipe and its commands, in their order, on a folder as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Done, in_process
from PIL import Image

from pocketforge.data.dataset import open_recipe
from pocketforge.devices.web import WEB
from pocketforge.measure.browser import Page, run_pages
from pocketforge.recipe.toml import load_recipe
from pocketforge.why.app_search import known_mistakes

PAGE = (ROOT / "docs" / "from_checkpoint_to_app.md").read_text(encoding="utf-8")
COLOURS = {"apple": (190, 60, 50), "leaf": (70, 160, 60), "sky": (80, 130, 210)}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)
    return str(found)


def commands() -> Iterator[list[str]]:
    for line in re.findall(r"(?m)^pocketforge .*$", PAGE):
        yield shlex.split(line)[1:]


def train(folder: Path, pictures: list[tuple[Path, int]]) -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    torch.manual_seed(0)
    net = names["build"]()
    resized = [np.asarray(Image.open(path).resize((64, 64), Image.Resampling.BILINEAR)) for path, _ in pictures]
    x = ((torch.from_numpy(np.stack(resized)).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    y = torch.tensor([label for _, label in pictures])
    steps = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        steps.step()
    assert (net(x).argmax(1) == y).all()
    torch.save({"state_dict": net.state_dict()}, folder / "checkpoint.pt")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    pictures = []
    for label, (name, colour) in enumerate(COLOURS.items()):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(20):
            slope = np.linspace(-40, 40, 100)[None, :, None] * rng.uniform(-1, 1, 3)
            values = np.array(colour) + slope + rng.normal(0, 15, (80, 100, 3))
            pictures.append((folder / "photos" / name / f"{number}.png", label))
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(pictures[-1][0])
    (folder / "model.py").write_text(block("python"))
    (folder / "recipe.toml").write_text(block("toml"))
    train(folder, pictures)
    return folder


def run(project: Path, argv: list[str]) -> Done:
    more = ["--progress", "none"] if argv[0] == "build" else []
    return in_process(*argv, *more, cache=project / "cache", cwd=project)


def dump(project: Path, *, bgr: bool) -> None:
    """As an app of C++ with OpenCV writes it."""
    name = open_recipe(load_recipe(project / "recipe.toml")).eval.ids[0]
    picture = Image.open(project / "photos" / name).resize((64, 64), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)[:, :, ::-1] if bgr else np.asarray(picture)
    (project / "dumps").mkdir(exist_ok=True)
    (project / "dumps" / "dump.raw").write_bytes(pixels.tobytes())


def test_every_step_of_the_page(project: Path) -> None:
    steps = [argv for argv in commands() if argv[0] != "package"]
    assert [argv[0] for argv in steps] == ["check", "build", "verify-release", "size", "why"]
    for argv in steps[:-1]:
        done = run(project, argv)
        assert done.code == 0, f"{argv}\n{done.stdout}{done.stderr}"
    shipped = {path.name for path in (project / "build" / "photos" / "release").iterdir()}
    assert {"photos_app.tflite", "photos_web.onnx"} <= shipped
    dump(project, bgr=True)
    done = run(project, steps[-1])
    (said,) = re.findall(r"(?m)^the app's input .*$", PAGE)
    assert done.code == 1 and said in done.stdout, done.stdout + done.stderr
    assert "what it costs on" in done.stdout
    dump(project, bgr=False)
    done = run(project, steps[-1])
    assert done.code == 0 and "is right" in done.stdout, done.stdout + done.stderr


def test_the_pages_table_names_mistakes_that_there_are() -> None:
    table = PAGE[PAGE.index("| what is seen") :]
    named = {name for row in re.findall(r"(?m)^\|.*\|(.*)\|$", table) for name in re.findall(r"`(\w+)`", row)}
    known = {each.name for kind in ("image", "sound") for each in known_mistakes(kind)}
    assert len(named) > 15 and named <= known


def test_the_app_code_of_the_page_is_written(project: Path) -> None:
    pytest.importorskip("pocketforge.cli.package")
    assert run(project, ["build", "recipe.toml"]).code == 0
    for argv in commands():
        if argv[0] == "package":
            done = run(project, argv)
            assert done.code == 0, f"{argv}\n{done.stdout}{done.stderr}"
            assert any((project / argv[-1]).rglob("*")), argv
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    tested = subprocess.run(words, cwd=project / "app" / "python", capture_output=True, text=True, check=False)
    assert tested.returncode == 0 and "7 passed" in tested.stdout, "four samples, their pictures, answers, a shape"


@pytest.mark.skipif(WEB.words == "none", reason="apt-get install chromium; pocketforge device setup web")
def test_the_page_of_the_web_code_finds_nothing_wrong(project: Path) -> None:
    """Photographs of 100 x 80, as an ImageData: resized, fed and answered in the browser as they were here."""
    folder = project / "app" / "web"
    if not folder.exists():
        (argv,) = [each for each in commands() if each[-1] == "app/web"]
        assert run(project, ["build", "recipe.toml"]).code == 0 and run(project, argv).code == 0
    (folder / "node_modules").symlink_to(WEB.modules)
    argv = [str(WEB.modules / ".bin" / "tsc"), "--project", "."]
    subprocess.run(argv, cwd=folder, check=True, timeout=300)
    argument = {"folder": "/app/", "wasm": "/modules/onnxruntime-web/dist/"}
    (found,) = run_pages([Page("/app/dist/test/photos_web.test.js", argument, {"/app": folder}, folder)])
    assert not found.refused and not found.fault and found.answer["failures"] == [], found
    assert found.answer["samples"] == 4
