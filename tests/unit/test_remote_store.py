"""A remote store: what comes is what was sent, whatever breaks off, lies or is cleared meanwhile."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import remote_faults
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketforge.errors import DamagedEntry, RecipeError, RefusedEntry, RemoteStoreError
from pocketforge.release.keys import check_signature
from pocketforge.run import remote_store
from pocketforge.run.remote_clear import collect, stored_keys
from pocketforge.run.remote_files import RemoteFiles
from pocketforge.run.remote_manifest import Check, Manifest, sealed, unsealed
from pocketforge.run.remote_place import place_of
from pocketforge.run.remote_store import RemoteStore
from pocketforge.run.store import Entry, Store

KEY, OTHER = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
DAY_S = 86_400
PART_BYTES = 1 << 16
LARGE = random.Random(0).randbytes(2 * PART_BYTES + 1000)


def put(store: Store, key: str = KEY, **files: bytes) -> Entry:
    with store.workspace() as out:
        for name, data in (files or {"model": LARGE, "sub__notes": b"fine", "empty": b"", "copy": b"fine"}).items():
            path = out / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return store.publish(key, out, {"stage": "export", "lane": "a", "wall_s": 1.5, "spec": {"x": [1]}})


def parts_there(there: Path, key: str = KEY) -> dict[str, Path]:
    folder = there / "entries" / key[:2] / key
    return {path.name: path for path in folder.iterdir() if path.name != "manifest.json"}


def manifest_there(there: Path, key: str = KEY) -> Path:
    return there / "entries" / key[:2] / key / "manifest.json"


def fetched(remote: RemoteStore, store: Store, key: str = KEY) -> Entry | None:
    manifest = remote.manifest(key)
    if manifest is None or remote.fetch(manifest, store) is None:
        return None
    return store.get(key)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of several is hashed often here."""
    monkeypatch.setattr(remote_store, "PART_BYTES", PART_BYTES)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def remote(there: Path) -> RemoteStore:
    return RemoteStore(RemoteFiles(remote_faults.place(there)))


@pytest.fixture
def mine(tmp_path: Path) -> Store:
    return Store(tmp_path / "mine")


@pytest.fixture
def yours(tmp_path: Path) -> Store:
    return Store(tmp_path / "yours")


@pytest.fixture
def key_pair() -> tuple[Callable[[bytes], bytes], Check]:
    private = Ed25519PrivateKey.generate()
    return private.sign, lambda content, signature: check_signature(private.public_key(), signature, content)


# There and back


@pytest.mark.parametrize("url", ["file://{there}", "memory://{there}"])
def test_what_comes_is_what_was_sent(url: str, there: Path, mine: Store, yours: Store) -> None:
    place = place_of(url.format(there=there))
    assert place is not None
    remote = RemoteStore(RemoteFiles(place))
    assert remote.manifest(KEY) is None and stored_keys(remote) == []
    entry = put(mine)
    moved = remote.publish(entry)
    assert (moved.size_bytes, moved.moved_bytes, moved.there) == (len(LARGE) + 8, len(LARGE) + 4, False)
    assert remote.publish(entry).there
    anew = RemoteStore(RemoteFiles(place))
    got = fetched(anew, yours)
    assert got is not None and (got.hashes, got.meta) == (entry.hashes, entry.meta)
    assert (got.files / "model").read_bytes() == LARGE and (got.files / "sub" / "notes").read_bytes() == b"fine"
    assert (got.files.parent / "manifest.json").read_bytes() == (entry.files.parent / "manifest.json").read_bytes()
    assert list((yours.root / "partial").iterdir()) == [] and list((yours.root / "tmp").iterdir()) == []
    assert stored_keys(anew) == [KEY]


def test_news_tell_how_much_is_here(remote: RemoteStore, mine: Store, yours: Store) -> None:
    entry = put(mine)
    told: list[tuple[int, int]] = []
    remote.publish(entry, tell=lambda *news: told.append(news))
    assert told[-1] == (entry.size_bytes, entry.size_bytes - 4) and told == sorted(told) and len(told) == 5
    told.clear()
    manifest = remote.manifest(KEY)
    assert manifest is not None
    remote.fetch(manifest, yours, lambda *news: told.append(news))
    # The file that is there under two names is fetched once.
    assert told[-1] == (entry.size_bytes - 4, entry.size_bytes - 4) and told == sorted(told)


