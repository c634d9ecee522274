"""The documents of a release: name → bytes. The same contents give the same bytes, on any machine."""

from __future__ import annotations

from pocketforge.files import json_text
from pocketforge.outcomes import files
from pocketforge.recipe.shipped_names import BOM, CARD, CARD_PAGE, MANIFEST, PROVENANCE
from pocketforge.release.bom import bill_of_materials
from pocketforge.release.card import model_card
from pocketforge.release.contents import Contents
from pocketforge.release.markdown import page
from pocketforge.release.provenance import provenance


def documents(contents: Contents) -> dict[str, bytes]:
    """All of them."""
    card = model_card(contents)
    texts = {
        MANIFEST: json_text(files.to_json(contents.manifest())),
        PROVENANCE: json_text(provenance(contents)),
        BOM: json_text(bill_of_materials(contents)),
        CARD: card,
        CARD_PAGE: page(contents.recipe.name, card),
    }
    return {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
