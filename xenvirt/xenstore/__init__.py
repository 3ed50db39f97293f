"""XenStore: the tree of small values through which domains agree.

The server is native/xenstore, a thread of C; `server` is its face, `trace` reads what
it tells of itself, `standalone` runs it without a daemon.

The clients are `client` (asynchronous, over a socket or a ring page) and `sync_client`;
docs/xenstore-client.md shows them. Beneath them, without I/O: framing, requests,
payloads, perms, errors, events, retries; with I/O: session, transports, ring_client,
sync_connection. On top of them: tree, snapshot.

Import from the modules; the package itself imports nothing, so that a command that
reads one value starts fast.
"""