def test_a_folder_of_somebody_else_is_no_store(remote: RemoteStore, there: Path, mine: Store) -> None:
    there.mkdir()
    for text in ("{}", "not JSON", '{"pocketforge_remote_store": 2}', "[1]"):
        (there / "store.json").write_text(text)
        for call in (lambda: remote.manifest(KEY), lambda: remote.publish(put(mine)), lambda: collect(remote)):
            with pytest.raises(RemoteStoreError, match=r"store\.json is not of a remote store of format 1"):
                call()
    assert sorted(path.name for path in there.iterdir()) == ["store.json"]


def test_a_local_file_that_changed_is_not_sent(remote: RemoteStore, there: Path, mine: Store) -> None:
    entry = put(mine, a=b"as it was made")
    (entry.files / "a").write_bytes(b"as it is there")
    with pytest.raises(DamagedEntry, match="a does not match its hash"):
        remote.publish(entry)
    assert not manifest_there(there).exists()


# What breaks off


def test_a_torn_upload_is_seen_and_made_good(tmp_path: Path, mine: Store, yours: Store, monkeypatch: Any) -> None:
    files, system = remote_faults.faulty(tmp_path / "there", monkeypatch)
    remote = RemoteStore(files)
    assert not remote.is_there()
    remote.publish(put(mine, OTHER, a=b"x"))
    system.torn = True
    entry = put(mine)
    with pytest.raises(RemoteStoreError, match=r"has 2 of the 4 bytes that were sent of a part|has 32,768 of the"):
        remote.publish(entry)
    assert remote.manifest(KEY) is None
    system.torn = False
    assert remote.publish(entry).moved_bytes == len(LARGE) + 4
    got = fetched(remote, yours)
    assert got is not None and got.hashes == entry.hashes


def test_what_was_sent_before_it_broke_is_not_sent_again(tmp_path: Path, mine: Store, monkeypatch: Any) -> None:
    files, system = remote_faults.faulty(tmp_path / "there", monkeypatch)
    remote, entry = RemoteStore(files), put(mine, model=LARGE)
    system.full = PART_BYTES + 1000  # its mark, and one part
    with pytest.raises(RemoteStoreError, match=r"cannot write entries/.* to file://.*: OSError: .*No space left"):
        remote.publish(entry)
    assert [path.stat().st_size for path in parts_there(tmp_path / "there").values()] == [PART_BYTES]
    system.full = None
    assert remote.publish(entry).moved_bytes == len(LARGE) - PART_BYTES


def test_what_came_before_a_kill_is_gone_on_with(tmp_path: Path, mine: Store, yours: Store, monkeypatch: Any) -> None:
    files, system = remote_faults.faulty(tmp_path / "there", monkeypatch)
    remote, entry = RemoteStore(files), put(mine, model=LARGE)
    remote.publish(entry)
    manifest = remote.manifest(KEY)
    assert manifest is not None

    class Killed(BaseException):
        pass

    def die(done: int, moved: int) -> None:
        if done > PART_BYTES:
            raise Killed

    with pytest.raises(Killed):
        remote.fetch(manifest, yours, die)
    (half,) = (yours.root / "partial" / f"{KEY}.fetch").iterdir()
    assert half.stat().st_size == 2 * PART_BYTES and yours.get(KEY) is None
    with half.open("r+b") as file:  # and the second part was torn by the kill
        file.truncate(PART_BYTES + 77)
    system.calls.clear()
    moved = remote.fetch(manifest, yours)
    assert moved is not None and moved.moved_bytes == len(LARGE) - PART_BYTES and system.calls["read"] == 2
    got = yours.get(KEY)
    assert got is not None and got.hashes == entry.hashes and not half.parent.exists()


