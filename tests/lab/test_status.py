"""The status bar and the commands for the notebook in front."""

from __future__ import annotations

import os
import re

import psutil
import pytest
from playwright.sync_api import expect

from tests.support.browsing import Laboratory
from tests.support.serving import eventually


@pytest.fixture(scope="module", autouse=True)
def opened(lab: Laboratory) -> None:
    """Open JupyterLab with a running notebook in front."""
    lab.notebook("front.ipynb")
    lab.open_idle("front.ipynb")


def test_the_status_bar_shows_the_volume_of_the_notebook_in_front(lab: Laboratory) -> None:
    expect(lab.status).to_have_text("Volume front.ipynb: active")
    expect(lab.status).to_have_attribute("title", re.compile("Backup: no backup"))


def test_a_click_on_the_status_bar_shows_the_details(lab: Laboratory) -> None:
    volume = lab.server.volume("front.ipynb")
    assert volume is not None
    lab.status.click()
    for text in (volume["session"], volume["path"], "python3-volume", "no backup"):
        expect(lab.dialog).to_contain_text(text)
    lab.page.keyboard.press("Escape")
    expect(lab.dialog).to_have_count(0)


def test_the_status_bar_shows_nothing_if_no_notebook_is_in_front(lab: Laboratory) -> None:
    lab.run_command("New Launcher")
    expect(lab.status).to_be_hidden()
    lab.page.locator(".lm-TabBar-tab").filter(has_text="front.ipynb").first.click()
    expect(lab.status).to_be_visible()


def test_a_notebook_is_pinned_from_the_palette(lab: Laboratory) -> None:
    lab.run_command("Pin This Notebook's Volume")
    lab.volume_once("front.ipynb", lambda volume: volume["pinned"] is True)
    lab.run_command("Unpin This Notebook's Volume")
    lab.volume_once("front.ipynb", lambda volume: volume["pinned"] is False)


def test_the_path_of_the_volume_is_copied_from_the_palette(lab: Laboratory) -> None:
    lab.run_command("Copy Volume Path")
    volume = lab.server.volume("front.ipynb")
    assert volume is not None
    eventually(
        lambda: lab.page.evaluate("navigator.clipboard.readText()") == volume["path"],
        what="the path is on the clipboard",
    )


def test_a_terminal_opens_in_the_volume(lab: Laboratory) -> None:
    volume = lab.server.volume("front.ipynb")
    assert volume is not None
    lab.run_command("Open Terminal in Volume")
    lab.page.locator(".jp-Terminal").wait_for()
    shells = psutil.Process(lab.server.process.pid).children
    eventually(
        lambda: os.path.realpath(volume["path"]) in {p.cwd() for p in shells() if p.terminal()},
        what="a shell in the volume",
    )
    lab.page.locator(".lm-TabBar-tab").filter(has_text="front.ipynb").first.click()


def test_a_running_notebook_is_backed_up_after_the_user_agrees_to_shut_its_kernel_down(
    lab: Laboratory,
) -> None:
    lab.run_command("Back Up This Notebook's Volume")
    expect(lab.dialog).to_contain_text("Shut down the kernel of front.ipynb?")
    lab.dialog.get_by_role("button", name="Shut Down and Back Up").click()
    lab.toast("front.ipynb is backed up.").wait_for()
    volume = lab.server.volume("front.ipynb")
    assert volume is not None
    assert volume["backup"]["current"] is True
    expect(lab.status).to_have_text(re.compile(r"Volume front.ipynb: stopped · \d"))
    expect(lab.status).to_have_attribute("title", re.compile("Backup: backed up"))


def test_the_console_shows_no_error(lab: Laboratory) -> None:
    assert lab.complaints == []
