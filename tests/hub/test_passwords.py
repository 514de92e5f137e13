"""Passwords and join codes on a running platform: guessed, sent at once, changed; the same answer for the same work."""

from __future__ import annotations

import html
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from itertools import count

import httpx
import psutil
import pytest

from tests.people import PASSWORD, Person
from tests.running import Platform

_ADDRESSES = count(20)


def another_address() -> str:
    """An address of this machine that no test has come from yet."""
    return f"127.0.1.{next(_ADDRESSES)}"


@contextmanager
def somebody(platform: Platform, name: str, address: str) -> Iterator[Person]:
    """A browser with a name to try."""
    with Person.new(platform, name, sign_up=False, address=address) as person:
        yield person


def made(platform: Platform, *names: str) -> None:
    for name in names:
        with Person.new(platform, name):
            pass


def test_the_eleventh_wrong_password_has_to_wait_and_the_teacher_elsewhere_has_not(platform: Platform) -> None:
    made(platform, "tess", "pupil")
    here, there = another_address(), another_address()
    with somebody(platform, "tess", here) as guesser:
        for _ in range(10):
            refused = guesser.sign_in("guess-after-guess")
            assert (refused.status_code, "name or the password is not right" in refused.text) == (403, True)
        for password in ("guess-after-guess", PASSWORD):
            late = guesser.sign_in(password)
            assert late.status_code == 429
            assert 1 <= int(late.headers["retry-after"]) <= 300
            assert "too many wrong attempts. Try again in" in late.text
            assert 'value="tess"' in late.text, "the form is there again"
        assert "/hub/login" in str(guesser.get("/hub/workshops/").url), "nobody is signed in"
        guesser.name = "TESS "
        assert guesser.sign_in().status_code == 429, "the same account however it is written"
    with somebody(platform, "tess", there) as teacher:
        assert teacher.sign_in().status_code == 200
    with somebody(platform, "pupil", here) as pupil:
        assert pupil.sign_in().status_code == 200, "who sits beside the guesser gets in"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X_Real_Ip"])
def test_an_address_that_a_browser_claims_is_not_believed(platform: Platform, header: str) -> None:
    """Neither to guess on, nor to lock somebody out who is at that address."""
    name = f"claimed-{header.lower().replace('_', '.')}"
    made(platform, name)
    victim, guesser = another_address(), another_address()
    with somebody(platform, name, guesser) as person:
        person.client.headers[header] = f"for={victim}" if header == "Forwarded" else victim
        statuses = [person.sign_in("wrong-again-9").status_code for _ in range(11)]
        assert statuses == [403] * 10 + [429]
        person.client.headers[header] = another_address()
        assert person.sign_in().status_code == 429, "another claim is no new beginning"
    with somebody(platform, name, victim) as person:
        assert person.sign_in().status_code == 200, "who is really there isn't locked out"


def test_guesses_sent_at_once_are_no_more_than_those_sent_one_by_one(platform: Platform) -> None:
    made(platform, "many")
    address = another_address()
    with ExitStack() as open_ones:
        people = [open_ones.enter_context(somebody(platform, "many", address)) for _ in range(24)]
        pages = [person.get("/hub/login") for person in people]
        with ThreadPoolExecutor(len(people)) as at_once:
            answers = at_once.map(
                lambda pair: (
                    pair[0].submit(pair[1], "/hub/login", username="many", password="guess-at-once").status_code
                ),
                zip(people, pages, strict=True),
            )
            assert Counter(answers) == {403: 10, 429: 14}


def test_a_class_behind_one_address_gets_in_with_all_its_typing_errors(platform: Platform) -> None:
    names = [f"class-{number}" for number in range(8)]
    made(platform, *names)
    address = another_address()
    with ExitStack() as open_ones:
        people = [open_ones.enter_context(somebody(platform, name, address)) for name in names]
        for person in people:
            assert [person.sign_in("typing-error").status_code for _ in range(3)] == [403] * 3
        assert [person.sign_in().status_code for person in people] == [200] * len(people)


