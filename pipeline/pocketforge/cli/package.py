"""`pocketforge package`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import RecipePath, cache_option, echo, json_option, print_json

# As GENERATORS has them, whose module is not light.
KINDS = ("android", "cpp", "python", "web")


@click.command("package")
@click.argument("what", metavar="MODEL|RECIPE", type=click.Path(path_type=Path))
@click.option("--for", "kind", type=click.Choice(KINDS), required=True, help="What the app is written in.")
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the code: a new one, or one that was written so before.",
)  # fmt: skip
@click.option("--target", "-t", default="", help="Of a recipe with several targets: whose file it is.")
@click.option(
    "--recipe", type=RecipePath(), metavar="RECIPE",
    help="For a MODEL: the recipe it was built from, whose samples the test beside the code has.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(1, 1000), default=4, show_default=True, help="So many samples for the test."
)
@cache_option
@json_option
def command(
    what: Path, kind: str, out: Path, target: str, recipe: Path | None, count: int, cache: Path, as_json: bool
) -> None:
    """Write the code of an app that calls a release's model file.

    MODEL is a file in a release: build/NAME/release/MODEL.tflite. A RECIPE stands for the file of its target in
    build/NAME/release, and brings samples for a test.
    """
    from pocketforge.commands.package import file_of_target, package, recipe_samples
    from pocketforge.errors import RecipeError
    from pocketforge.package.model import read_model
    from pocketforge.package.output import check_folder
    from pocketforge.recipe.shipped import recipe_path
    from pocketforge.recipe.toml import load_recipe

    check_folder(out)
    file = what = recipe_path(str(what))
    if what.suffix == ".toml":
        if recipe is not None:
            raise RecipeError("--recipe is for a model file; a recipe brings its own samples")
        file, recipe = file_of_target(what, target), what
    elif target:
        raise RecipeError("--target is for a recipe, not for a model file")
    model = read_model(file)
    samples = None
    if recipe:
        model, samples = recipe_samples(load_recipe(recipe), model, cache, count)
    written = package(file, kind, out, samples=samples, model=model)
    if as_json:
        print_json(
            {
                "folder": str(out), "for": kind, "target": model.target, "sha256": model.sha256,
                "class": model.class_name, "samples": written.samples, "files": list(written.files),
            }
        )  # fmt: skip
        return
    echo(f"wrote    {out}")
    echo(f"class    {model.class_name}, which calls {model.path.name} (sha256 {model.sha256[:12]})")
    tested = f"{written.samples} samples" if written.samples else "no samples: give --recipe RECIPE.toml"
    echo(f"test     {tested}")
    for name in written.files:
        echo(f"  {name}")
