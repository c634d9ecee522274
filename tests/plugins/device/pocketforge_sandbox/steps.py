"""What a target's file goes through in a sandbox: its outputs are compared, then it is timed."""

from collections.abc import Mapping

from pocketforge.plan.builder import Steps
from pocketforge.plan.devices import add_verify
from pocketforge.plan.steps import OnDevice, Timed
from pocketforge.recipe import Target
from pocketforge.recipe.device import Device
from pocketforge.recipe.limits import DeviceLimits
from pocketforge.registries import RUNTIMES
from pocketforge.specs.places import Place
from pocketforge.specs.verify_device import VerifyDeviceSpec
from pocketforge_sandbox.entry import Sandbox
from pocketforge_sandbox.timing import SandboxSpec


def add_steps(build: Steps, target: Target, device: Device, needs: Mapping[str, str]) -> OnDevice:
    assert isinstance(device, Sandbox)
    place = Place(device.via, "", device.time_limit_s)
    identity = build.facts.devices[device.name]
    spec = VerifyDeviceSpec(
        target.runtime, target.quantize.scheme, build.recipe.task, place, 0, DeviceLimits(), emulator=identity
    )
    verify = add_verify(build, target, spec, needs)
    bench = build.add(
        "time_sandbox",
        target.name,
        SandboxSpec(target.runtime, identity, place, device.processes, device.samples),
        {role: needs[role] for role in ("data", "export")},
        also=RUNTIMES[target.runtime].run_libraries,
        after=(verify,),
        exclusive=True,
    )
    return Timed(device.via, verify, bench)
