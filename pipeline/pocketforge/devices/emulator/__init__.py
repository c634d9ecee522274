"""Emulated ARM CPUs: the runtimes' real aarch64 libraries under qemu-user, on a device profile's cores.

Everything it needs is fetched and built by `pocketforge device setup emulator` (provision.py) and found again by
`parts.installed()`.
"""
