"""Recipes that come with Pocketforge: `shipped:digits_cnn` wherever a recipe is wanted."""

from __future__ import annotations

from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.folders import shipped_dir

PREFIX = "shipped:"


def models_folder() -> Path:
    """The shipped models."""
    return shipped_dir("models")


def recipe_path(text: str) -> Path:
    """A recipe's path from what the user wrote. Raises RecipeError for an unknown shipped name."""
    if not text.startswith(PREFIX):
        return Path(text)
    from pocketforge.recipe.names import suggest

    name, _, which = text.removeprefix(PREFIX).partition("/")
    known = sorted({p.parent.name for p in models_folder().glob("*/*.toml")})
    recipes = sorted((models_folder() / name).glob("*.toml")) if name in known else []
    if not recipes:
        raise RecipeError(f"no recipe is shipped under {name!r}{suggest(name, known)}")
    if which:
        named = [p for p in recipes if p.stem == which.removesuffix(".toml")]
        if not named:
            raise RecipeError(f"shipped:{name} has no recipe {which!r}{suggest(which, [p.stem for p in recipes])}")
        return named[0]
    release = models_folder() / name / "release.toml"
    return release if release in recipes else recipes[0]
