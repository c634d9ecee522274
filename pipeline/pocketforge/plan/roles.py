"""Under what names the digests and paths of files are among the facts."""

from __future__ import annotations

from pocketforge.recipe.compress import Teacher


def teacher_role(teacher: Teacher) -> str:
    """The role of a teacher in Facts.digests (its definition's and weights' files together)."""
    return f"teacher {teacher.definition} {teacher.weights}"


def loss_role(loss: str) -> str:
    """Under what the code of a user's loss is among the facts. loss: `file.py:function`."""
    return f"loss {loss}"


def judging_role(file: str) -> str:
    """Under what the code of a user's metrics and post-processing is among the facts."""
    return f"judging {file}"


def runner_role(runner: str) -> str:
    """Under what the digest of a user's own runner is among the facts."""
    return f"runner {runner}"


def file_role(file: str) -> str:
    """Under what the digest of a model file made elsewhere is among the facts."""
    return f"file {file}"


def profile_role(profile: str) -> str:
    """Under what a profile's digest and path are among the facts."""
    return f"profile {profile}"


def calibration_role(calibration: str) -> str:
    """Under what a calibration's digest is among the facts; nothing is there for the shipped one."""
    return f"calibration {calibration}"
