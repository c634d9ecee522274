"""How often garbage is looked for while tests run: seldom.

Traced graphs are made of many objects, nearly all of which live on: after every 700 new ones, as Python does, they are
looked through for 4 of 100 CPU s in tests that export, 2 in stages. Of small nets, what is found later is no memory.
"""

from __future__ import annotations

# As gc.set_threshold takes them: new objects until the young are looked through, and how many such searches until older
# ones are too.
SELDOM = (10_000, 20, 10)
