"""Lay out what `nox -s docs` makes a site of: docs/ with the root's pages, in build/site_pages.

A link to a file of the checkout that no page has becomes that file's name: the site lies elsewhere. One to what is not
there stays as it is, and fails the build.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "site_pages"
# Page → the file of the root that it is made of.
FROM_ROOT = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
_LINK = re.compile(r"\[([^]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    sources = {page: PurePosixPath("docs", page.relative_to(PAGES).as_posix()) for page in PAGES.rglob("*.md")}
    sources |= {PAGES / page: PurePosixPath(source) for page, source in FROM_ROOT.items()}
    for page, source in sources.items():
        page.write_text(linked((ROOT / source).read_text(encoding="utf-8"), source), encoding="utf-8")


def linked(text: str, source: PurePosixPath) -> str:
    """The text of a file of the checkout, with its links as the site has them."""

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        place = (ROOT / source.parent / target).resolve()
        if "://" in target or not place.is_relative_to(ROOT) or not place.exists():
            return match[0]
        path = place.relative_to(ROOT).as_posix()
        page = next((page for page, of in FROM_ROOT.items() if of == path), "")
        if not page and not path.startswith("docs/"):
            return words if path in words else f"{words} (`{path}`)"
        up = "../" * (len(source.parts) - 2)
        return f"[{words}]({up}{page or path.removeprefix('docs/')}{anchor})"

    return _LINK.sub(link, text)


if __name__ == "__main__":
    main()
