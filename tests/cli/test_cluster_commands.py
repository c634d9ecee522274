"""`pocketforge cluster`, `worker`, `scheduler` and `build --engine`: what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = "shipped:digits_cnn"


@pytest.fixture(autouse=True)
def of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETFORGE_CLUSTER_DIR", str(tmp_path / "secret"))
    monkeypatch.chdir(tmp_path)


def test_init_makes_what_the_machines_need(cli, tmp_path):
    done = cli("cluster", "init")
    assert done.code == 0
    assert done.stdout.splitlines() == [
        str(tmp_path / "secret" / name) for name in ("ca.pem", "ca-key.pem", "node.pem", "node-key.pem")
    ]
    (tmp_path / "file").touch()
    refused = cli("cluster", "init", tmp_path / "file" / "below")
    assert refused.code == 3 and "below" in refused.stderr and "FOLDER" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("worker", "10.0.0.1:8786"), "a scheduler's address is tls://HOST:PORT, found '10.0.0.1:8786'"),
        (("worker", "tcp://10.0.0.1:8786"), "whoever reaches it runs code on every worker"),
        (("worker", "tls://127.0.0.1:8786"), "no certificates in "),
        (("scheduler", "tcp://0.0.0.0:8786"), "whoever reaches it runs code on every worker"),
        (("scheduler",), "no certificates in "),
        (("cluster", "status", "tls://h"), "a scheduler's address is tls://HOST:PORT"),
        (("build", RECIPE, "--engine", "dask"), "the engine dask needs a scheduler"),
        (("build", RECIPE, "--scheduler", "tls://127.0.0.1:1"), "a scheduler is of the engine dask"),
        (("build", RECIPE, "--engine", "dask", "--scheduler", "tcp://h:1"), "whoever reaches it runs code"),
        (("build", RECIPE, "--engine", "dask", "--scheduler", "tls://127.0.0.1:1"), "no certificates in "),
        (("build", RECIPE, "--engine", "ray"), "'ray' is not one of 'local', 'dask'"),
    ],
)
def test_bad_input_is_said_and_leaves_nothing(cli, tmp_path, arguments, says):
    done = cli(*arguments)
    assert done.code == 2 and says in done.stderr
    assert list(tmp_path.glob("build*")) == []


def test_a_scheduler_that_is_not_there_is_said(cli, monkeypatch):
    from pocketforge.run.cluster import link

    monkeypatch.setattr(link, "_CONNECT_S", 1)
    done = cli("cluster", "status", "tcp://127.0.0.1:9")
    assert done.code == 3 and "no scheduler answers at tcp://127.0.0.1:9" in done.stderr
