"""The REST interface of a real server: what it does, and what it refuses without changing anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.serving import Place, Server, served


@pytest.fixture
def stopped(server: Server, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A stopped volume with a file, its own for each test."""
    return stopped_volume(server, f"{request.node.name.split('[')[0]}.ipynb")


def stopped_volume(server: Server, path: str) -> dict[str, Any]:
    server.place.stopped_volume(path, **{"data.txt": "precious"})
    return server.wait_for_volume(path, "stopped")


def test_a_volume_is_active_while_its_kernel_runs_and_stopped_after(server: Server) -> None:
    server.place.notebook("life.ipynb")
    session = server.start("life.ipynb")
    active = server.wait_for_volume("life.ipynb", "active")
    assert active["kernels"] == [session["kernel"]["id"]]
    assert session["kernel"]["id"] in active["holder"]
    assert active["path"] == server.run(
        session["kernel"]["id"], "import os; print(os.getcwd(), end='')"
    )
    server.end(session)
    stopped = server.wait_for_volume("life.ipynb", "stopped")
    assert (stopped["kernels"], stopped["holder"]) == ([], None)
    assert stopped["backup_due"] is not None
    assert server.get(f"/api/volumes/{stopped['id']}").json() == stopped


def test_a_volume_is_backed_up_deleted_and_brought_back(
    server: Server, stopped: dict[str, Any]
) -> None:
    address = f"/api/volumes/{stopped['id']}"
    job = server.job(server.ask("POST", f"{address}/backup"))
    assert (job["state"], job["error"], job["volume"]) == ("done", None, stopped["id"])
    backed_up = server.get(address).json()
    assert backed_up["backup"]["current"] is True
    deleted = server.ask("DELETE", address, {"session": stopped["session"]})
    assert (deleted.status_code, deleted.json()["state"]) == (200, "pruned")
    assert not os.path.exists(stopped["path"])
    job = server.job(server.ask("POST", f"{address}/restore"))
    assert job["state"] == "done", job
    assert Path(stopped["path"], "data.txt").read_text() == "precious"
    named = {"backup": backed_up["backup"]["name"]}
    assert server.job(server.ask("POST", f"{address}/restore", named))["state"] == "done"


def test_a_volume_deleted_with_its_backups_is_gone(server: Server, stopped: dict[str, Any]) -> None:
    address = f"/api/volumes/{stopped['id']}"
    server.job(server.ask("POST", f"{address}/backup"))
    body = {"session": stopped["session"], "backups": True}
    deleted = server.ask("DELETE", address, body)
    assert (deleted.status_code, deleted.json()["backup"]) == (200, None)
    assert server.get(address).status_code == 404


def test_a_volume_is_pinned_and_unpinned(server: Server, stopped: dict[str, Any]) -> None:
    address = f"/api/volumes/{stopped['id']}"
    pinned = server.ask("PUT", f"{address}/pin", {"pinned": True}).json()
    assert (pinned["pinned"], pinned["prune_due"]) == (True, None)
    assert server.ask("PUT", f"{address}/pin", {"pinned": False}).json()["pinned"] is False


def test_a_volume_in_use_is_neither_deleted_nor_backed_up(server: Server) -> None:
    server.place.notebook("held.ipynb")
    session = server.start("held.ipynb")
    volume = server.wait_for_volume("held.ipynb", "active")
    address = f"/api/volumes/{volume['id']}"
    body = {"session": volume["session"], "backups": True}
    refused = server.ask("DELETE", address, body)
    assert (refused.status_code, refused.json()["code"]) == (409, "held")
    assert os.path.isdir(volume["path"])
    job = server.job(server.ask("POST", f"{address}/backup"))
    assert (job["state"], job["error"]["code"]) == ("failed", "held")
    assert session["kernel"]["id"] in job["error"]["message"]
    server.end(session)


def test_keeping_a_volume_without_kernels_is_refused(
    server: Server, stopped: dict[str, Any]
) -> None:
    refused = server.ask("POST", f"/api/volumes/{stopped['id']}/keep")
    assert (refused.status_code, refused.json()["code"]) == (409, "no-kernel")


