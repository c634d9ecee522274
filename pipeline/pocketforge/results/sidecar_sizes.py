"""What a sidecar says of the sizes that a file's inputs may have."""

from __future__ import annotations

from pocketforge.outcomes import files
from pocketforge.recipe import Recipe
from pocketforge.recipe.shipped_names import file_name
from pocketforge.recipe.sizes import suffix
from pocketforge.records import TargetRecord


def sizes_of(recipe: Recipe, record: TargetRecord, role: str) -> dict[str, object]:
    """Which sizes the file takes, where the model takes several: all of a range, with what was found at some of them;
    or of a bucket its own, with the files that are there for others."""
    model = recipe.model
    if not model.varying:
        return {}
    (target,) = [each for each in recipe.targets if each.name == record.name]
    if not target.bucket:
        ranges = {each.name: {"least": each.least, "most": each.most, "step": each.step} for each in model.varying}
        axes = [{each.name: each.axis for each in given.varying} for given in model.inputs]
        found = [each for each in record.facts.sizes if each.role == role]
        return {"sizes": ranges, "size_axes": axes, "measured_at": files.to_json(found)}
    whole = target.name.removesuffix(suffix(target.bucket))
    others = [each for each in recipe.targets if each.bucket and each.name == whole + suffix(each.bucket)]
    buckets = [
        {"file": file_name(each.name, each.runtime, role), "sizes": model.sizes_of(each.bucket)} for each in others
    ]
    return {"bucket": model.sizes_of(target.bucket), "buckets": buckets}
