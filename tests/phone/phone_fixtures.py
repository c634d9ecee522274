"""Test phones for every test here: see phone.py for what one can do, phone_kinds.py for what kinds there are.

Their shell and commands are this machine's own, which is fast, unless a test asks for `userland="arm64"` or its module
says USERLAND = "arm64"; what is pushed to them always runs under qemu.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from adb_for_tests import AdbServer
from phone import MakePhone, Phone
from phone_kinds import KINDS
from phone_parts import PhoneParts, find_parts


@pytest.fixture(scope="session")
def phone_parts() -> PhoneParts:
    try:
        return find_parts()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def adb_server(phone_parts: PhoneParts) -> Iterator[AdbServer]:
    """The tests' own server, of this process; Adb() finds it and the client by the environment."""
    with AdbServer(phone_parts.adb) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("ANDROID_SERIAL", "ANDROID_ADB_SERVER_PORT", "ANDROID_ADB_SERVER_ADDRESS", "ADB_TRACE"):
            patch.delenv(name, raising=False)
        for name, value in server.variables().items():
            patch.setenv(name, value)
        patch.setenv("POCKETFORGE_ADB", str(server.program))
        yield server


@contextlib.contextmanager
def _maker(request: pytest.FixtureRequest, parts: PhoneParts, server: AdbServer) -> Iterator[MakePhone]:
    usual: dict[str, Any] = {"userland": getattr(request.module, "USERLAND", "native")}
    with contextlib.ExitStack() as phones:

        def make(kind: str = "pixel8", *, android: str = "", connect: bool = True, **more: Any) -> Phone:
            chosen = KINDS[kind].with_android(android) if android else KINDS[kind]
            phone = phones.enter_context(Phone(parts, server, chosen, **(usual | more)))
            if connect:
                phone.connect()
            return phone

        yield make


@pytest.fixture
def make_phone(request: pytest.FixtureRequest, phone_parts: PhoneParts, adb_server: AdbServer) -> Iterator[MakePhone]:
    """Makes phones; they are closed after the test."""
    with _maker(request, phone_parts, adb_server) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_phone(
    request: pytest.FixtureRequest, phone_parts: PhoneParts, adb_server: AdbServer
) -> Iterator[MakePhone]:
    """Makes phones that live as long as the module's tests: for fixtures of the test file's own."""
    with _maker(request, phone_parts, adb_server) as make:
        yield make


@pytest.fixture
def phone(make_phone: MakePhone) -> Phone:
    """A Pixel 8 with two cores, connected, of this test alone."""
    return make_phone()


@pytest.fixture(scope="module")
def shared_phone(make_shared_phone: MakePhone) -> Phone:
    """A Pixel 8 with two cores, connected, for tests that leave it as it is."""
    return make_shared_phone()
