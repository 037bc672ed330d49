"""The API paths of notebooks, and a server that follows their renames, moves and deletions."""

from __future__ import annotations

import json
import os

import pytest
from jupyter_server.services.sessions.sessionmanager import SessionManager

from provisioner.server.notebooks import api_path
from provisioner.server.notebooks.identity import NotebookIdentity, with_notebook_identity
from tests.support.serving import Place, Server, eventually, served

UUID = "0e5ae1b0-4b1c-4f0e-9f8b-3d3f5f1f9a10"


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("a.ipynb", "a.ipynb", "a.ipynb"),
        ("a.ipynb", None, "a.ipynb"),
        (UUID, "a.ipynb", "a.ipynb"),
        (f"sub/{UUID}", "a.ipynb", "sub/a.ipynb"),
        (f"RTC:sub/{UUID}", "a.ipynb", "RTC:sub/a.ipynb"),
        (f"s3:{UUID}", "a.ipynb", "s3:a.ipynb"),
        ("s3:bucket/a.ipynb", "a.ipynb", "s3:bucket/a.ipynb"),
        ("sub/new.ipynb", "old.ipynb", "sub/new.ipynb"),
        (f"sub/{UUID}", "../../etc/passwd", "sub/passwd"),
    ],
)
def test_a_session_has_the_api_path_of_its_notebook(
    path: str, name: str | None, expected: str
) -> None:
    assert api_path.of_session(path, name) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.ipynb", "/srv/books/a.ipynb"),
        ("RTC:sub/a.ipynb", "/srv/books/sub/a.ipynb"),
        ("sub/a:b.ipynb", "/srv/books/sub/a:b.ipynb"),
        ("s3:bucket/a.ipynb", None),
    ],
)
def test_only_local_drives_have_files(path: str, expected: str | None) -> None:
    assert api_path.local_file(path, "/srv/books") == expected


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("a.ipynb", "a.ipynb", "b.ipynb", "b.ipynb"),
        ("old/deep/a.ipynb", "old", "new/er", "new/er/deep/a.ipynb"),
        ("older/a.ipynb", "old", "new", "older/a.ipynb"),
        ("RTC:old/a.ipynb", "old", "new", "RTC:new/a.ipynb"),
        ("old/a.ipynb", "RTC:old", "RTC:new", "new/a.ipynb"),
        ("s3:old/a.ipynb", "old", "new", "s3:old/a.ipynb"),
        ("s3:old/a.ipynb", "s3:old", "s3:new", "s3:new/a.ipynb"),
        ("old/a.ipynb", "/old/", "/new/", "new/a.ipynb"),
    ],
)
def test_a_notebook_moves_with_itself_and_with_folders_above_it(
    path: str, old: str, new: str, expected: str
) -> None:
    assert api_path.moved(path, old, new) == expected


def test_only_a_session_under_the_root_has_an_api_path() -> None:
    assert api_path.to_api("/srv/books/sub/a.ipynb", "/srv/books") == "sub/a.ipynb"
    assert api_path.to_api("/srv/bookshelf/a.ipynb", "/srv/books") is None
    assert api_path.to_api("/a.ipynb", "/") == "a.ipynb"
    assert api_path.to_api("s3:a.ipynb", "/srv/books") is None


def test_a_session_manager_that_the_user_set_is_kept_and_gets_identity_added() -> None:
    class Chosen(SessionManager):
        """The user's own class."""

    made = with_notebook_identity(Chosen)
    assert issubclass(made, Chosen)
    assert issubclass(made, NotebookIdentity)
    assert with_notebook_identity(SessionManager) is NotebookIdentity
    assert with_notebook_identity(made) is made


def test_each_drive_and_folder_has_a_volume_of_its_own(server: Server) -> None:
    for path in ("d.ipynb", "deep/d.ipynb"):
        server.place.notebook(path)
    wanted = {
        "d.ipynb": server.place.session("d.ipynb"),
        "RTC:deep/d.ipynb": server.place.session("deep/d.ipynb"),
        "s3:bucket/d.ipynb": "s3:bucket/d.ipynb",
    }
    found = {}
    for path in wanted:
        session = server.ask(
            "POST",
            "/api/sessions",
            {"path": path, "type": "notebook", "kernel": {"name": "python3-volume"}},
        ).json()
        code = "import os, json; print(json.dumps([os.environ.get(n) for n in names]))"
        names = '["JUPYTER_VOLUME_SESSION", "JUPYTER_VOLUME_NOTEBOOK"]'
        found[path] = json.loads(server.run(session["kernel"]["id"], f"names = {names}\n{code}"))
        server.end(session)
    assert found == {path: [name, None] for path, name in wanted.items()}


def test_a_console_has_no_notebook_and_its_kernel_has_a_volume_of_its_own(server: Server) -> None:
    session = server.start("Console 1", kind="console")
    mine = [v for v in server.volumes() if v["kernels"] == [session["kernel"]["id"]]]
    assert [v["session"] for v in mine] == [f"kernel:{session['kernel']['id']}"]
    assert mine[0]["notebook"] is None
    server.end(session)


