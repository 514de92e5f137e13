"""Whether the parts answer, asked the way a person's browser would: by host name, through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from orchestra_hub.localhost import AsyncLoopbackTransport
from orchestra_services.up.settings import InnerPorts, UpSettings

__all__ = ["POLL_S", "answers", "hub_answers", "local_client", "pages_answer", "until"]

POLL_S = 0.1


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    """Whether `url` answers with a success."""
    try:
        response = await client.get(url)
    except httpx.HTTPError:
        return False
    return response.is_success


async def until(
    check: Callable[[], Awaitable[bool]],
    *,
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """Whether `check` became true within `timeout_s`; asked every `POLL_S` seconds."""
    deadline_s = clock() + timeout_s
    while not await check():
        if clock() >= deadline_s:
            return False
        await sleep(POLL_S)
    return True


def local_client(settings: UpSettings) -> httpx.AsyncClient:
    """A client that finds this machine under the domain's names; closed by the caller."""
    return httpx.AsyncClient(transport=AsyncLoopbackTransport(settings.domain), timeout=5)


async def hub_answers(client: httpx.AsyncClient, ports: InnerPorts) -> bool:
    """Whether the hub itself answers, past the proxy."""
    return await answers(client, f"http://127.0.0.1:{ports.hub}/hub/api/")


async def pages_answer(client: httpx.AsyncClient, settings: UpSettings) -> list[str]:
    """The addresses that don't answer through the proxy yet: of the hub's sign-in page and the API's health."""
    wanted = (f"{settings.origin('app')}/hub/login", f"{settings.origin('api')}/v1/health")
    found = await asyncio.gather(*(answers(client, url) for url in wanted))
    return [url for url, ready in zip(wanted, found, strict=True) if not ready]
