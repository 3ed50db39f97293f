"""Domains, their memory and event channels; the hypercall server and its clients."""
