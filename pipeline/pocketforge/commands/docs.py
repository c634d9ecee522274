"""What `pocketforge docs` does: the pages of docs/, which ship inside the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.folders import shipped_dir
from pocketforge.recipe import suggest


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        name: As `pocketforge docs NAME` takes it.
        title: Its heading.
        path: Of its Markdown.
    """

    name: str
    title: str
    path: Path

    @property
    def text(self) -> str:
        """Its Markdown. Raises RecipeError where it cannot be read."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"cannot read {self.path}: {error.strerror}", "install Pocketforge again") from None


def pages() -> list[Page]:
    """Every page, by name. Raises RecipeError where none is installed."""
    found = [_page(path) for path in sorted(shipped_dir("docs").glob("*.md"))]
    if not found:
        raise RecipeError(f"there are no pages in {shipped_dir('docs')}", "install Pocketforge again")
    return found


def page(name: str) -> Page:
    """The page of a name, also as a file's: recipe.md, docs/recipe.md. Raises RecipeError for one that there is not."""
    word = name.rpartition("/")[2].removesuffix(".md")
    known = {each.name: each for each in pages()}
    if word not in known:
        raise RecipeError(f"docs have no page {name!r}{suggest(word, known)}")
    return known[word]


def _page(path: Path) -> Page:
    with path.open(encoding="utf-8") as file:
        return Page(path.stem, file.readline().strip("# \n"), path)
