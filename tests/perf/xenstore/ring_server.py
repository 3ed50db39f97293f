"""A store that serves domains by ring, as the daemon does: a process of the benchmark.

    python -m tests.perf.xenstore.ring_server PLAN

PLAN is JSON: `socket`, `state` or null, `pages_fd`, and for each domain from 1 on its
`pending_fd` and `notify_fd` in `channels`. INTRODUCE of domain N begins to serve page
N - 1 of the file.
"""

import errno
import json
import mmap
import select
import socket
import sys
from pathlib import Path

from xenvirt.xenstore.server import PAGE_SIZE, StoreServer, Upcall, UpcallKind


def main() -> None:
    """Serve until killed."""
    plan = json.loads(sys.argv[1])
    channels = plan["channels"]
    pages = memoryview(mmap.mmap(plan["pages_fd"], PAGE_SIZE * len(channels)))
    server = StoreServer(Path(plan["state"]) if plan["state"] else None)
    for domid in range(1, len(channels) + 1):
        server.domain_created(domid)

    def serve(upcall: Upcall) -> int:
        if upcall.kind is not UpcallKind.INTRODUCE:
            return errno.ENOSYS
        first = (upcall.domid - 1) * PAGE_SIZE
        page = pages[first : first + PAGE_SIZE]
        server.add_ring(upcall.domid, page, *channels[upcall.domid - 1])
        return 0

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(plan["socket"])
    listener.listen()
    server.listen(listener)
    print("ready", flush=True)
    # select.select() takes no descriptor from 1,024 on.
    poll = select.poll()
    poll.register(server.upcall_fd, select.POLLIN)
    while poll.poll():
        while (upcall := server.next_upcall()) is not None:
            server.answer(upcall.conn_id, serve(upcall))


if __name__ == "__main__":
    main()
