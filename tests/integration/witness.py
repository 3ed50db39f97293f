"""Whether a link that should not notice anything carries frames.

By UDP: the answers to a ping share a socket of Linux's with those of all other network
namespaces, where a link that another test has cut may hold them up (docs/soak.md).
"""

from tests.integration.links import Link
from tests.soak.echo import Echo, Responder

TIMEOUT_S = 5
TRY_S = 0.5


def answers(link: Link, address: str) -> bool:
    """Whether the domain of a link answers at its address, within five seconds."""
    responder = Responder(link.netns, address)
    try:
        with Echo(address) as echo:
            return any(echo.answered(TRY_S) for _ in range(int(TIMEOUT_S / TRY_S)))
    finally:
        responder.close()