def test_the_other_doors_that_take_a_password_count_too(platform: Platform) -> None:
    """The Hub API gives a token for a name and a password; the page that changes a password takes the old one."""
    made(platform, "doors")
    address = another_address()

    def token(password: object) -> int:
        with platform.http(address=address) as client:
            return client.post(
                f"{platform.origin('app')}/hub/api/users/doors/tokens",
                json={"auth": {"username": "doors", "password": password}},
            ).status_code

    assert token(PASSWORD) == 201
    assert [token(strange) for strange in ([PASSWORD], {"name": "doors"}, None, 7)] == [403] * 4
    with somebody(platform, "doors", address) as person:
        assert person.sign_in().status_code == 200
        form = person.get("/hub/change-password")

        def change(old: str, new: str = "another-fine-word-7") -> httpx.Response:
            fields = {"old_password": old, "new_password": new, "new_password_confirmation": new}
            return person.submit(form, "/hub/change-password", **fields)

        assert change(PASSWORD, "short").status_code == 422
        assert change(PASSWORD, "x" * 73).status_code == 422
        assert [change("not-the-old-one").status_code for _ in range(5)] == [403] * 5
        assert [token("not-the-old-one") for _ in range(5)] == [403] * 5
        late = change(PASSWORD)
        assert (late.status_code, "Try again in" in late.text) == (429, True)
        assert token(PASSWORD) == 403, "the right one, too late"
    with somebody(platform, "doors", another_address()) as person:
        assert person.sign_in().status_code == 200
        form = person.get("/hub/change-password")
        assert "Your password is changed" in change(PASSWORD).text
        person.sign_out()
        assert person.sign_in().status_code == 403
        assert person.sign_in("another-fine-word-7").status_code == 200


def test_an_operator_gives_another_password_in_the_same_way(platform: Platform) -> None:
    made(platform, "forgetful")
    with somebody(platform, "admin", another_address()) as admin:
        admin.sign_in(platform.admin_password)
        form = admin.get("/hub/change-password/forgetful")
        for new, said in (("short", "too short"), ("a-new-fine-word-8", "has a new password")):
            answer = admin.submit(
                form, "/hub/change-password/forgetful", new_password=new, new_password_confirmation=new
            )
            assert said in answer.text
        assert admin.submit(
            form, "/hub/change-password/nobody-at-all", new_password=new, new_password_confirmation=new
        ).status_code == 404  # fmt: skip
    with somebody(platform, "forgetful", another_address()) as person:
        assert person.sign_in("a-new-fine-word-8").status_code == 200


def test_every_kind_of_refusal_is_the_same_answer_for_the_same_work(platform: Platform) -> None:
    """Counted in the processor time the hub spends: a password's hash takes nearly all of it."""
    made(platform, "known", "kept-out")
    with somebody(platform, "admin", another_address()) as admin:
        admin.sign_in(platform.admin_password)
        admin.get("/hub/authorize/kept-out", headers={"Sec-Fetch-Site": "same-origin"})
    tries = {
        "wrong": ("known", "wrong-password-1"),
        "unknown": ("nobody-has-this", "wrong-password-1"),
        "impossible": ("../no/name\u200b", "wrong-password-1"),
        "too long": ("known", "x" * 400),
        "empty": ("known", ""),
        "not let in": ("kept-out", PASSWORD),
    }
    hub = psutil.Process(platform.children()["hub"])
    spent: dict[str, float] = {}
    pages = set()
    for kind, (name, password) in tries.items():
        with somebody(platform, name, another_address()) as person:
            form = person.get("/hub/login")
            before = hub.cpu_times()
            answers = [person.submit(form, "/hub/login", username=name, password=password) for _ in range(4)]
            after = hub.cpu_times()
            spent[kind] = (after.user + after.system) - (before.user + before.system)
            for answer in answers:
                assert answer.status_code == 403
                shown = html.escape(name, quote=True)
                pages.add(_without_tokens(answer.text).replace(f'value="{shown}"', 'value=""'))
    assert len(pages) == 1, pages
    assert min(spent.values()) > 0.5 * spent["wrong"], spent
    assert max(spent.values()) < 2 * spent["wrong"], spent


def _without_tokens(page: str) -> str:
    return "\n".join(line for line in page.splitlines() if "_xsrf" not in line)


