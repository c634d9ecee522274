"""What each stage is told: a frozen dataclass a stage, made by the plan, part of the step's key, read by the stage.

A module a stage, named as it. Standard library only, as the recipe's tables, of which specs are made.
"""
