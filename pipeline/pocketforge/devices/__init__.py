"""Where model files run: a visible registry, imported on use."""

DEVICES = {
    "host": "pocketforge.devices.host",
    "emulator": "pocketforge.devices.emulator.device",
    "adb": "pocketforge.devices.adb",
}
