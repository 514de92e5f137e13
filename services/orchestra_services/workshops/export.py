"""A person's own files as a download that is whole or visibly broken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from orchestra_hub.errors import NotAllowed, NotFound
from orchestra_hub.ids import seat_label
from orchestra_hub.lifecycle import effective_state
from orchestra_hub.permissions import Action
from orchestra_hub.workshop import Role, State
from orchestra_services.workshops.context import Context, Standing, log

__all__ = ["Download", "own_files", "send"]


@dataclass(frozen=True)
class Download:
    """An archive to be streamed; `chunks` is closed by whoever sends it."""

    file_name: str
    chunks: AsyncGenerator[bytes, None]
    workshop_id: str
    user_name: str


def own_files(context: Context, standing: Standing) -> Download:
    """The person's own files, from the first seat until the purge.

    Raises `NotFound` (also later, at the first chunk, when there are no files), `NotAllowed` when the template keeps
    exports from learners.
    """
    standing.demand(Action.EXPORT_OWN)
    place, workshop = standing.enrolment, standing.workshop
    if place is None or effective_state(workshop, context.now) is State.PURGED:
        raise NotFound("There are no files of yours in this workshop any more.")
    if place.role is Role.LEARNER and not workshop.template.learner_export:
        raise NotAllowed("This workshop doesn't give files out to learners. Ask your instructor.")
    chunks = context.provisioner.export(workshop.id, place.account_key)
    return Download(f"{seat_label(workshop.id, place.user_name)}.tar.gz", chunks, workshop.id, place.user_name)


async def send(handler: RequestHandler, download: Download) -> None:
    """Stream it, in chunks of unknown total length. Breaking off closes the connection without the last chunk, so that
    the browser sees a failed download and no whole file."""
    async with aclosing(download.chunks):
        try:
            first = await anext(download.chunks)  # what is refused is refused before the answer begins
        except StopAsyncIteration:
            raise NotFound("There are no files of yours in this workshop.") from None
        handler.set_header("Content-Type", "application/gzip")
        handler.set_header("Content-Disposition", f'attachment; filename="{download.file_name}"')
        try:
            handler.write(first)
            await handler.flush()
            async for chunk in download.chunks:
                handler.write(chunk)
                await handler.flush()
        except StreamClosedError:
            log.info("export given up by its reader workshop=%s user=%s", download.workshop_id, download.user_name)
            return
        except Exception:
            log.exception("export broke off workshop=%s user=%s", download.workshop_id, download.user_name)
            handler.detach().close()
            return
    log.info("exported workshop=%s user=%s", download.workshop_id, download.user_name)
