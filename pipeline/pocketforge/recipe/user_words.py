"""How a recipe names code of the user's: `file.py:function`."""

from __future__ import annotations

import re
from typing import Final

USERS: Final = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[A-Za-z_]\w*)(?::(?P<better>\w+))?\Z")


def user_code(written: str) -> tuple[str, str] | None:
    """`file.py:function` → its file and the function's name; None for what is no file of code."""
    match = USERS.match(written)
    return (match["file"], match["name"]) if match and match["better"] is None else None
