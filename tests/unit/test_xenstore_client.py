"""The asynchronous client's requests, over a socket and over a ring."""

import asyncio

import pytest

from tests.helpers_xenstore import run
from tests.helpers_xenstore_client import TRANSPORTS, pair
from xenvirt.abi.xs_wire import ServerFeature, XsWire
from xenvirt.errors import StoreError
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAccessError,
    StoreBusyError,
    StoreConnectionError,
    StoreInvalidError,
    StoreNotFoundError,
    StoreTooBigError,
    request_error,
)
from xenvirt.xenstore.perms import Access, Perm


@TRANSPORTS
def test_nodes_are_written_listed_read_and_removed(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            dom0, guest = both.dom0, both.guest
            await guest.write("data/a", "grün")
            await guest.write("data/b", b"\xff\0")
            await guest.mkdir("data/c")
            assert await guest.ls("data") == ["a", "b", "c"]
            assert await dom0.read("/local/domain/1/data/a") == "grün"
            assert await guest.read_bytes("data/b") == b"\xff\0"
            await guest.rm("data/b")
            assert not await guest.exists("data/b")
            assert await guest.exists("data/c")
            await guest.set_perms("data/c", ["n1", Perm(Access.READ, 2)])
            assert await guest.get_perms("data/c") == (
                Perm(Access.NONE, 1),
                Perm(Access.READ, 2),
            )

    run(main())


def test_bytes_that_are_no_text_survive_as_text() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.guest.write("a", b"gr\xc3\xbcn\xff")
            await both.guest.write("b", await both.guest.read("a"))
            assert await both.guest.read_bytes("b") == b"gr\xc3\xbcn\xff"

    run(main())


@TRANSPORTS
def test_a_message_longer_than_the_ring_passes_both_ways(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            await both.dom0.write("/local/domain/1/long", b"x" * 4000)
            assert await both.guest.read("long") == "x" * 4000
            await both.guest.write("own", b"y" * 2000)
            assert await both.dom0.read("/local/domain/1/own") == "y" * 2000

    run(main())


@TRANSPORTS
def test_many_requests_in_flight_find_their_replies(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            names = [f"n{i}" for i in range(200)]
            await asyncio.gather(*(both.guest.write(n, n) for n in names))
            assert await asyncio.gather(*map(both.guest.read, names)) == names

    run(main())


@TRANSPORTS
def test_a_huge_directory_is_listed_in_parts(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            names = [f"{'n' * 60}{i}" for i in range(300)]
            await asyncio.gather(
                *(both.dom0.mkdir(f"/local/domain/1/{name}") for name in names)
            )
            assert sorted(await both.guest.ls("/local/domain/1")) == sorted(names)

    run(main())


def test_a_huge_directory_that_changes_meanwhile_is_listed_again() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            names = [f"{'n' * 60}{i}" for i in range(300)]
            await asyncio.gather(*(both.dom0.mkdir(f"/d/{name}") for name in names))
            listings = []

            async def churn(number: int) -> None:
                await both.dom0.mkdir(f"/d/late{number}")

            for number in range(20):
                found, _ = await asyncio.gather(both.dom0.ls("/d"), churn(number))
                assert len(found) == len(set(found))
                listings.append(set(found))
            for number, listed in enumerate(listings):
                settled = {*names, *(f"late{earlier}" for earlier in range(number))}
                assert listed in (settled, settled | {f"late{number}"})

    run(main())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("none", StoreNotFoundError),
        ("/tool", StoreAccessError),
        ("a//b", StoreInvalidError),
        ("n" * 5000, StoreTooBigError),
        ("a\0b", StoreInvalidError),
        ("\ud800", StoreInvalidError),
    ],
)
def test_errors_are_typed_and_carry_the_path(
    path: str, error: type[StoreError]
) -> None:
    async def main() -> None:
        async with pair("socket") as both:
            with pytest.raises(error) as caught:
                await both.guest.read(path)
            assert caught.value.path == path  # type: ignore[attr-defined]

    run(main())


def test_a_nul_in_a_path_cannot_become_part_of_a_value() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            with pytest.raises(StoreInvalidError):
                await both.guest.write("a\0b", "v")
            assert not await both.guest.exists("a")

    run(main())


@pytest.mark.parametrize(
    ("payload", "name", "number"),
    [(b"EROFS\0", "EROFS", 30), (b"EWHAT\0", "EINVAL", 22), (b"\xff", "EINVAL", 22)],
)
def test_an_unknown_error_is_einval(payload: bytes, name: str, number: int) -> None:
    error = request_error(payload)
    assert (error.errno_name, error.errno) == (name, number)


def test_every_error_of_the_protocol_has_an_exception() -> None:
    from xenvirt.abi.xs_wire import XSD_ERRORS

    plain = {n for n in XSD_ERRORS if type(request_error(n.encode())) is RequestError}
    assert plain == {"EISDIR", "ENOTEMPTY", "EROFS", "EISCONN"}


def test_domains_are_introduced_and_released() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            dom0 = both.dom0
            assert await dom0.domain_path(2) == "/local/domain/2"
            assert not await dom0.is_domain_introduced(2)
            await dom0.introduce(2, 5, 3)
            assert await dom0.is_domain_introduced(2)
            await dom0.resume(2)
            await dom0.release(2)
            assert not await dom0.is_domain_introduced(2)

    run(main())


def test_a_device_model_gets_the_rights_of_its_target() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.guest.write("secret", "v")
            for domid in (1, 2):
                await both.dom0.introduce(domid, 5, 3)
            model = await Client.connect_socket(both.store.socket(2))
            async with model:
                with pytest.raises(StoreAccessError):
                    await model.read("/local/domain/1/secret")
                await both.dom0.set_target(2, 1)
                assert await model.read("/local/domain/1/secret") == "v"

    run(main())


@TRANSPORTS
def test_features_are_offered_until_a_domain_is_introduced(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            offered = await both.guest.get_features()
            assert ServerFeature.WATCH_DEPTH in offered
            await both.dom0.set_features(2, ServerFeature.ERROR)
            assert await both.dom0.get_features(2) == ServerFeature.ERROR
            await both.dom0.introduce(2, 5, 3)
            with pytest.raises(StoreBusyError):
                await both.dom0.set_features(2, ServerFeature.ERROR)
            with pytest.raises(StoreAccessError):
                await both.guest.get_features(2)

    run(main())


def test_quotas_are_read_and_set_for_one_domain_and_for_all() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            assert "nodes" in await both.dom0.quota_names()
            await both.dom0.set_quota("nodes", 7, 1)
            assert await both.dom0.get_quota("nodes", 1) == 7
            assert await both.dom0.get_quota("nodes") == 1000
            await both.dom0.set_quota("watches", 5)
            assert await both.dom0.get_quota("watches") == 5
            with pytest.raises(StoreInvalidError):
                await both.dom0.get_quota("none")

    run(main())


def test_a_raw_request_is_sent_as_it_is() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            reply = await both.dom0.request(XsWire.GET_DOMAIN_PATH, b"7\0")
            assert reply == b"/local/domain/7\0"

    run(main())


@TRANSPORTS
def test_closing_wakes_every_waiter(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            guest = both.guest
            watch = guest.watch("a")
            await anext(watch)
            waiters = [
                asyncio.ensure_future(anext(watch)),
                asyncio.ensure_future(guest.read("a")),
            ]
            await asyncio.sleep(0)
            guest.close()
            results = await asyncio.gather(*waiters, return_exceptions=True)
            assert [type(r) for r in results] == [StoreConnectionError] * 2
            with pytest.raises(StoreConnectionError, match="closed by this end"):
                await guest.read("a")
            watch.close()

    run(main())


def test_a_server_that_closes_is_a_clear_error() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            watch = both.guest.watch("a")
            await anext(watch)
            both.store.server.domain_dead(1)
            with pytest.raises(StoreConnectionError, match="no connection"):
                await anext(watch)

    run(main())


def test_no_server_is_a_clear_error() -> None:
    async def main() -> None:
        with pytest.raises(StoreConnectionError, match="/nonexistent/socket"):
            await Client.connect_unix("/nonexistent/socket")

    run(main())


@TRANSPORTS
def test_a_cancelled_request_does_not_disturb_the_others(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            cancelled = asyncio.ensure_future(both.guest.write("a", "v"))
            await asyncio.sleep(0)
            cancelled.cancel()
            assert await both.guest.ls("/local/domain/1") == ["a"]

    run(main())