def test_a_sweep_is_started_and_tried_without_effect(server: Server) -> None:
    assert server.job(server.ask("POST", "/api/volumes/sweep", {"dry_run": True}))["state"] == (
        "done"
    )
    assert server.job(server.ask("POST", "/api/volumes/sweep"))["state"] == "done"


ID_TRICKS = [
    "..",
    "../..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "v1-" + "0" * 20,
    "v1-%2e%2e%2f",
    "a" * 4000,
    "%ff%fe",
    "sweep",
    "jobs",
    "' OR 1=1 --",
    "😀",
]


@pytest.mark.parametrize("trick", ID_TRICKS)
@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", {"session": "x"}),
        ("POST", "/backup", {}),
        ("POST", "/restore", {}),
        ("POST", "/keep", {}),
        ("PUT", "/pin", {"pinned": True}),
    ],
)
def test_an_id_of_no_volume_is_refused(
    server: Server, method: str, suffix: str, body: Any, trick: str
) -> None:
    request = requests.Request(
        method, f"{server.url}/api/volumes/x{suffix}", json=body, headers=dict(server.http.headers)
    )
    prepared = server.http.prepare_request(request)
    # Past `requests`, which would tidy the path.
    prepared.url = f"{server.url}/api/volumes/{trick}{suffix}"
    response = server.http.send(prepared, timeout=20, allow_redirects=False)
    assert 400 <= response.status_code < 500, response.text


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("DELETE", "", None),
        ("DELETE", "", {}),
        ("DELETE", "", {"session": "not its name"}),
        ("DELETE", "", {"session": ""}),
        ("DELETE", "", {"session": None}),
        ("DELETE", "", {"session": ["a"]}),
        ("DELETE", "", {"session": True}),
        ("DELETE", "", {"session": "x", "backups": "yes"}),
        ("DELETE", "", {"session": "x", "force": True}),
        ("PUT", "/pin", None),
        ("PUT", "/pin", {}),
        ("PUT", "/pin", {"pinned": 1}),
        ("PUT", "/pin", {"pinned": "true"}),
        ("PUT", "/pin", [True]),
        ("PUT", "/pin", "true"),
        ("POST", "/backup", {"destination": "/etc"}),
        ("POST", "/restore", {"backup": 3}),
        ("POST", "/restore", {"backup": "../../etc/passwd"}),
        ("POST", "/restore", {"backup": "no such"}),
        ("POST", "/keep", {"minutes": 5}),
        ("POST", "", None),
        ("PATCH", "/pin", {"pinned": True}),
        ("POST", "/nowhere", None),
    ],
)
def test_a_body_of_the_wrong_kind_is_refused_and_nothing_is_changed(
    server: Server, unharmed: dict[str, Any], method: str, suffix: str, body: Any
) -> None:
    response = server.ask(method, f"/api/volumes/{unharmed['id']}{suffix}", body)
    _is_refused(response)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"pinned": ' + b"1" * 5000 + b"}",
        b'{"pinned": NaN}',
        b"null",
        b'{"pinned": true, "pinned": 1}',
        b'{"pinned": true' + b" " * 10_000_000 + b"}",
    ],
    ids=["cut", "no utf-8", "deep", "long number", "nan", "null", "twice", "10 MB"],
)
def test_a_body_that_is_no_small_json_object_is_refused_and_nothing_is_changed(
    server: Server, unharmed: dict[str, Any], body: bytes
) -> None:
    response = server.http.put(
        f"{server.url}/api/volumes/{unharmed['id']}/pin", data=body, timeout=60
    )
    _is_refused(response)
    assert response.status_code == (413 if len(body) > 64 * 1024 else 400)


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", "confirmation"),
        ("POST", "/backup", None),
        ("POST", "/restore", None),
        ("PUT", "/pin", {"pinned": True}),
        ("POST", "/keep", None),
    ],
)
@pytest.mark.parametrize("client", ["anonymous", "wrong token", "cookie without xsrf"])
def test_a_client_without_permission_is_refused_and_nothing_is_changed(
    server: Server, unharmed: dict[str, Any], client: str, method: str, suffix: str, body: Any
) -> None:
    stranger = _visitor(server, client)
    if method == "GET" and client == "cookie without xsrf":
        return
    if body == "confirmation":
        body = {"session": unharmed["session"], "backups": True}
    url = f"{server.url}/api/volumes/{unharmed['id']}{suffix}"
    response = stranger.request(method, url, json=body, timeout=20)
    assert response.status_code == 403
    assert response.json()["code"] == "forbidden"


