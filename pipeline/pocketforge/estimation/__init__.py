"""Estimated cycles and latency of an inference, from exact counts of the instructions that it runs.

`estimate` is the way in: counts (which basic blocks ran, how often) and the model's memory traffic go through the core
type's tables (`core_models/*.toml`) and its few fitted parameters (`calibration.json`), and come out as cycles and
milliseconds with an interval and a status. Emulated time is never measured time, and is never called so.
"""