@pytest.mark.parametrize("damage", ["changed", "longer"])
def test_what_came_before_and_is_wrong_is_fetched_anew(
    remote: RemoteStore, mine: Store, yours: Store, damage: str
) -> None:
    entry = put(mine, model=LARGE)
    remote.publish(entry)
    with yours.lock(f"{KEY}.fetch"):
        half = yours.partial(f"{KEY}.fetch") / entry.hashes["model"]
        half.write_bytes(b"?" * 1000 if damage == "changed" else LARGE + b"more")
    got = fetched(remote, yours)
    assert got is not None and (got.files / "model").read_bytes() == LARGE


def test_a_link_that_breaks_once_is_made_again(tmp_path: Path, mine: Store, yours: Store, monkeypatch: Any) -> None:
    files, system = remote_faults.faulty(tmp_path / "there", monkeypatch)
    remote = RemoteStore(files)
    for _ in range(2):
        system.breaks = 1
        remote.publish(put(mine, a=b"alpha"))
        system.breaks = 1
        assert fetched(remote, yours) is not None
    system.breaks = 2
    with pytest.raises(RemoteStoreError, match=r"cannot list .*: ConnectionResetError: .*reset by peer"):
        fetched(remote, yours)


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    files, system = remote_faults.faulty(tmp_path / "there", monkeypatch, patience_s=0.2)
    system.hangs = threading.Event()
    with pytest.raises(RemoteStoreError, match=r"file://.*there gave no answer within 0.2 s"):
        RemoteStore(files).manifest(KEY)
    files.give_up = lambda: True
    with pytest.raises(RemoteStoreError, match="is not waited for any more"):
        RemoteStore(files).manifest(KEY)
    system.hangs.set()


# What lies


@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "longer"])
def test_a_part_that_is_not_what_its_name_says_is_refused(
    remote: RemoteStore, there: Path, mine: Store, yours: Store, damage: str
) -> None:
    entry = put(mine)
    remote.publish(entry)
    part = max(parts_there(there).values(), key=lambda path: path.stat().st_size)
    data = part.read_bytes()
    part.write_bytes({"changed": b"!" + data[1:], "cut": data[:-1], "empty": b"", "longer": data + b"!"}[damage])
    words = "has other bytes" if damage == "changed" else "has [0-9,]+ bytes"
    with pytest.raises(RefusedEntry, match=rf"is refused: its part {part.name[:12]} of 65,536 bytes {words}"):
        fetched(remote, yours)
    assert yours.get(KEY) is None and list((yours.root / "partial").glob("*")) == []
    # Its size is right or not: whoever knows that it is wrong puts it right.
    remote.publish(entry, again=True)
    assert fetched(remote, yours) is not None


def test_a_part_that_is_cut_after_it_was_looked_at_is_refused(
    remote: RemoteStore, there: Path, mine: Store, yours: Store
) -> None:
    remote.publish(put(mine))
    manifest = remote.manifest(KEY)
    assert manifest is not None
    for path in parts_there(there).values():
        path.write_bytes(b"")
    with pytest.raises(RefusedEntry, match=r"its part [0-9a-f]{12} of [0-9,]+ bytes has 0 bytes"):
        remote.fetch(manifest, yours)
    assert yours.get(KEY) is None and list((yours.root / "partial").iterdir()) == []


