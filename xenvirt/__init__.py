"""Xen's split network driver in userspace."""

__version__ = "0.1.0"
