"""provenance.json: an in-toto Statement v1 with a SLSA provenance v1 predicate. docs/releases.md has its build type."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from pocketforge.release.contents import Contents
from pocketforge.version import version

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# Both are what docs/releases.md ("Provenance") describes.
BUILD_TYPE = "urn:pocketforge:build:v1"
BUILDER = "urn:pocketforge:builder:v1"
# The digest of several files is none that in-toto names: of their names and hashes, a line each.
FILES_DIGEST = "pocketforgeFilesV1"


def provenance(contents: Contents) -> dict[str, object]:
    """What the shipped files were made of, by what, and what was found of them."""
    report, recipe = contents.report, contents.recipe
    made_at = contents.inputs.made_at
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in contents.hashes],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": recipe.name,
                    "recipe_sha256": report.recipe_sha256,
                    "version": recipe.release.version or None,
                    "targets": [
                        {"name": each.record.name, "runtime": each.record.runtime, "scheme": each.record.scheme}
                        for each in contents.targets
                    ],
                },
                "internalParameters": {"seed": recipe.seed},
                "resolvedDependencies": list(_dependencies(contents)),
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {
                        "pocketforge": version(),
                        "python": platform.python_version(),
                        **contents.toolchain,
                    },
                },
                "metadata": {"finishedOn": made_at} if made_at else {},
            },
            # SLSA lets a producer add fields whose names begin with its own.
            "pocketforge_verdicts": _verdicts(contents),
        },
    }


def _dependencies(contents: Contents) -> Iterator[dict[str, object]]:
    commit = contents.inputs.commit
    if commit is not None:
        yield {"name": "repository", "digest": {"gitCommit": commit.id}, "annotations": {"clean": commit.clean}}
    for role in contents.inputs.roles:
        if len(role.files) != 1:
            yield {"name": role.role, "digest": {FILES_DIGEST: role.sha256}, "annotations": {"files": role.count}}
        for file in role.files:
            yield {"name": f"{role.role}: {file.name}", "digest": {"sha256": file.sha256}}


def _verdicts(contents: Contents) -> dict[str, object]:
    """Whether each check and budget passed; the figures are in the model card, those of time in sidecars alone."""
    return {
        "gate": contents.report.verdict,
        "checks": [
            {"target": each.record.name, "check": check.name, "passed": check.passed}
            for each in contents.targets
            for check in each.record.checks
        ],
        "budgets": [
            {
                "metric": gate.budget.metric,
                "limit": gate.budget.limit,
                "severity": gate.budget.severity,
                "target": gate.target,
                "device": gate.device,
                "verdict": gate.verdict,
            }
            for gate in contents.report.gates
        ],
    }
