"""What builds through the real toolchains share. Test files import these names from here."""

from __future__ import annotations

from release_build import EMULATED, RELEASE, ROOT, Done, Release, pocketforge
from warm_server import in_process

__all__ = ["EMULATED", "RELEASE", "ROOT", "Done", "Release", "in_process", "pocketforge"]
