"""Where a file runs, as stages are told and as devices are asked: one class a kind of device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """What every kind of device says. A kind that has more to say has a class of its own.

    Attributes:
        via: The kind, a name of DEVICES.
        cores: Which of its cores; its own choice when empty.
        time_limit_s: After so long a run is given up.
    """

    via: str
    cores: str
    time_limit_s: float

    def in_words(self) -> str:
        """For messages, where no profile has a name for it."""
        return self.via


@dataclass(frozen=True, slots=True)
class PhonePlace(Place):
    """A phone over adb.

    Attributes:
        name: The recipe's name of it, for messages.
        serial: Which phone; the only one when empty.
        threads: So many run the file.
    """

    name: str = ""
    serial: str = ""
    threads: int = 1

    def in_words(self) -> str:
        return f"{self.name} ({self.cores} cores)"


HERE = Place("host", "", 1800.0)
"""This host, which a file has half an hour on."""
