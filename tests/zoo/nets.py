"""All nets of the zoo, by name."""

from __future__ import annotations

from zoo import classifiers, others

NETS = (*others.NETS, *classifiers.NETS)
BY_NAME = {net.name: net for net in NETS}
assert len(BY_NAME) == len(NETS), "a name twice"
