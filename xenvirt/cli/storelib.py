"""What the commands of `xenvirt xenstore` share: which store, and how it refuses."""

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import click

from xenvirt.cli.settings import pass_settings
from xenvirt.errors import NotFoundError, NotPermittedError, XenvirtError
from xenvirt.xenstore.errors import RequestError, StoreConnectionError
from xenvirt.xenstore.sync_client import SyncClient, SyncNodes

T = TypeVar("T")

_CHOSEN: Final = "xenvirt.store"


def choose_store(ctx: click.Context, socket_path: Path | None) -> None:
    """Remember which store the commands below `ctx` are about; None: the daemon's.

    Without either --socket or --run-dir, XENSTORED_PATH says it, as for xenstore-*.
    """
    if socket_path is None and pass_settings().run_dir is None:
        named = os.environ.get("XENSTORED_PATH")
        socket_path = Path(named) if named else None
    ctx.meta[_CHOSEN] = socket_path


def store_path() -> Path:
    """The path of the store's socket."""
    chosen: Path | None = click.get_current_context().meta[_CHOSEN]
    return chosen or pass_settings().find_run_dir().xenstored_socket


@contextlib.contextmanager
def connected() -> Iterator[SyncClient]:
    """The store that was chosen; NotFoundError if no daemon runs, or another error."""
    chosen: Path | None = click.get_current_context().meta[_CHOSEN]
    if chosen is not None:
        with _client(chosen) as store:
            yield store
        return
    with pass_settings().connect() as host:
        yield host.store


def _client(path: Path) -> SyncClient:
    try:
        return SyncClient(str(path))
    except StoreConnectionError as error:
        if isinstance(error.__cause__, PermissionError):
            raise NotPermittedError(
                f"may not connect to {path}",
                cause="it is for the user who runs the store",
                hint="run it as root, with sudo",
            ) from error
        raise NotFoundError(
            f"no store listens at {path}",
            cause=error.cause,
            hint=f"xenvirt xenstore serve --socket {shlex.quote(str(path))} would",
        ) from error


def transact(work: Callable[[SyncNodes], T]) -> T:
    """Do `work` in a transaction, again if it conflicts."""
    with connected() as store:
        return store.transact(work)


def named(what: str, path: str, request: Callable[[str], T]) -> T:
    """Make a request about a path; say in xenstore-*'s words that it failed."""
    with failing(f"{what} {path}"):
        return request(path)


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Say `what` could not be done when the store refuses."""
    try:
        yield
    except RequestError as error:
        cause = f"{os.strerror(error.errno)} ({error.errno_name})"
        raise XenvirtError(what, cause=cause) from error


def as_text(value: bytes | None) -> str | None:
    """A value for JSON; bytes that are not UTF-8 become lone surrogates."""
    return None if value is None else value.decode("utf-8", "surrogateescape")
