"""Adding builds to a history, and finding them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from pocketforge.errors import RecipeError, StoreError
from pocketforge.history.database import Database
from pocketforge.history.entry import Build, Entry, Value, Wanted, host_of, storable, values_of
from pocketforge.history.tables import builds, values, verdicts
from pocketforge.records import Report

# The columns of a build's row but the report itself, which is the most of it.
_HEAD = [column for column in builds.c if column.name not in ("report", "versions")]


class History:
    """Builds in an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.words = database.place.words

    def server(self) -> str:
        """What keeps it, with its version."""
        return self._database.server()

    def add(self, entry: Entry) -> tuple[int, bool]:
        """The build's number, and whether it is new: a report that is there, of this commit, is not added again.

        Raises StoreError; then nothing of it is there.
        """
        return self.add_all([entry])[0]

    def add_all(self, entries: Iterable[Entry]) -> list[tuple[int, bool]]:
        """The same of several, all of them or none."""
        with self._database.writing() as connection:
            return [_add(connection, each) for each in entries]

    def builds(self, wanted: Wanted, most: int | None = None) -> list[Build]:
        """Those that are wanted, the last one that was built first; `most` of them."""
        query = _of(select(*_HEAD), wanted).order_by(builds.c.built_s.desc(), builds.c.id.desc()).limit(most)
        with self._database.reading() as connection:
            return [_build(row) for row in connection.execute(query)]

    def find(self, said: str) -> Build:
        """By its number, the beginning of its commit, or its branch; of several the last one that was built.

        Raises RecipeError where there is none.
        """
        if said.isascii() and said.isdigit() and len(said) < 10:
            with self._database.reading() as connection:
                row = connection.execute(select(*_HEAD).where(builds.c.id == int(said))).first()
            if row is not None:
                return _build(row)
        for wanted in (Wanted(branch=said), Wanted(commit=said)):
            found = self.builds(wanted, 1) if not wanted.commit or is_hash(said) else []
            if found:
                return found[0]
        raise RecipeError(
            f"no build in {self.words} has the number, branch or commit {said!r}", "pocketforge history list shows them"
        )

    def text(self, build: int) -> str:
        """A build's report, as it was put there. Raises StoreError where it was changed since."""
        query = select(builds.c.report, builds.c.report_sha256).where(builds.c.id == build)
        with self._database.reading() as connection:
            row = connection.execute(query).one()
        found: str = row.report
        if hashlib.sha256(found.encode()).hexdigest() != row.report_sha256:
            raise StoreError(
                f"the report of build {build} in {self.words} was changed: its SHA-256 is another",
                "add that report again, from its file",
            )
        return found

    def report(self, build: int) -> Report:
        """The same, read. Raises RecipeError, too, for one that a later Pocketforge wrote."""
        try:
            return Report.from_json(json.loads(self.text(build)))
        except (ValueError, RecursionError) as error:
            raise RecipeError(
                f"the report of build {build} in {self.words} cannot be read: {error}",
                "what a later Pocketforge wrote, that one reads",
            ) from None

    def entries(self, wanted: Wanted) -> Iterator[tuple[Build, str]]:
        """All that are wanted with their reports' texts, the first one that was built first."""
        for build in reversed(self.builds(wanted)):
            yield build, self.text(build.id)

    def metrics(self) -> list[str]:
        """Names of all metrics that some build has."""
        with self._database.reading() as connection:
            return sorted(connection.execute(select(values.c.metric).distinct()).scalars())

    def values(
        self, metric: str, wanted: Wanted, target: str = "", device: str | None = None
    ) -> list[tuple[Build, Value]]:
        """Each value of a metric, by build. device: None is any, empty is of none."""
        query = _of(select(*_HEAD, *values.c).join(values, values.c.build == builds.c.id), wanted)
        query = query.where(values.c.metric == storable(metric))
        if target:
            query = query.where(values.c.target == storable(target))
        if device is not None:
            query = query.where(values.c.device == storable(device))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(builds.c.id, values.c.place)).all()
        return [(_build(row), _value(row)) for row in rows]


def is_hash(said: str) -> bool:
    """Whether it may be the beginning of a commit's hash: git's own shortest has four digits."""
    return 4 <= len(said) <= 64 and all(each in "0123456789abcdef" for each in said)


def _of(query: Any, wanted: Wanted) -> Any:
    if wanted.recipe:
        query = query.where(builds.c.recipe == storable(wanted.recipe))
    if wanted.branch:
        query = query.where(builds.c.branch == storable(wanted.branch))
    if wanted.commit:
        query = query.where(func.substr(builds.c.git_commit, 1, len(wanted.commit)) == storable(wanted.commit))
    return query


def _add(connection: Any, entry: Entry) -> tuple[int, bool]:
    report, text = entry.report, entry.text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = {
        "recipe": report.recipe,
        "recipe_sha256": report.recipe_sha256,
        "verdict": report.verdict,
        "git_commit": entry.checkout.commit,
        "branch": entry.checkout.branch,
        "commit_s": entry.checkout.commit_s,
        "dirty": entry.checkout.dirty,
        "built_s": entry.built_s,
        "host": host_of(report),
        "pocketforge": entry.pocketforge,
        "versions": json.dumps(dict(report.environment), sort_keys=True),
        "report": text,
        "report_sha256": digest,
    }
    same = select(builds.c.id).where(builds.c.report_sha256 == digest, builds.c.git_commit == entry.checkout.commit)
    there: int | None = connection.execute(same).scalar()  # looked for first: a refused row takes a number, too
    if there is not None:
        return there, False
    # On a server two may add the same at once: the second one's row is none, and no error.
    new = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(builds).values(_stored(row))
    build: int | None = connection.execute(new.on_conflict_do_nothing().returning(builds.c.id)).scalar()
    if build is None:
        return connection.execute(same).scalar_one(), False
    of_values = [{"build": build, "place": place, **asdict(each)} for place, each in enumerate(values_of(report))]
    of_verdicts = [{"build": build, "place": place, **each} for place, each in enumerate(_verdicts(report))]
    for table, rows in ((values, of_values), (verdicts, of_verdicts)):
        if rows:
            connection.execute(insert(table), [_stored(each) for each in rows])
    return build, True


def _stored(row: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(each) if isinstance(each, str) else each for name, each in row.items()}


def _verdicts(report: Report) -> Iterator[dict[str, object]]:
    for gate in report.gates:
        yield {
            "metric": gate.metric or gate.budget.metric,
            "target": gate.target,
            "device": gate.device,
            "verdict": gate.verdict,
            "value": gate.value,
            "limit_value": None if gate.budget.baseline and gate.value is None else gate.budget.limit,
            "severity": gate.budget.severity,
            "waived": bool(gate.waiver),
            "reason": gate.reason,
        }


def _build(row: Any) -> Build:
    return Build(
        row.id, row.recipe, row.recipe_sha256, row.verdict, row.git_commit, row.branch, row.commit_s, row.dirty,
        row.built_s, row.host, row.pocketforge, row.report_sha256,
    )  # fmt: skip


def _value(row: Any) -> Value:
    return Value(
        row.metric, row.target, row.device, row.via, row.conditions, row.value, row.unit, row.low, row.high,
        row.samples, row.sha256, row.better, row.noisy, row.evidence, row.doubt,
    )  # fmt: skip
