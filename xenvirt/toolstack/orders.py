"""What the daemon may ask of the launcher, and how that is carried out.

The launcher is root and the daemon is not: arguments are checked like a stranger's.
"""

import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import arguments, wire
from xenvirt.hypervisor.domains import DOM0_NAME, check_name

_ROLES: Final = ("frontend", "backend")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGKILL)
_PID_MAX: Final = 1 << 22

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """One of them; nobody waits for the answer of one that is not `answered`.

    `handler` takes the arguments by name; with `takes_fds` also the packet's
    descriptors, as `fds`, which it owns then.
    """

    handler: Callable[..., dict[str, object]]
    args: Mapping[str, arguments.Check] = field(default_factory=dict)
    answered: bool = True
    takes_fds: bool = False


def carry_out(
    orders: Mapping[str, Order], packet: wire.Packet, *, heard: bool
) -> dict[str, object] | None:
    """Do what a packet says and return the reply; None if nobody waits for one.

    With `heard` false the daemon is gone: what it would want an answer to is left.
    """
    name = str(packet.body.pop("op", None))
    order = orders.get(name)
    answered = order is None or order.answered
    fds, packet.fds = packet.fds, []
    try:
        if order is None:
            raise HypercallError("ENOSYS", f"the launcher knows no {name!r}")
        if answered and not heard:
            return None
        args = arguments.parse(name, packet.body, order.args)
        if order.takes_fds:
            args["fds"], fds = fds, []
        reply: dict[str, object] = {"ok": order.handler(**args)}
    except HypercallError as error:
        reply = {"error": error.errno_name, "why": error.why}
    except OSError as error:
        reply = {"error": "EIO", "why": error.strerror or str(error)}
    except XenvirtError as error:
        reply = {"error": "EIO", "why": str(error)}
    except Exception as error:
        _log.exception("the launcher could not do what it was told")
        reply = {"error": "EIO", "why": f"{type(error).__name__} in the launcher"}
    finally:
        wire.close_fds(fds)
    if answered:
        return reply if heard else None
    if "error" in reply:
        _log.error("the launcher cannot %s: %s", name, reply["why"])
    return None


def name(argument: str, value: object) -> str:
    """Check for a domain's name."""
    text = arguments.text(argument, value)
    check_name(text)
    return text


def name_of_any(argument: str, value: object) -> str:
    """Check for a domain's name, domain 0's included."""
    return DOM0_NAME if value == DOM0_NAME else name(argument, value)


def name_or_none(argument: str, value: object) -> str | None:
    """Check for a domain's name or null."""
    return None if value is None else name(argument, value)


def role(argument: str, value: object) -> str:
    """Check for `frontend` or `backend`."""
    if value not in _ROLES:
        raise HypercallError("EINVAL", f"{argument} is none of {', '.join(_ROLES)}")
    return str(value)


def stop_signal(argument: str, value: object) -> int:
    """Check for the number of SIGTERM or SIGKILL."""
    for sig in _SIGNALS:
        if value == sig:
            return sig
    raise HypercallError("EINVAL", f"{argument} is neither SIGTERM nor SIGKILL")


pid: Final = arguments.number(1, _PID_MAX)
