"""What builds through the real toolchains share. Test files import these names from here."""

from __future__ import annotations

from release_build import RELEASE, ROOT, SECOND, Done, Release, pocketforge

__all__ = ["RELEASE", "ROOT", "SECOND", "Done", "Release", "pocketforge"]
