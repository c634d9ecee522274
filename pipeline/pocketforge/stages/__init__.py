"""The stages, a module each, named in registries.STAGES and imported on use.

A stage is a module with `run(inputs, spec, out, emit)`. `inputs` maps a role to a folder (an earlier step's
result) or a path of the user's; `spec` is of specs/, all of it part of the step's key; `out` is an empty folder
to write into; `emit(fraction, message)` reports progress. Stages never see the store.
"""
