"""The data plane in C, and nothing of it that Python need not see.

Only `extension` imports the extension. Objects here own what C allocated and keep
alive what C points at; C's -errno becomes an OSError, its GNTST_* a GrantError.
"""
