"""Where model files run: a visible registry, imported on use."""

DEVICES = {
    "host": "pipeline.devices.host",
    "emulator": "pipeline.devices.emulator.device",
    "adb": "pipeline.devices.adb",
}
