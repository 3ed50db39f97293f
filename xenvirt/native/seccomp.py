"""The filters of system calls: an end's, and the daemon's."""

from collections.abc import Iterator

from xenvirt.native.extension import check, ffi, lib


def filter_calls_of_end() -> None:
    """Make no system call but those of an end, for good.

    OSError EOPNOTSUPP or EINVAL where there are no filters.
    """
    check(lib.xv_seccomp_end(), "seccomp filter")


def filter_calls_of_daemon() -> None:
    """Make no system call of those that are dangerous, for good; errors the same."""
    check(lib.xv_seccomp_daemon(), "seccomp filter")


def _call_names(number: int) -> Iterator[str]:
    at = 0
    while (name := lib.xv_seccomp_name(number, at)) != ffi.NULL:
        yield ffi.string(name).decode()
        at += 1


def filtered_calls() -> dict[str, list[str]]:
    """Name the system calls of each list of the filters, in its order."""
    return {
        "allowed": [*_call_names(lib.XV_SECCOMP_ALLOWED)],
        "limited": [*_call_names(lib.XV_SECCOMP_LIMITED)],
        "killed": [*_call_names(lib.XV_SECCOMP_KILLED)],
        "refused": [*_call_names(lib.XV_SECCOMP_REFUSED)],
    }
