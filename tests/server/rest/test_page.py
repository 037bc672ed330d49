"""The page `/volumes`: usable without JavaScript, by keyboard and screen reader, and by authenticated users only."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests

from provisioner.server.rest.operations import size
from provisioner.server.rest.page import span
from tests.support.serving import TOKEN, Server, eventually


class Page(HTMLParser):
    """The page as a browser without JavaScript shows it: forms with their fields, tags, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.text_outside_names = ""
        self._open: list[str] = []
        self._form: dict[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        self._open.append(tag)
        if tag == "form":
            self._form = self.forms[values["action"]] = {}
            assert values["method"] == "post"
        elif tag == "input" and self._form is not None:
            self._form[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass
        if tag == "form":
            self._form = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if "bdi" not in self._open:
            self.text_outside_names += data


class Browser:
    """A client with a cookie of the server and without JavaScript."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = requests.Session()
        self._http.trust_env = False
        self.page = self._read(
            self._http.get(f"{server.url}/volumes", params={"token": TOKEN}, timeout=20)
        )

    def send(self, action: str, **typed: str) -> requests.Response:
        fields = {**self.page.forms[action], **typed}
        response = self._http.post(self._server.url + action, data=fields, timeout=20)
        self.page = self._read(response)
        return response

    def post(self, path: str, **fields: str) -> requests.Response:
        return self._http.post(self._server.url + path, data=fields, timeout=20)

    @staticmethod
    def _read(response: requests.Response) -> Page:
        assert response.headers["Content-Type"].startswith("text/html")
        return Page(response.text)


@pytest.fixture
def volume(server: Server) -> dict[str, Any]:
    path = "<b>bold & odd.ipynb"
    server.place.stopped_volume(path, data="x")
    return eventually(lambda: server.volume(path))


def test_a_volume_is_backed_up_pinned_deleted_and_brought_back_without_javascript(
    server: Server, volume: dict[str, Any]
) -> None:
    browser = Browser(server)
    own = f"/volumes/{volume['id']}"
    browser.send(f"{own}/backup")
    assert "The backup has begun" in browser.page.text
    eventually(lambda: server.get(f"/api/volumes/{volume['id']}").json()["backup"])
    browser.send(f"{own}/pin")
    assert f"{own}/unpin" in browser.page.forms
    browser.send(f"{own}/unpin")
    refused = browser.send(f"{own}/delete", session="something else")
    assert refused.status_code == 400
    assert "not deleted" in browser.page.text
    assert Path(volume["path"], "data").exists()
    browser.send(f"{own}/delete", session=volume["session"])
    assert not Path(volume["path"]).exists()
    browser.send(f"{own}/restore")
    eventually(lambda: Path(volume["path"], "data").exists())
    browser.send("/volumes/sweep/sweep")
    assert "The sweep has begun" in browser.page.text


def test_names_are_shown_as_text_and_never_as_markup(
    server: Server, volume: dict[str, Any]
) -> None:
    page = Browser(server).page
    assert volume["session"] in page.text
    assert "b" not in {tag for tag, _ in page.tags}


def test_a_name_with_a_direction_override_affects_no_text_around_it(
    server: Server,
) -> None:
    name = "abc\N{RIGHT-TO-LEFT OVERRIDE}  gnp.exe"
    server.place.notebook("turned.ipynb", {"volume": {"session": name}})
    session = server.start("turned.ipynb")
    server.end(session)

    (volume,) = eventually(lambda: [v for v in server.volumes() if _is_stopped(v, name)])
    own = f"/volumes/{volume['id']}"
    browser = Browser(server)
    browser.send(f"{own}/backup")
    assert name in browser.page.text
    assert name not in browser.page.text_outside_names
    browser.send(f"{own}/delete", session=name + " ")
    assert "not deleted" in browser.page.text


def _is_stopped(volume: dict[str, Any], session: str) -> bool:
    return (volume["session"], volume["state"]) == (session, "stopped")


def test_the_page_is_accessible(server: Server, volume: dict[str, Any]) -> None:
    page = Browser(server).page
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    assert "main" in tags
    assert "caption" in tags
    assert "script" not in tags
    assert all("scope" in values for tag, values in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags
    labelled = {values["for"] for tag, values in page.tags if tag == "label"}
    typed = {v["id"] for tag, v in page.tags if tag == "input" and v.get("type") != "hidden"}
    assert typed == labelled


def test_forms_of_anonymous_clients_and_without_an_xsrf_token_change_nothing(
    server: Server, volume: dict[str, Any]
) -> None:
    before = server.get(f"/api/volumes/{volume['id']}").json()
    browser = Browser(server)
    own = f"/volumes/{volume['id']}"
    for action in ("pin", "delete", "backup"):
        assert browser.post(f"{own}/{action}", session=volume["session"]).status_code == 403
        stranger = requests.post(f"{server.url}{own}/{action}", timeout=20, allow_redirects=False)
        assert stranger.status_code in {302, 403}
    assert "login" in requests.get(f"{server.url}/volumes", timeout=20).url
    token = browser.page.forms[f"{own}/pin"]["_xsrf"]
    assert browser.post("/volumes/v1-none/pin", _xsrf=token).status_code == 404
    assert browser.post(f"{own}/format", _xsrf=token).status_code == 404
    assert server.get(f"/api/volumes/{volume['id']}").json() == before


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1549, "1.5 kB"),
        (99_400, "99 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (12_345_678, "12 MB"),
        (5 * 10**12, "5 TB"),
    ],
)
def test_sizes_are_short(count: int, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3600, "1 hour"),
        (86400 * 3, "3 days"),
    ],
)
def test_durations_are_shown_in_their_largest_unit(seconds: int, expected: str) -> None:
    assert span(timedelta(seconds=seconds)) == expected
