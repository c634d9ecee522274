"""The runtimes, named in registries.RUNTIMES and imported on use.

A runtime is an export module (`export(...)`, with the toolchain) and a session module under `sessions/`, which
opens one exported file with only the runtime itself, in a process of its own.
"""
