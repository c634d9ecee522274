"""The git repository that a folder is in: its commit, its branch, what was changed since."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 30
# Where CI systems say the branch, as they check a commit out and no branch: GitHub, GitLab, Jenkins. First of a pull
# request: a fork's branch may have any name, and its builds are none of our branch of that name.
_CHANGES = ("GITHUB_HEAD_REF", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CHANGE_BRANCH")
_BRANCHES = ("GITHUB_REF_NAME", "CI_COMMIT_BRANCH", "BRANCH_NAME")


@dataclass(frozen=True, slots=True)
class Checkout:
    """What is checked out.

    Attributes:
        commit: Its hash, as git has it; empty where there is no repository.
        commit_s: When it was committed, in seconds since 1970; None with an empty commit.
        branch: Empty where none is checked out, and no CI system says one.
        dirty: Whether files that the commit has are otherwise now; None with an empty commit.
    """

    commit: str = ""
    commit_s: int | None = None
    branch: str = ""
    dirty: bool | None = None


def checkout_of(folder: Path, revision: str = "HEAD") -> Checkout:
    """What is checked out in the repository that a folder is in; all empty where it is in none that git will read.

    revision: another one than what is checked out: of it nothing is dirty, and no branch is known.
    """
    found = git(folder, "log", "-1", "--no-show-signature", "--format=%H %ct", "--end-of-options", revision, "--")
    if not found:
        return Checkout()
    commit, _, seconds = found.strip().partition(" ")
    if revision != "HEAD":
        return Checkout(commit, int(seconds), "", False)
    return Checkout(commit, int(seconds), _branch(folder), changed_files(folder) != "")


def changed_files(folder: Path) -> str | None:
    """Files of the commit that are otherwise now, a line each; submodules too, whatever .gitmodules says of them."""
    return git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none")


def commits_there(folder: Path, commits: Collection[str]) -> list[str] | None:
    """Those of the commits that the folder's repository has, each before its ancestors, whatever their clocks said.

    None where nobody can tell: in no repository, or in a shallow one.
    """
    if (git(folder, "rev-parse", "--is-shallow-repository") or "").strip() != "false":
        return None
    found = git(folder, "rev-list", "--date-order", "--ignore-missing", *commits, "--") if commits else ""
    return [each for each in (found or "").split() if each in commits]


def _branch(folder: Path) -> str:
    named = (git(folder, "symbolic-ref", "--quiet", "--short", "HEAD") or "").strip()
    if named:
        return named
    change = next(filter(None, map(os.environ.get, _CHANGES)), "")
    return f"pull/{change}" if change else next(filter(None, map(os.environ.get, _BRANCHES)), "")


def git(folder: Path, *words: str) -> str | None:
    """What git says; None where there is no git, no repository, or one that is not ours to ask."""
    # A repository's own settings may name a program that git would start; ours ask for none.
    safe = ("--literal-pathspecs", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *safe, "-C", os.fspath(folder), *words],  # noqa: S607 - whichever git the user has
            env={**environment, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