def test_one_name_asked_for_by_many_at_once_is_one_account(platform: Platform) -> None:
    with ExitStack() as open_ones:
        people = [open_ones.enter_context(somebody(platform, "wanted", another_address())) for _ in range(4)]
        for number, person in enumerate(people):
            person.password = f"word-of-number-{number}"
        with ThreadPoolExecutor(len(people)) as at_once:
            answers = list(at_once.map(Person.sign_up, people))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 422: 3}
        assert all("That name is taken" in answer.text for answer in answers if answer.status_code == 422)
        for person, answer in zip(people, answers, strict=True):
            person.client.cookies.clear()
            assert person.sign_in().status_code == (200 if answer.status_code == 200 else 403)
    with sqlite3.connect(platform.data_dir / "jupyterhub.sqlite") as database:
        for table, column in (("users", "name"), ("users_info", "username")):
            assert database.execute(f"select count(*) from {table} where {column} = 'wanted'").fetchone() == (1,)
    database.close()


def test_pages_are_answered_while_many_sign_up(platform: Platform) -> None:
    """With hashing in the event loop the page would come after all of those that came before it."""
    with ExitStack() as open_ones:
        people = [
            open_ones.enter_context(somebody(platform, f"crowd-{n}", another_address())) for n in range(16)
        ]  # fmt: skip
        forms = [person.get("/hub/signup") for person in people]
        visitor = open_ones.enter_context(somebody(platform, "visitor", another_address()))

        def send(pair: tuple[Person, httpx.Response]) -> int:
            person, form = pair
            fields = {"signup_password": PASSWORD, "signup_password_confirmation": PASSWORD}
            return person.submit(form, "/hub/signup", username=person.name, **fields).status_code

        with ThreadPoolExecutor(len(people)) as at_once:
            under_way = [at_once.submit(send, pair) for pair in zip(people, forms, strict=True)]
            wait(under_way, return_when="FIRST_COMPLETED")  # so all of them have arrived
            answered = 0
            while sum(not each.done() for each in under_way) > 1:
                assert visitor.get("/hub/login").status_code == 200
                answered += 1
            assert [each.result() for each in under_way] == [200] * len(people)
    assert answered >= 5, "pages had to wait for the passwords of others"


# --- join codes --------------------------------------------------------------------------------------------------


def test_a_codes_eleventh_guess_has_to_wait_by_page_and_by_api_together(platform: Platform) -> None:
    workshop = platform.opened(session="guess", join_policy="code")
    other = platform.opened(session="guess-other", join_policy="code")
    here, there = another_address(), another_address()
    with Person.new(platform, "codie", address=here) as codie, Person.new(platform, "beside", address=here) as beside:
        token = platform.hub_api("POST", "/users/codie/tokens", json={"note": "codes"}).json()["token"]

        def by_api(code: dict[str, str], address: str = here, **headers: str) -> httpx.Response:
            with platform.http(address=address) as client:
                return client.post(
                    f"{platform.origin('api')}/v1/workshops/{workshop['id']}/join", json=code,
                    headers={"Authorization": f"Bearer {token}", **headers},
                )  # fmt: skip

        def by_page(code: str) -> httpx.Response:
            return codie.join(workshop["id"], code)

        assert codie.join(other["id"], other["join_code"]).status_code == 200, "a right one isn't counted"
        assert [by_page(f"guess-{n}").status_code for n in range(5)] == [403] * 5
        assert [by_api({"code": f"guess-{n}"}).status_code for n in range(3)] == [403] * 3
        assert [by_api({"invitation": f"{n}-guess"}).status_code for n in range(2)] == [403] * 2
        assert by_api({}).status_code == 403, "no code is no guess"
        late = by_api({"code": workshop["join_code"]}, **{"X-Forwarded-For": there, "X-Real-IP": there})
        assert late.status_code == 429
        assert late.json()["type"] == "urn:orchestra-hub:problem:too-many-attempts"
        assert 1 <= int(late.headers["retry-after"]) <= 300
        page = by_page(workshop["join_code"])
        assert (page.status_code, "Try again in" in page.text, 'id="code"' in page.text) == (429, True, True)
        assert 1 <= int(page.headers["retry-after"]) <= 300
        assert beside.join(workshop["id"], workshop["join_code"]).status_code == 200, "beside the guesser"
        assert by_api({"code": workshop["join_code"]}, there).status_code == 200, "the same account elsewhere"
