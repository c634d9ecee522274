"""What the steps of one build read beside their keys: that all found the same, and that nothing changed under them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketforge.errors import ChangedInput, PocketforgeError, StoreError
from pocketforge.files import explain_os_error
from pocketforge.plan.steps import Plan, Step
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import Watch
from pocketforge.run.made import MadeOf, made
from pocketforge.run.opened import NOTES, Opened, contents, inputs_of, read_notes, still_as_noted
from pocketforge.run.reuse import difference, needs_of
from pocketforge.run.store import Entry, Store

# In half-done work: of which files it is.
BEGAN = "began.json"


class BuildInputs:
    """entries: the results of the build so far, by key. folder: the stages' working folder; None for ours."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        entries: Mapping[str, Entry],
        memory: Fingerprints,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._plan, self._store, self._entries, self._memory = plan, store, entries, memory
        self._lock = threading.Lock()
        # Files that the user's code opened, as the steps of this build found them.
        self._opened: dict[tuple[str, str], str] = {}

    def watch(self, step: Step) -> Watch:
        """Of the step's files, begun. Raises ChangedInput when they are no longer those of its key."""
        watch = Watch(step, self._memory)
        watch.begin()
        return watch

    def difference(self, step: Step, entry: Entry) -> str | None:
        """As `reuse.difference`, also with what earlier steps of this build found."""
        changed = difference(step, entry, self._entries, self._memory)
        if changed is None:
            try:
                self._agree(step, made(entry).inputs.opened)
            except ChangedInput:
                return ""  # the stage meets that too, and says it
        return changed

    def read_by(self, step: Step, watch: Watch, notes: Path, error: PocketforgeError | None = None) -> MadeOf:
        """What a stage that ended has read. error: its own, which may have come of what is found here.

        Raises ChangedInput where a file was touched while it ran or is not what an earlier step found, StoreError where
        an earlier result was replaced.
        """
        try:
            watch.end()
            opened = inputs_of(read_notes(notes), step, self._memory, self._folder)
            self._agree(step, opened)
        except ChangedInput as changed:
            raise changed from error
        for key in step.needs.values():
            entry = self._store.peek(key)  # None: cleared after it was read, as what was made of it shows
            if entry is not None and entry.hashes != self._entries[key].hashes:
                raise StoreError(
                    f"the stored result of {self._plan.step(key).name} was replaced while {step.name} read it",
                    "another build made it of other files, in the same cache; run again",
                )
        return MadeOf(needs_of(step, self._entries), tuple(opened))

    def may_go_on(self, step: Step, watch: Watch, folder: Path) -> bool:
        """Whether half-done work in `folder` is of the files that there are now, or there is none."""
        if not any(folder.iterdir()):
            return True
        began = folder / BEGAN
        signed = began.is_file() and began.read_text("utf-8") == self._signature(step, watch)
        return signed and still_as_noted(read_notes(folder / NOTES))

    def sign(self, step: Step, watch: Watch, folder: Path) -> None:
        """Note in `folder` of which files the work in it is. Raises StoreError."""
        try:
            (folder / BEGAN).write_text(self._signature(step, watch), "utf-8")
        except OSError as error:
            raise explain_os_error(error, folder) from error

    def _signature(self, step: Step, watch: Watch) -> str:
        origins = {role: origin for role, (origin, _) in needs_of(step, self._entries).items()}
        return json.dumps([watch.state(), origins], sort_keys=True)

    def _agree(self, step: Step, opened: Sequence[Opened]) -> None:
        with self._lock:
            for what, was in contents(opened, step.roots, self._folder).items():
                if self._opened.setdefault(what, was) != was:
                    what_changed = f"changed while the build ran: {step.name} read another than steps before"
                    raise ChangedInput(what[0], what_changed)