def test_a_manifest_of_any_size_is_not_read(
    remote: RemoteStore, there: Path, mine: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.publish(put(mine))
    monkeypatch.setattr(remote_store, "MOST_MANIFEST_BYTES", 100)
    manifest_there(there).write_bytes(b" " * 101)
    with pytest.raises(RefusedEntry, match="its manifest has 101 bytes"):
        remote.manifest(KEY)


def test_a_part_that_is_gone_makes_no_result(remote: RemoteStore, there: Path, mine: Store, yours: Store) -> None:
    entry = put(mine)
    remote.publish(entry)
    next(iter(parts_there(there).values())).unlink()
    assert fetched(remote, yours) is None and yours.get(KEY) is None
    assert not remote.publish(entry).there, "sent again, as it is not whole"
    assert fetched(remote, yours) is not None


def test_parts_in_another_order_are_no_file(remote: RemoteStore, there: Path, mine: Store, yours: Store) -> None:
    remote.publish(put(mine, model=LARGE))
    path = manifest_there(there)
    outer = json.loads(path.read_bytes())
    content = json.loads(outer["content"])
    content["files"]["model"]["parts"].reverse()
    path.write_text(json.dumps({**outer, "content": json.dumps(content)}))
    with pytest.raises(RefusedEntry, match="its parts are as said, and the file of them is not"):
        fetched(remote, yours)
    assert yours.get(KEY) is None


def changed(there: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = manifest_there(there)
    outer = json.loads(path.read_bytes())
    content = json.loads(outer["content"])
    change(content)
    path.write_text(json.dumps({**outer, "content": json.dumps(content)}))


FILE = {"sha256": "0" * 64, "parts": []}
LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "it is the result of another step": lambda c: c.update(key=OTHER),
    "it is in format 2, and this version reads 1": lambda c: c.update(format=2),
    "'/etc/passwd' is no name of a file": lambda c: c["files"].update({"/etc/passwd": FILE}),
    "'.' is no name of a file": lambda c: c["files"].update({".": FILE}),
    "'../x' is no name": lambda c: c["files"].update({"../x": FILE}),
    "'a/../../x' is no name": lambda c: c["files"].update({"a/../../x": FILE}),
    "'' is no name": lambda c: c["files"].update({"": FILE}),
    "'a//b' is no name": lambda c: c["files"].update({"a//b": FILE}),
    r"'a\\x00' is no name": lambda c: c["files"].update({"a\0": FILE}),
    "'model/x' lies in a file": lambda c: c["files"].update({"model/x": FILE}),
    "a hash is not 64 digits": lambda c: c["files"].update(x={"sha256": "../../../etc/passwd", "parts": []}),
    "a part has not 1 to": lambda c: c["files"]["model"]["parts"][0].__setitem__(1, 10**12),
    "one part has two sizes": lambda c: c["files"].update(
        x={"sha256": "0" * 64, "parts": [[c["files"]["model"]["parts"][0][0], 5]]}
    ),
    "TypeError in it": lambda c: c.update(files={"x": 3}),
    "KeyError in it": lambda c: c.pop("meta"),
    "AttributeError in it": lambda c: c["meta"].update(inputs=3),
    "its notes are of wrong types": lambda c: c["meta"].update(stage=3),
    "a file that its code opened is in no place": lambda c: c["meta"].update(
        inputs={"opened": [{"path": "x", "was": "y", "in": [1]}]}
    ),
}


@pytest.mark.parametrize("words", LIES)
def test_a_manifest_that_lies_is_refused(
    remote: RemoteStore, there: Path, mine: Store, yours: Store, words: str
) -> None:
    remote.publish(put(mine, model=b"weights"))
    changed(there, LIES[words])
    with pytest.raises(RefusedEntry, match=words):
        fetched(remote, yours)
    assert yours.get(KEY) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"content": 3}', b'{"content": "{}", "signature": "?"}', b"\xff"])
def test_what_is_no_manifest_is_refused(remote: RemoteStore, there: Path, mine: Store, data: bytes) -> None:
    remote.publish(put(mine, model=b"weights"))
    manifest_there(there).write_bytes(data)
    with pytest.raises(RefusedEntry, match="its manifest is no manifest, or was cut"):
        remote.manifest(KEY)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["stage", "needs", "opened", "path"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [("files",), ("files", "a"), ("files", "a", "parts"), ("files", "a", "sha256"), ("meta",), ("meta", "inputs"),
     ("meta", "inputs", "needs"), ("meta", "inputs", "opened"), ("meta", "spec"), ("meta", "wall_s"), ("key",)]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLACES, json_values)
