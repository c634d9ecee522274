"""Where a target's numbers break: real samples through every form that the model takes on its way to an app.

    eager → exported → prepared → converted → lowered → runtime

Each stage is compared with the one before it, and layer by layer inside of the first that differs by more than it may.
"""
