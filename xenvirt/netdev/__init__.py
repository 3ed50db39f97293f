"""Linux's side of a vif: TAPs, links, addresses and network namespaces.

The only package that imports pyroute2. Everything here blocks: call it before
an event loop starts, or in `asyncio.to_thread`. pyroute2 refuses to work
inside a running loop, and its import costs 0.1 to 0.2 s, so modules import it
when a function first needs it.
"""
