"""Doing again what a dropped link broke, where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from android_bench.errors import PhoneError, TransferDamaged

ATTEMPTS = 3
# What a phone gets to come back before a repeat: a link that was cut is offline for about 1 s, a USB port for 5.
SETTLE_S = 30.0

T = TypeVar("T")


def worth_repeating(error: PhoneError) -> bool:
    """Whether the same again may work: the link was at fault."""
    return error.transient or isinstance(error, TransferDamaged)


def repeated(action: Callable[[], T], wait: Callable[[float], None], attempts: int = ATTEMPTS) -> T:
    """What `action` returns, tried up to `attempts` times; before each repeat `wait` is given SETTLE_S seconds.

    Raises the last try's error. When the phone does not come back, too, unless `wait` says what to do about it
    (Unauthorized, say).
    """
    for left in reversed(range(attempts)):
        try:
            return action()
        except PhoneError as error:
            if not left or not worth_repeating(error):
                raise
            try:
                wait(SETTLE_S)
            except PhoneError as away:
                if not away.transient:
                    raise
                raise error from away
    raise AssertionError("unreachable")
