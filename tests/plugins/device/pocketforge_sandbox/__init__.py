"""A kind of device: a process of its own on this machine, which may take only so long."""

from pocketforge.registries import DeviceInfo, StageInfo

DEVICE = DeviceInfo(
    entry="pocketforge_sandbox.entry:Sandbox",
    runner="pocketforge_sandbox.runner",
    steps="pocketforge_sandbox.steps:add_steps",
    results="pocketforge_sandbox.results:read",
    keeps_time=True,
    facts="pocketforge_sandbox.entry:look_up",
    about="sandboxes",
    tables="pocketforge_sandbox.results:tables",
    stages={"time_sandbox": StageInfo("pocketforge_sandbox.timing", 1, ("numpy",))},
    bench="pocketforge_sandbox.bench:BENCH",
    bench_table="pocketforge_sandbox.bench:show",
)