def test_a_running_notebook_renamed_in_the_file_browser_keeps_its_volume(server: Server) -> None:
    server.place.notebook("before.ipynb")
    session = server.start("before.ipynb")
    kernel = session["kernel"]["id"]
    server.run(kernel, "open('kept', 'w').write('x')")
    volume = server.volume("before.ipynb")
    assert volume is not None
    _rename(server, "before.ipynb", "after.ipynb")
    # As JupyterLab does next; a restart then starts the kernel under the new name.
    body = {"path": "after.ipynb", "name": "after.ipynb"}
    assert server.ask("PATCH", f"/api/sessions/{session['id']}", body).ok
    moved = eventually(lambda: server.volume("after.ipynb"), what="the volume is relabelled")
    assert moved["id"] == volume["id"]
    assert moved["notebook"] == "after.ipynb"
    assert server.ask("POST", f"/api/kernels/{kernel}/restart").ok
    code = "import os; print(os.listdir(), os.environ['JUPYTER_VOLUME_SESSION'])"
    printed = eventually(lambda: server.run(kernel, code))
    assert "kept" in printed
    assert server.place.session("after.ipynb") in printed
    assert server.volume("before.ipynb") is None
    server.end(session)


def test_renaming_a_folder_relabels_the_volumes_of_all_its_notebooks(server: Server) -> None:
    paths = ("old/one.ipynb", "old/below/two.ipynb", "older/three.ipynb")
    before = {}
    for path in paths:
        server.place.notebook(path)
        session = server.start(path)
        server.end(session)
        before[path] = server.wait_for_volume(path)["id"]
    _rename(server, "old", "new")
    moved = ("new/one.ipynb", "new/below/two.ipynb")
    eventually(lambda: all(map(server.volume, moved)), what="the volumes are relabelled")
    assert server.wait_for_volume("new/one.ipynb")["id"] == before["old/one.ipynb"]
    assert server.wait_for_volume("new/below/two.ipynb")["id"] == before["old/below/two.ipynb"]
    assert server.wait_for_volume("older/three.ipynb")["id"] == before["older/three.ipynb"]


def test_save_as_leaves_the_volume_with_the_old_notebook(server: Server) -> None:
    server.place.notebook("mine.ipynb")
    session = server.start("mine.ipynb")
    volume = server.wait_for_volume("mine.ipynb")["id"]
    server.place.notebook("copy.ipynb")
    body = {"path": "copy.ipynb", "name": "copy.ipynb"}
    assert server.ask("PATCH", f"/api/sessions/{session['id']}", body).ok
    assert server.wait_for_volume("mine.ipynb")["id"] == volume
    assert server.volume("copy.ipynb") is None
    server.end(session)


def test_the_volume_of_a_deleted_notebook_is_stopped_and_noted(server: Server) -> None:
    server.place.notebook("gone.ipynb")
    session = server.start("gone.ipynb")
    server.end(session)
    assert server.ask("DELETE", "/api/contents/gone.ipynb").status_code == 204

    def noted() -> bool:
        volume = server.volume("gone.ipynb")
        return volume is not None and volume["note"] == "notebook deleted"

    eventually(noted, what="the deletion is noted")
    stopped = server.wait_for_volume("gone.ipynb", "stopped")
    assert os.path.isdir(stopped["path"])


def test_a_rename_to_a_name_that_a_deleted_notebook_had_loses_neither_volume(
    server: Server,
) -> None:
    for path in ("a1.ipynb", "a2.ipynb"):
        server.place.notebook(path)
        session = server.start(path)
        server.end(session)
        server.wait_for_volume(path, "stopped")
    first, second = (
        server.wait_for_volume("a1.ipynb")["id"],
        server.wait_for_volume("a2.ipynb")["id"],
    )
    assert server.ask("DELETE", "/api/contents/a2.ipynb").ok
    _rename(server, "a1.ipynb", "a2.ipynb")
    eventually(lambda: server.volume("a1.ipynb") is None, what="the volume is relabelled")
    assert server.wait_for_volume("a2.ipynb")["id"] == first
    assert second in {v["id"] for v in server.volumes()}


def test_the_users_own_session_manager_and_mode_of_starting_are_respected(place: Place) -> None:
    place.home.joinpath("mine.py").write_text(
        "from jupyter_server.services.sessions.sessionmanager import SessionManager\n"
        "class Mine(SessionManager):\n"
        "    def new_session_id(self):\n"
        "        return 'mine0000-' + super().new_session_id()[9:]\n"
    )
    arguments = (
        "--ServerApp.session_manager_class=mine.Mine",
        "--AsyncMappingKernelManager.use_pending_kernels=False",
    )
    place.notebook("a.ipynb")
    with served(place, *arguments, env=place.importing) as server:
        session = server.start("RTC:a.ipynb")
        assert session["id"].startswith("mine0000-")
        assert server.volume("a.ipynb") is not None
        assert "'use_pending_kernels': True" not in server.log


def _rename(server: Server, old: str, new: str) -> None:
    response = server.ask("PATCH", f"/api/contents/{old}", {"path": new})
    assert response.ok, response.text
