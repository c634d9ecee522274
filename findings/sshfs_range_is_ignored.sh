#!/bin/sh
# sshfs 2026.8.0: cat_file with a range gives the whole file, and a server's host key is not looked at.
#
# Expected: fsspec's cat_file(path, start=2, end=5) gives bytes 2 to 5 on every file system; a client of SSH that was told
# nothing looks into ~/.ssh/known_hosts, as ssh and asyncssh do, and refuses a server that it does not know.
# Seen: all ten bytes of ten, without a word (`_cat_file` takes the range among keywords that it drops); and a server whose
# key is in no known_hosts is connected to (`known_hosts=None` is sshfs' default, by which asyncssh takes any).
# Why it matters: who resumes a download by a range gets a file with its beginning twice; who stands between a client and its
# server is handed what it sends. known_hosts=() makes it asyncssh's own default again.
# Versions: sshfs 2026.8.0, asyncssh 2.24.1, fsspec 2026.9.0, Python 3.11.
# Source: seen by running; sshfs/spec.py.
# Output seen: range 2 to 5 of b'0123456789': b'0123456789'; unknown host key: connected; with known_hosts=(): HostKeyNotVerifiable.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sshfs==2026.8.0 asyncssh==2.24.1 fsspec==2026.9.0
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import os
import pathlib
import sys
import threading

import asyncssh
from sshfs import SSHFileSystem

home = pathlib.Path(sys.argv[1])
os.environ["HOME"] = str(home)
(home / "ten").write_bytes(b"0123456789")
port = []
ready = threading.Event()


class Open(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def serve():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Open, server_host_keys=[key], sftp_factory=True)
    port.append(server.get_port())
    ready.set()
    await asyncio.sleep(60)


threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
assert ready.wait(30)
files = SSHFileSystem("127.0.0.1", port=port[0], username="ann")
print("unknown host key: connected")
found = files.cat_file(str(home / "ten"), start=2, end=5)
print(f"range 2 to 5 of b'0123456789': {found}")
try:
    SSHFileSystem("127.0.0.1", port=port[0], username="ann", known_hosts=())
    refused = "nothing"
except Exception as error:
    refused = type(error).__name__
print(f"with known_hosts=(): {refused}")
assert found == b"0123456789" and refused == "HostKeyNotVerifiable", "it behaves otherwise now"
os._exit(0)
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" "$folder"
