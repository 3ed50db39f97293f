"""One end of a vif, as what connects it needs it."""

from dataclasses import dataclass

from xenvirt.abi.ids import DevId, DomId
from xenvirt.hypervisor.interface import Hypervisor
from xenvirt.vif.interface import Interface
from xenvirt.vif.workers import Workers


@dataclass(frozen=True, slots=True)
class End:
    """Whose queues they are, and between what. `label` is for the log."""

    label: str
    devid: DevId
    otherend_id: DomId
    hypervisor: Hypervisor
    workers: Workers
    interface: Interface
