"""JupyterLab in a real browser, as a person uses it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect  # noqa: A004 - its own

from tests.support.serving import KERNEL, TOKEN, Place, Server, eventually, served

LABEXTENSION = Path(__file__).parents[2] / "provisioner" / "lab"

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE = 30_000
"""Milliseconds that a test waits at most; mostly one or two hundred are enough."""

OF_OTHERS = (
    "Could not restore the debugger state",
    "Failed to load resource: the server responded with a status of 409",
)
"""Errors on the console that are not this extension's: JupyterLab's when a kernel ends, the browser's for a refusal."""


@dataclass
class Laboratory:
    """A server, and a browser's page with JupyterLab on it.

    Parameters
    ----------
    server
        The server.
    page
        The page.
    complaints
        The errors that were written to the browser's console.
    """

    server: Server
    page: Page
    complaints: list[str] = field(default_factory=list)

    def notebook(self, path: str, *cells: str, kernel: str = KERNEL) -> None:
        """Write a notebook with code cells."""
        file = self.server.place.notebook(
            path, {"kernelspec": {"name": kernel, "display_name": kernel}}
        )
        content = json.loads(file.read_text())
        content["cells"] = [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": source,
            }
            for number, source in enumerate(cells or ("",))
        ]
        file.write_text(json.dumps(content))

    def open(self, path: str = "", *, reset: bool = True) -> None:
        """Load JupyterLab, with a notebook in front if one is named."""
        query = f"token={TOKEN}" + ("&reset" if reset else "")
        where = f"/lab/tree/{path}" if path else "/lab"
        self.page.goto(f"{self.server.url}{where}?{query}")
        self.page.locator("#jp-main-dock-panel").wait_for()
        if path:
            self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def open_idle(self, path: str) -> None:
        """Load JupyterLab with a notebook whose kernel is ready."""
        self.open(path)
        eventually(lambda: self.has_idle_kernel(path), PATIENCE / 1000, f"{path} has a kernel")

    def has_idle_kernel(self, path: str) -> bool:
        """Whether a notebook's kernel has started and is idle."""
        sessions = self.server.get("/api/sessions").json()
        return any(
            session["path"] == path and session["kernel"]["execution_state"] == "idle"
            for session in sessions
        )

    def stopped_volume(self, path: str, code: str = "pass") -> dict[str, Any]:
        """Make a volume in which a kernel runs code; return it once it is stopped."""
        server = self.server
        self.notebook(path)
        session = server.start(path)
        server.run(session["kernel"]["id"], code)
        server.ask("DELETE", f"/api/sessions/{session['id']}")
        return self.volume_once(path, lambda volume: volume["state"] == "stopped")

    def stopped_row(self, path: str, code: str = "pass") -> dict[str, Any]:
        """Make a stopped volume, and wait until the panel shows it so: rows move when states change."""
        volume = self.stopped_volume(path, code)
        expect(self.row(path)).to_contain_text("stopped")
        return volume

    def volume_once(self, path: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a notebook's volume as soon as the server's view of it fits."""

        def look() -> dict[str, Any] | None:
            volume = self.server.volume(path)
            return volume if volume is not None and fits(volume) else None

        return eventually(look, PATIENCE / 1000, f"the volume of {path} fits")

    def hear(self, complaint: str) -> None:
        """Called with each error on the console."""
        if not complaint.startswith(OF_OTHERS):
            self.complaints.append(complaint)

    # -- parts of the page ----------------------------------------------------------------------------------------

    def show_running(self) -> None:
        """Open the panel of running sessions with only the section of volumes unfolded."""
        tab = self.page.locator('.lm-TabBar-tab[data-id="jp-running-sessions"]')
        if tab.get_attribute("aria-selected") != "true":
            tab.click()
        titles = self.page.locator("#jp-running-sessions .lm-AccordionPanel-title")
        titles.filter(has_text="Volumes").wait_for()
        for title in titles.all():
            is_wanted = "volumes" in title.inner_text().lower()
            if (title.get_attribute("aria-expanded") == "true") != is_wanted:
                # Its middle may be covered by a button of the section.
                title.click(position={"x": 8, "y": 8})

    def row(self, name: str) -> Locator:
        """The row of a volume in the panel."""
        return self.page.locator(".jp-Volumes-item").filter(
            has=self.page.get_by_text(name, exact=True)
        )

    def act(self, name: str, label: str) -> None:
        """Click an action of a volume's row, visible while the pointer is over the row."""

        def click() -> bool:
            self.row(name).hover()
            with contextlib.suppress(TimeoutError):
                self.row(name).get_by_label(label).click(timeout=1000)
                return True
            # Another row has come under the pointer meanwhile.
            return False

        eventually(click, PATIENCE / 1000, f"{label!r} is clicked")

    def toast(self, text: str) -> Locator:
        """The notification with a text."""
        return self.page.locator(".Toastify__toast").filter(has_text=text)

    @property
    def status(self) -> Locator:
        """The item in the status bar."""
        return self.page.locator(".jp-Volumes-status")

    @property
    def dialog(self) -> Locator:
        """The dialog that is open."""
        return self.page.locator(".jp-Dialog")

    # -- actions ----------------------------------------------------------------------------------------

    def run_command(self, label: str) -> None:
        """Choose a command of the palette."""
        self.page.keyboard.press("ControlOrMeta+Shift+C")
        palette = self.page.locator(".lm-CommandPalette")
        palette.locator("input").fill(label)
        palette.locator(".lm-CommandPalette-item").filter(has_text=label).first.click()

    def run_cell(self, number: int = 0) -> Locator:
        """Run a cell of the notebook in front; return the cell."""
        cell = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").nth(number)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        return cell


def place_with_lab(home: Path, **settings: Any) -> Place:
    """Return a home whose servers offer the labextension of this checkout."""
    place = Place(home, settings=settings, extensions=True)
    shutil.copytree(LABEXTENSION, home / "share" / "labextensions" / "jupyter-volumes")
    # JupyterLab asks newcomers whether it may fetch news, in the corner where notifications appear; and it asks the
    # registry whether there is a newer one.
    notification = home / "config/lab/user-settings/@jupyterlab/apputils-extension"
    notification.mkdir(parents=True)
    (notification / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    return place


@contextlib.contextmanager
def laboratory(browser: Browser, place: Place, *arguments: str) -> Iterator[Laboratory]:
    """Run a server and open a page of the browser, for as long as the block lasts."""
    env = {"JUPYTER_PATH": str(place.home / "share")}
    with (
        served(place, *arguments, env=env) as server,
        contextlib.closing(browser.new_context(viewport={"width": 1280, "height": 800})) as context,
    ):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        opened = Laboratory(server, page)
        page.on("console", lambda line: opened.hear(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: opened.hear(str(error)))
        yield opened


def matching(text: str) -> re.Pattern[str]:
    """Return a pattern that finds a text with any white space between its words."""
    return re.compile(r"\s+".join(map(re.escape, text.split())))


expect.set_options(timeout=PATIENCE)