def test_whatever_a_manifest_holds_it_is_refused_or_can_be_used(place: tuple[str, ...], value: Any) -> None:
    meta = {"stage": "x", "lane": "", "inputs": {"needs": {}, "opened": []}, "spec": {}}
    about: dict[str, Any] = {"format": 1, "key": KEY, "files": {"a": {"sha256": "0" * 64, "parts": []}}, "meta": meta}
    inner = about = copy.deepcopy(about)
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    try:
        manifest = unsealed(json.dumps({"content": json.dumps(about), "signature": ""}).encode(), KEY, None)
    except RefusedEntry:
        return
    assert unsealed(sealed(manifest, None), KEY, None).entry().hashes == manifest.entry().hashes


# Signatures


def test_only_what_the_key_signed_is_taken(there: Path, mine: Store, yours: Store, key_pair: Any) -> None:
    sign, check = key_pair
    place = remote_faults.place(there)
    anybody = RemoteStore(RemoteFiles(place))
    ci, reader = (RemoteStore(RemoteFiles(place), sign=signs, check=check) for signs in (sign, None))
    anybody.publish(put(mine, model=b"weights"))
    with pytest.raises(RefusedEntry, match="nobody signed it, and a key is asked for"):
        reader.manifest(KEY)
    another = RemoteStore(RemoteFiles(place), sign=Ed25519PrivateKey.generate().sign)
    another.publish(put(mine, model=b"weights"))
    with pytest.raises(RefusedEntry, match="the key that is asked for has not signed it"):
        reader.manifest(KEY)
    ci.publish(put(mine, model=b"weights"))
    assert fetched(reader, yours) is not None
    assert anybody.manifest(KEY) is not None, "who asks for no key reads it as well"
    # A signature is of this result under this key, and of all that it says.
    signed = manifest_there(there).read_bytes()
    changed(there, lambda content: content["meta"].update(stage="verify"))
    with pytest.raises(RefusedEntry, match="or it was changed since"):
        reader.manifest(KEY)
    elsewhere = manifest_there(there, OTHER)
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(signed)
    with pytest.raises(RefusedEntry, match="it is the result of another step"):
        reader.manifest(OTHER)


def test_a_signature_is_of_results_alone(key_pair: Any) -> None:
    """What the same key signs elsewhere (SHA256SUMS) is no result's signature."""
    sign, check = key_pair
    data = sealed(Manifest(KEY, {}, {}), None)
    content = json.loads(data)["content"]
    signature = base64.b64encode(sign(content.encode())).decode()
    with pytest.raises(RefusedEntry, match="has not signed it"):
        unsealed(json.dumps({"content": content, "signature": signature}).encode(), KEY, check)


# Others at the same time


def test_two_who_write_one_result_leave_one_that_is_whole(tmp_path: Path, yours: Store) -> None:
    """Of other bytes, as a benchmark has: the parts of both are there, and one manifest."""
    there = tmp_path / "there"
    entries = [put(Store(tmp_path / name), model=LARGE, times=name.encode()) for name in ("one", "two")]
    start = threading.Barrier(2)

    def send(entry: Entry) -> None:
        remote = RemoteStore(RemoteFiles(remote_faults.place(there)))
        for _ in range(3):
            start.wait()
            remote.publish(entry, again=True)

    threads = [threading.Thread(target=send, args=[entry]) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = fetched(RemoteStore(RemoteFiles(remote_faults.place(there))), yours)
    assert got is not None and got.hashes in [entry.hashes for entry in entries]
    assert not list(there.rglob("*.part"))


def test_clearing_under_a_reader_leaves_it_without_a_result(remote: RemoteStore, mine: Store, yours: Store) -> None:
    remote.publish(put(mine))
    manifest = remote.manifest(KEY)
    assert manifest is not None

    def clear(done: int, moved: int) -> None:
        collect(remote, keep_bytes=0)

    assert remote.fetch(manifest, yours, clear) is None
    assert yours.get(KEY) is None and stored_keys(remote) == []


def age(path: Path, days: float) -> None:
    used = time.time() - days * DAY_S
    os.utime(path, (used, used))


def test_clearing_goes_by_use_and_size_and_keeps_what_is_being_sent(
    remote: RemoteStore, there: Path, mine: Store, yours: Store
) -> None:
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4)]
    for number, key in enumerate(keys):
        remote.publish(put(mine, key, a=bytes([number]) * 1000))
        age(manifest_there(there, key), 10 * number)
    sending, broken = (there / "entries" / name[:2] / name / ("0" * 64) for name in ("aa" * 32, "bb" * 32))
    for path in (sending, broken):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    age(broken, 2)
    done = collect(remote, older_than_s=25 * DAY_S)
    assert (done.removed, done.left, done.unfinished) == (1, 3, 1)
    assert sorted(stored_keys(remote)) == sorted(keys[:3])
    assert sending.exists() and not broken.parent.exists()
    assert done.left_bytes == sum(path.stat().st_size for path in (there / "entries").rglob("*") if path.is_file())
    # A result that is used counts as young again.
    remote.freshen(keys[2])
    done = collect(remote, keep_bytes=done.left_bytes - 1000)
    assert done.removed == 1 and sorted(stored_keys(remote)) == sorted([keys[0], keys[2]])
    assert fetched(remote, yours, keys[2]) is not None
    before = manifest_there(there, keys[2]).stat().st_mtime_ns
    remote.freshen(keys[2])
    assert manifest_there(there, keys[2]).stat().st_mtime_ns == before, "once a day"


