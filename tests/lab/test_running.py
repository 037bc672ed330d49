"""The section of volumes in the panel of running sessions, and its actions."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browsing import Laboratory, matching

WRITE = "open('kept.bin', 'wb').write(b'x' * 3_000_000)"


@pytest.fixture(scope="module", autouse=True)
def opened(lab: Laboratory) -> None:
    """Open JupyterLab with a running notebook, and the panel."""
    lab.notebook("analysis.ipynb")
    lab.open_idle("analysis.ipynb")
    lab.show_running()


def test_the_panel_shows_each_volumes_state_size_expiry_and_age_of_backup(
    lab: Laboratory,
) -> None:
    volume = lab.stopped_row("old.ipynb", WRITE)
    lab.server.job(lab.server.ask("POST", f"/api/volumes/{volume['id']}/backup"))
    expect(lab.row("analysis.ipynb")).to_contain_text("active")
    lab.page.get_by_title("Refresh List").click()
    expect(lab.row("old.ipynb")).to_contain_text(
        matching("stopped · 3 MB · deleted from disk in 14 days, backed up")
    )
    title = lab.row("old.ipynb").locator(".jp-RunningSessions-itemLabel").get_attribute("title")
    assert title is not None
    assert lab.server.place.session("old.ipynb") in title


def test_a_volume_appears_by_itself_when_a_kernel_elsewhere_acquires_it(lab: Laboratory) -> None:
    lab.notebook("elsewhere.ipynb")
    lab.server.start("elsewhere.ipynb")
    # Well before the panel polls.
    expect(lab.row("elsewhere.ipynb")).to_contain_text("active", timeout=10_000)


def test_a_click_pins_a_volume_and_another_unpins_it(lab: Laboratory) -> None:
    lab.stopped_row("pinned.ipynb")
    lab.act("pinned.ipynb", "Pin pinned.ipynb")
    expect(lab.row("pinned.ipynb")).to_contain_text("pinned,")
    lab.volume_once("pinned.ipynb", lambda volume: volume["pinned"] is True)

    button = lab.row("pinned.ipynb").get_by_label("Unpin pinned.ipynb")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    lab.volume_once("pinned.ipynb", lambda volume: volume["pinned"] is False)


def test_actions_work_with_the_keyboard_alone(lab: Laboratory) -> None:
    lab.stopped_row("keyboard.ipynb")
    row = lab.row("keyboard.ipynb")
    row.focus()
    lab.page.keyboard.press("Tab")
    expect(row.get_by_label("Pin keyboard.ipynb")).to_be_focused()
    lab.page.keyboard.press("Enter")
    lab.volume_once("keyboard.ipynb", lambda volume: volume["pinned"] is True)


def test_a_stopped_volume_is_backed_up_by_a_click(lab: Laboratory) -> None:
    lab.stopped_row("precious.ipynb", WRITE)
    lab.act("precious.ipynb", "Back up precious.ipynb")
    lab.toast("precious.ipynb is backed up.").wait_for()
    expect(lab.row("precious.ipynb")).to_contain_text("backed up")
    volume = lab.server.volume("precious.ipynb")
    assert volume is not None
    assert volume["backup"]["current"] is True


def test_a_deletion_needs_the_typed_name_and_the_backup_restores_the_files(
    lab: Laboratory,
) -> None:
    volume = lab.stopped_row("deleted.ipynb", WRITE)
    lab.server.job(lab.server.ask("POST", f"/api/volumes/{volume['id']}/backup"))
    kept = Path(volume["path"], "kept.bin")

    lab.act("deleted.ipynb", "Delete the files of deleted.ipynb")
    delete = lab.dialog.get_by_role("button", name="Delete")
    expect(delete).to_be_disabled()
    lab.page.keyboard.type("deleted.ipyn")
    lab.page.keyboard.press("Enter")
    expect(delete).to_be_disabled()
    assert kept.exists()
    lab.page.keyboard.type("b")
    expect(delete).to_be_enabled()
    lab.page.keyboard.press("Enter")

    expect(lab.row("deleted.ipynb")).to_have_count(0)
    lab.volume_once("deleted.ipynb", lambda volume: volume["state"] == "pruned")
    assert not kept.exists()

    lab.page.get_by_title("Show Pruned Volumes").click()
    expect(lab.row("deleted.ipynb")).to_contain_text(matching("pruned · no files on disk"))
    lab.act("deleted.ipynb", "Restore deleted.ipynb")
    lab.toast("deleted.ipynb is back on disk.").wait_for()
    expect(lab.toast("deleted.ipynb")).to_have_count(1)
    assert kept.stat().st_size == 3_000_000
    expect(lab.row("deleted.ipynb")).to_contain_text("stopped")


def test_a_refusal_shows_the_servers_message(lab: Laboratory) -> None:
    volume = lab.stopped_row("taken.ipynb")
    # The page does not know yet: the dialog opens for the old row.
    lab.act("taken.ipynb", "Delete the files of taken.ipynb")
    lab.page.keyboard.type("taken.ipynb")
    lab.server.start("taken.ipynb")
    lab.dialog.get_by_role("button", name="Delete").click()
    lab.toast("is in use by").wait_for()
    assert Path(volume["path"]).exists()


def test_the_context_menu_of_a_row_has_the_commands(lab: Laboratory) -> None:
    volume = lab.stopped_row("menu.ipynb")
    lab.row("menu.ipynb").click(button="right")
    lab.page.locator(".lm-Menu-item").filter(has_text="Show Details").click()
    expect(lab.dialog).to_contain_text(volume["path"])
    lab.page.keyboard.press("Escape")


def test_the_kernel_of_a_volume_is_shut_down_and_its_files_stay(lab: Laboratory) -> None:
    lab.notebook("ended.ipynb")
    lab.server.start("ended.ipynb")
    row = lab.row("ended.ipynb")
    expect(row).to_contain_text("active")
    row.hover()
    row.get_by_title("Shut Down Kernel").click()
    volume = lab.volume_once(
        "ended.ipynb", lambda volume: volume["state"] == "stopped" and not volume["kernels"]
    )
    assert Path(volume["path"]).is_dir()
    expect(row).to_contain_text("stopped")


def test_the_name_of_a_volume_opens_its_notebook(lab: Laboratory) -> None:
    lab.stopped_row("opened.ipynb")
    lab.row("opened.ipynb").get_by_text("opened.ipynb", exact=True).click()
    lab.page.locator(".lm-TabBar-tab.lm-mod-current").filter(has_text="opened.ipynb").wait_for()


def test_the_console_shows_no_error(lab: Laboratory) -> None:
    assert lab.complaints == []
