"""A process's name, and the signal that it gets when its parent dies."""

from xenvirt.native.extension import check, lib


def set_name(name: str) -> None:
    """Be called `name`, cut to 15 bytes, where `ps -e` and top show it."""
    check(lib.xv_set_name(name.encode()[:15]), "process name")


def set_parent_death_signal(signal: int) -> None:
    """Ask for `signal` when the parent dies; dropping privileges forgets it."""
    check(lib.xv_set_parent_death_signal(signal), "parent death signal")
