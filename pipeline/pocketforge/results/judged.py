"""What a target's files are worth: by `verify` on this machine, or by the device that judged them in its place."""

from __future__ import annotations

import dataclasses

from pocketforge.outcomes.verify import Verified
from pocketforge.outcomes.verify_device import VerifiedThere
from pocketforge.plan.steps import Lane
from pocketforge.results.devices import in_order
from pocketforge.run.walk import Outcome


def verified_of(lane: Lane, outcome: Outcome) -> Verified | None:
    """What `verify` found. Of a file on which kernels here say nothing, the figures are the first device's that judged
    it; without one it has none, and no budget on them is kept."""
    verified = outcome.result(lane.verify, Verified)
    if verified is None or not verified.not_judged:
        return verified
    for device, on in in_order(lane):
        there = outcome.result(on.verify, VerifiedThere) if on.verify else None
        if there is not None and there.judged:
            runtimes = {f"{there.runtime} on {device}": "works", **verified.runtimes}
            return dataclasses.replace(verified, files=there.judged, runtimes=runtimes)
    return verified