# URLs


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("file:///srv/team", "file:///srv/team"),
        ("FILE:///srv/team/", "file:///srv/team"),
        ("sftp://ci:pa%40ss@build.example:2222/srv/x", "sftp://ci@build.example:2222/srv/x"),
        ("sftp://[::1]:22/x", "sftp://[::1]:22/x"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("memory://x", "memory://x"),
        ("ftp://ann:x@host/a", "ftp://ann@host/a"),
    ],
)
def test_places(said: str, words: str) -> None:
    place = place_of(said)
    assert place is not None and place.words == words
    assert place_of(place.url) == place
    assert place_of("off") is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("/srv/team", "no URL of a remote store"),
        ("sftp:host/secret", "no URL of a remote store"),
        ("file://srv/team", "of a folder here, wanted file:///FOLDER"),
        ("file:///", "wanted file:///FOLDER"),
        ("simplecache::s3://bucket/x", "begins with one scheme"),
        ("s3://key:secret@bucket/x", "no user or password before its bucket"),
        ("s3:///x", "names no bucket"),
        ("sftp:///x", "names no host"),
        ("sftp://host:99999/x", "what stands behind sftp:// is no remote store"),
        ("sftp://ann:sec/ret@host/x", "is no remote store"),
        ("sftp://ann:sec@ret@host/x", "is no remote store"),
        ("sftp://host/x?password=secret", "is no remote store"),
        ("sftp://host/x\nsecret", "is no remote store"),
        ("sftp://host/../x", r"has \. or \.\. in it"),
    ],
)
def test_what_is_no_place_is_said_without_a_secret(said: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as raised:
        place_of(said)
    assert "sec" not in str(raised.value).replace("%", "")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["sftp", "ftp", "s3", "file"]), st.text(min_size=3, max_size=12), st.text(min_size=1, max_size=8),
    st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True), st.none() | st.integers(0, 65_535),
    st.from_regex(r"(/[a-zA-Z0-9 _-]{1,6}){0,3}", fullmatch=True),
)  # fmt: skip
def test_passwords_are_in_no_word_that_is_shown(
    scheme: str, password: str, user: str, host: str, port: int | None, path: str
) -> None:
    from urllib.parse import quote

    secret = f"~{password}~"  # no other part of the URL has these
    where = host if port is None else f"{host}:{port}"
    said = f"{scheme}://{quote(user, safe='')}:{quote(secret, safe='')}@{where}{path}"
    if scheme in ("s3", "file"):
        with pytest.raises(RecipeError) as raised:
            place_of(said)
        assert secret not in str(raised.value) and quote(secret, safe="") not in str(raised.value)
        return
    place = place_of(said)
    assert place is not None
    assert (place.user, place.password, place.host, place.port) == (user, secret, host, port)
    assert place_of(place.url) == place
    shown = f"{place.words} {place!r} {place.hide(f'tried {place.url} with {secret!s}')}"
    assert secret not in shown and quote(secret, safe="") not in shown
