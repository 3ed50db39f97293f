"""XenStore: the tree of small values through which domains agree.

Without I/O: path, perms, quota, store, transaction, watch, and the engine that puts
them together. With I/O: server and ring (the daemon's side), client and sync_client.
Import from the modules; the package itself imports nothing, so that a command that
reads one value starts fast.
"""
