"""People who use a platform through its pages, without a browser: forms, cookies, redirects as browsers do them."""

from __future__ import annotations

import html
import json
import re
import socket as sockets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.sync.client import connect

from tests.running import Platform, until

PASSWORD = "correct-horse-9-battery"


def xsrf_in(page: str) -> str:
    """The XSRF token in a page's form."""
    found = re.search(r'name="_xsrf" value="([^"]+)"', page)
    assert found, page[:2000]
    return html.unescape(found[1])


@dataclass
class Person:
    """One browser with its cookies, of one person."""

    platform: Platform
    name: str
    client: httpx.Client
    password: str = PASSWORD

    @classmethod
    @contextmanager
    def new(
        cls, platform: Platform, name: str, *, sign_up: bool = True, address: str | None = None
    ) -> Iterator[Person]:
        """A person; signed up and in unless told otherwise. They come from `address`, one of this machine's."""
        with platform.http(follow_redirects=True, address=address) as client:
            person = cls(platform, name, client)
            if sign_up:
                answer = person.sign_up()
                assert answer.status_code == 200, answer.text
            yield person

    @property
    def app(self) -> str:
        return self.platform.origin("app")

    def get(self, url: str, **kwargs: Any) -> httpx.Response:
        """A page as a browser asks for it; a path is on the hub's host."""
        full = url if "://" in url else f"{self.app}{url}"
        headers = {
            "Accept": "text/html,application/xhtml+xml",
            "Sec-Fetch-Mode": "navigate",
            **kwargs.pop("headers", {}),
        }
        return self.client.get(full, headers=headers, **kwargs)

    def submit(self, page: httpx.Response, action: str, **fields: str) -> httpx.Response:
        """Send a form of `page`."""
        parts = urlsplit(str(page.url))
        url = action if "://" in action else f"{parts.scheme}://{parts.netloc}{action}"
        headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Referer": str(page.url)}
        return self.client.post(url, data={"_xsrf": xsrf_in(page.text), **fields}, headers=headers)

    def sign_up(self, next_url: str = "") -> httpx.Response:
        page = self.get("/hub/signup")
        return self.submit(
            page, f"/hub/signup?next={next_url}", username=self.name, signup_password=self.password,
            signup_password_confirmation=self.password,
        )  # fmt: skip

    def sign_in(self, password: str | None = None, next_url: str = "") -> httpx.Response:
        page = self.get("/hub/login")
        return self.submit(page, f"/hub/login?next={next_url}", username=self.name, password=password or self.password)

    def sign_out(self) -> httpx.Response:
        return self.get("/hub/logout")

    def join(self, workshop_id: str, code: str = "", **fields: str) -> httpx.Response:
        """Join through the page, as one does after pressing the public page's button."""
        url = f"/services/workshops/join/{workshop_id}" + (f"?code={code}" if code else "")
        page = self.get(url)
        if page.status_code != 200 or "/hub/workshops/" in str(page.url):
            return page
        return self.submit(
            page, f"/services/workshops/join/{workshop_id}", **({"code": code} if code else {}), **fields
        )

    def page(self, workshop_id: str) -> httpx.Response:
        return self.get(f"/hub/workshops/{workshop_id}")

    def press_start(self, workshop_id: str) -> httpx.Response:
        return self.submit(self.page(workshop_id), f"/hub/workshops/{workshop_id}/start")

    def press_stop(self, workshop_id: str) -> httpx.Response:
        return self.submit(self.page(workshop_id), f"/hub/workshops/{workshop_id}/stop")

    def start(self, workshop_id: str, within_s: float = 60) -> str:
        """Start a seat and wait for it; gives its URL."""
        page = self.press_start(workshop_id)
        assert page.status_code == 200, page.text

        def ready() -> str | None:
            text = self.page(workshop_id).text
            assert 'id="failure"' not in text, text
            found = re.search(r'id="open"[^>]*href="([^"]+)"', text)
            return html.unescape(found[1]) if found else None

        return until(ready, within_s=within_s, every_s=0.3, message=f"seat ready: {self.platform.logs(10)}") or ""

    def stop(self, workshop_id: str) -> None:
        self.press_stop(workshop_id)
        until(lambda: 'id="start"' in self.page(workshop_id).text, within_s=20, message="seat stopped")

    def open_seat(self, url: str) -> httpx.Response:
        """JupyterLab's page, through the sign-in round trip."""
        answer = self.get(url)
        assert answer.status_code == 200, (str(answer.url), answer.text[:500])
        assert urlsplit(str(answer.url)).netloc == urlsplit(url).netloc, answer.url
        return answer

    def seat_request(self, url: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A request of the seat's Jupyter server, with the XSRF cookie as JupyterLab sends it."""
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}/" + "/".join(parts.path.strip("/").split("/")[:3]) + "/"
        token = next((c.value for c in self.client.cookies.jar if c.name == "_xsrf" and parts.hostname in c.domain), "")
        headers = {"X-XSRFToken": token or "", "Referer": base, **kwargs.pop("headers", {})}
        return self.client.request(method, base + path, headers=headers, **kwargs)

    def run(self, url: str, code: str, within_s: float = 60) -> str:
        """Run `code` in a new Python kernel of a seat; gives what it printed."""
        made = self.seat_request(url, "POST", "api/kernels", json={"name": "python3"})
        assert made.status_code == 201, made.text
        kernel = made.json()["id"]
        parts = urlsplit(url)
        host, prefix = parts.netloc, "/" + "/".join(parts.path.strip("/").split("/")[:3]) + "/"
        request = self.client.build_request("GET", f"http://{host}{prefix}")
        cookie = request.headers.get("Cookie", "")
        path = f"{prefix}api/kernels/{kernel}/channels"
        with open_websocket(host, self.platform.port, path, {"Cookie": cookie}) as socket:
            message = _execute_request(code)
            socket.send(json.dumps(message))
            printed = ""
            while True:
                answer = json.loads(socket.recv(timeout=within_s))
                if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                    continue
                kind = answer["msg_type"]
                if kind == "stream":
                    printed += answer["content"]["text"]
                elif kind == "error":
                    raise AssertionError("\n".join(answer["content"]["traceback"]))
                elif kind == "status" and answer["content"]["execution_state"] == "idle":
                    return printed


@contextmanager
def running_seat(platform: Platform, name: str) -> Iterator[tuple[Person, str, str]]:
    """A new person in their running seat of a new workshop: who, the seat's URL, the workshop's id."""
    workshop_id = platform.opened(session=name)["id"]
    with Person.new(platform, name) as person:
        person.join(workshop_id)
        url = person.start(workshop_id)
        person.open_seat(url)
        yield person, url, workshop_id


def open_websocket(host: str, port: int, path: str, headers: dict[str, str]) -> Any:
    """A websocket to a `*.localhost` host, which Debian's resolver doesn't know."""
    raw = sockets.create_connection(("127.0.0.1", port))
    return connect(f"ws://{host}{path}", sock=raw, additional_headers=headers, open_timeout=30)


def _execute_request(code: str) -> dict[str, Any]:
    """The message that runs `code` (Jupyter messaging protocol 5.3)."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": "s",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    return {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "content": content}
