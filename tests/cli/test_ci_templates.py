"""docs/ci/: templates are what GitHub and GitLab take, and their steps do what they say, in a shell as they have it.

Installing and building are played (a program writes the report of a failed gate and exits 1); every other command is
the real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from test_report_ci import make

from pocketforge.facts.tested import TESTED

FOLDER = Path(__file__).parents[2] / "docs" / "ci"
PROGRAM = """\
#!/bin/sh
echo "pocketforge $*" >> "$CALLED"
if [ "$1" = build ]; then
  [ -n "$REPORT" ] || exit 2
  mkdir -p build/model && cp "$REPORT" build/model/report.json; exit 1
fi
exec "$PYTHON" -m pocketforge "$@"
"""


def github(job: str) -> list[str]:
    return [step["run"] for step in _yaml("github.yml")["jobs"][job]["steps"] if "run" in step]


def newest(job: str) -> list[str]:
    return [step["run"] for step in _yaml("newest.yml")["jobs"][job]["steps"] if "run" in step]


def gitlab(job: str) -> list[str]:
    content = _yaml("gitlab-ci.yml")
    base, own = content[".model"], content[job]
    return ["\n".join(part) for part in (base["before_script"], own["script"], base["after_script"])]


def jenkins(_: str) -> list[str]:
    return re.findall(r"sh '''(.*?)'''", (FOLDER / "Jenkinsfile").read_text(encoding="utf-8"), re.DOTALL)


def _yaml(name: str):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path, repo_root):
    """Runs steps one after another in a folder; the exit codes. A program for each that CI machines have."""
    work, programs = tmp_path / "work", tmp_path / "programs"
    work.mkdir()
    programs.mkdir()
    (tmp_path / "report.json").write_text(json.dumps(make().to_json()), encoding="utf-8")
    for name, text in (
        ("pocketforge", PROGRAM),
        ("gh", '#!/bin/sh\necho "gh $*" >> "$CALLED"\n'),
        # A virtual environment whose pip only says what it was asked for.
        *(
            (name, '#!/bin/sh\nmkdir -p "$3/bin"; printf \'#!/bin/sh\\necho "pip $*" >> "$CALLED"\\n\' > "$3/bin/pip"'
             '; chmod +x "$3/bin/pip"\n')
            for name in ("python", "python3.11")
        ),
    ):  # fmt: skip
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(steps: list[str], *, built: bool = True) -> list[int]:
        environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": sys.executable,
            "PYTHONPATH": str(repo_root / "pipeline"), "CALLED": str(tmp_path / "called"), "RECIPE": "my recipe.toml",
            "POCKETFORGE": "vendor/pocketforge", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_PATH": str(tmp_path / "path"), "NUMBER": "7",
            "REPORT": str(tmp_path / "report.json") if built else "",
        }  # fmt: skip
        codes = []
        for step in steps:
            done = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", step], cwd=work, env=environment, capture_output=True, text=True
            )
            assert done.stderr == "", done.stderr
            codes.append(done.returncode)
        return codes

    return run


@pytest.mark.parametrize(
    ("steps", "job", "codes", "written"),
    [
        (github, "build", [0, 1, 0, 0], {"junit.xml", "values.benchmark.json", "pr.comment.md"}),
        (github, "phone", [0, 1, 0], set()),
        (gitlab, "model", [0, 1, 0], {"junit.xml", "model.codequality.json", "model.prom", "mr.comment.md"}),
        (jenkins, "", [0, 1, 0], {"junit.xml", "model.md"}),
    ],
)
def test_steps_fail_by_the_gate_alone_and_report_all_the_same(run, tmp_path, steps, job, codes, written):
    assert run(steps(job)) == codes
    assert {path.name for path in (tmp_path / "work" / "build").iterdir()} == {"model", *written}
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0] == "pip install --quiet vendor/pocketforge[all]"
    (build,) = [line for line in called if line.startswith("pocketforge build")]
    assert "my recipe.toml --out build/model" in build and ("--device adb:all" in build) == (job == "phone")
    if steps is github:
        assert (tmp_path / "summary.md").read_text().startswith("# digits: ERROR")
        assert (called[-1] == "gh pr comment 7 --edit-last --create-if-none --body-file build/pr.comment.md") == (
            job == "build"
        )


def test_the_newest_toolchains_are_those_that_are_known_as_a_range(run, tmp_path):
    """doctor's own exit code is of this machine; what it is asked is in the template."""
    *steps, doctor = newest("build")
    assert run(steps) == [0, 1, 0] and doctor == "pocketforge doctor --no-imports"
    called = (tmp_path / "called").read_text().splitlines()
    upgraded = " ".join(name for name in TESTED if name != "torch")
    assert called[:2] == [
        "pip install --quiet vendor/pocketforge[all]", f"pip install --quiet --upgrade --no-deps {upgraded}",
    ]  # fmt: skip
    assert (tmp_path / "summary.md").read_text().startswith("# digits: ERROR")


@pytest.mark.parametrize(("steps", "job"), [(github, "build"), (gitlab, "phone"), (jenkins, "")])
def test_a_build_without_a_report_leaves_its_own_exit_code(run, tmp_path, steps, job):
    some = [step for step in steps(job) if "gh pr" not in step]
    assert run(some, built=False) == [0, 2, 0]
    assert not (tmp_path / "work" / "build").exists()


@pytest.mark.parametrize(
    ("name", "schema"),
    [("github.yml", "github-workflows"), ("newest.yml", "github-workflows"), ("gitlab-ci.yml", "gitlab-ci")],
)
def test_a_template_is_valid_by_the_schema_of_its_ci(name, schema):
    # Not by import, which would bring an HTTP client.
    vendored = f"check_jsonschema/builtin_schemas/vendor/{schema}.json"
    text = Path(str(distribution("check-jsonschema").locate_file(vendored))).read_text(encoding="utf-8")
    # YAML 1.1 takes the key `on` for true.
    content = {"on" if key is True else key: value for key, value in _yaml(name).items()}
    checker = Draft7Validator(json.loads(text))
    assert [error.message for error in checker.iter_errors(content)] == []
    content["model" if name == "gitlab-ci.yml" else "jobs"] = {"steps": 1}
    assert list(checker.iter_errors(content))
