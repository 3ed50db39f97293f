"""What is done again, how often, and after which pause.

A transaction that conflicted begins anew. So does, a few times, one that was refused
what looks wrong: a store shows each node as it was when the transaction first looked
at it, so that a parent may be missing whose child is there.

When the connection is lost, and there is another one,

    request                       what becomes of it
    ----------------------------  -------------------------------------------------
    outside a transaction         sent again, in the old order
    CONTROL, INTRODUCE, RELEASE   StoreUncertainError: twice may not be as once
    within a transaction          StoreAgainError: the store has dropped it
    its commit                    StoreUncertainError
    made meanwhile                waits, and is sent

A removal that is sent again and finds nothing had been done the first time.
"""

from typing import Final

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreConnectionError,
    StoreInvalidError,
    StoreNotFoundError,
    StoreUncertainError,
)

MAX_ATTEMPTS: Final = 100
"""About five seconds of pauses, if every attempt fails at once."""

TORN: Final = (StoreInvalidError, StoreNotFoundError)
"""What a transaction may be refused with for what it sees of others' changes."""

TORN_ATTEMPTS: Final = 4
"""Who is refused so often at once is wrong."""

_AT_ONCE: Final = 3
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 0.1

_NOT_TWICE: Final = frozenset({XsWire.CONTROL, XsWire.INTRODUCE, XsWire.RELEASE})


def pause_s(attempts: int) -> float:
    """Seconds to wait before one more, after so many have failed.

    None before the first few. Later ones wait a random time, up to one that doubles
    until it is 0.1 s, so that those who conflict come apart.
    """
    if attempts < _AT_ONCE:
        return 0.0
    import random

    longest = _SHORTEST_S * 2 ** min(attempts - _AT_ONCE, 16)
    return random.uniform(0, min(longest, _LONGEST_S))


def not_again(
    type_: int, payload: bytes, tx_id: int, loss: Exception
) -> StoreAgainError | StoreConnectionError | None:
    """What a request in flight gets when the connection is lost; None: another try."""
    commit = type_ == XsWire.TRANSACTION_END and payload == b"T\0"
    if commit or type_ in _NOT_TWICE:
        return StoreUncertainError("no answer from the store", cause=str(loss))
    return StoreAgainError("EAGAIN") if tx_id else None