def test_an_anonymous_client_sees_no_list_no_job_no_description_and_starts_no_sweep(
    server: Server,
) -> None:
    stranger = _visitor(server, "anonymous")
    for path in ("", "/jobs/x", "/openapi.json", "/openapi.yaml", "/sweep", "/nowhere"):
        assert stranger.get(f"{server.url}/api/volumes{path}", timeout=20).status_code in {403, 405}
    assert stranger.post(f"{server.url}/api/volumes/sweep", timeout=20).status_code == 403


def test_a_cookie_with_its_xsrf_token_is_enough(server: Server, stopped: dict[str, Any]) -> None:
    visitor = _visitor(server, "cookie without xsrf")
    visitor.headers["X-XSRFToken"] = visitor.cookies["_xsrf"] or ""
    url = f"{server.url}/api/volumes/{stopped['id']}/pin"
    assert visitor.put(url, json={"pinned": True}, timeout=20).json()["pinned"] is True


def test_an_authorizer_is_asked_about_volumes_by_name(place: Place) -> None:
    place.home.joinpath("gate.py").write_text(
        "from jupyter_server.auth import Authorizer\n"
        "class Gate(Authorizer):\n"
        "    def is_authorized(self, handler, user, action, resource):\n"
        "        return resource != 'volumes' or action == 'read'\n"
    )
    arguments = ("--ServerApp.authorizer_class=gate.Gate",)
    with served(place, *arguments, env=place.importing) as server:
        volume = stopped_volume(server, "a.ipynb")
        pin = server.ask("PUT", f"/api/volumes/{volume['id']}/pin", {"pinned": True})
        assert pin.status_code == 403
        page = server.http.post(f"{server.url}/volumes/{volume['id']}/pin", timeout=20)
        assert page.status_code == 403
        assert server.volume("a.ipynb") == volume


def test_another_servers_volumes_cannot_be_reached(place: Place, server: Server) -> None:
    with served(place) as other:
        theirs = stopped_volume(other, "theirs.ipynb")
    for method, suffix, body in (
        ("GET", "", None),
        ("DELETE", "", {"session": theirs["session"]}),
        ("POST", "/backup", None),
    ):
        address = f"/api/volumes/{theirs['id']}{suffix}"
        assert server.ask(method, address, body).status_code == 404
    assert Path(theirs["path"], "data.txt").read_text() == "precious"


def test_no_answer_and_no_log_contains_a_secret_of_the_environment(server: Server) -> None:
    answers = (
        json.dumps(server.volumes()) + server.get("/metrics").text + server.get("/volumes").text
    )
    assert "must-stay-out" not in answers + server.log


@pytest.fixture(scope="module")
def unharmed_volume(server: Server) -> dict[str, Any]:
    return stopped_volume(server, "unharmed.ipynb")


@pytest.fixture
def unharmed(server: Server, unharmed_volume: dict[str, Any]) -> Any:
    """A stopped volume that is the same after the test as before, in the table and on disk."""
    before = server.volume("unharmed.ipynb")
    yield unharmed_volume
    assert server.volume("unharmed.ipynb") == before
    assert Path(unharmed_volume["path"], "data.txt").read_text() == "precious"


def _is_refused(response: requests.Response) -> None:
    assert 400 <= response.status_code < 500, response.text
    answer = response.json()
    assert set(answer) == {"message", "code"}
    assert "\n" not in answer["message"]


def _visitor(server: Server, client: str) -> requests.Session:
    visitor = requests.Session()
    visitor.trust_env = False
    if client == "wrong token":
        visitor.headers["Authorization"] = "token wrong"
    elif client == "cookie without xsrf":
        assert visitor.get(f"{server.url}/volumes?token=the-token", timeout=20).ok
    return visitor
