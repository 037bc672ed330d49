"""Kernels shut down for idleness: the warning, the button that keeps them, and the notice about the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsing import Laboratory, laboratory, matching, place_with_lab


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A server that soon shuts idle kernels down, with an open notebook too."""
    place = place_with_lab(
        tmp_path_factory.mktemp("culls") / "home",
        idle_shutdown="8s",
        cull_warning="4s",
        cull_interval="1s",
        cull_connected=True,
    )
    with laboratory(browser, place) as opened:
        opened.notebook("idle.ipynb", "import time; time.sleep(3)")
        opened.open("idle.ipynb")
        yield opened


WARNING = "idle.ipynb is idle: its kernel is shut down at"


def test_a_kept_kernel_runs_on_and_the_next_warning_comes_when_it_is_idle_again(
    lab: Laboratory,
) -> None:
    warning = lab.toast(WARNING)
    expect(warning).to_contain_text("Variables are lost then, files stay.")
    before = lab.server.volume("idle.ipynb")
    assert before is not None
    warning.get_by_role("button", name="Keep running").click()
    expect(warning).to_have_count(0)

    # The next warning comes after the time of the first cull.
    expect(warning).to_have_count(1)
    after = lab.server.volume("idle.ipynb")
    assert after is not None
    assert after["kernels"] == before["kernels"] != []
    assert after["idle_shutdown_at"] > before["idle_shutdown_at"]


def test_a_warning_disappears_when_the_kernel_runs_a_cell(lab: Laboratory) -> None:
    expect(lab.toast(WARNING)).to_have_count(1)
    before = lab.server.volume("idle.ipynb")
    assert before is not None
    cell = lab.run_cell()
    expect(lab.toast(WARNING)).to_have_count(0)
    expect(cell.locator(".jp-InputPrompt")).to_have_text("[1]:")
    after = lab.server.volume("idle.ipynb")
    assert after is not None
    assert after["kernels"] == before["kernels"] != []
    assert after["idle_shutdown_at"] > before["idle_shutdown_at"]


def test_after_the_cull_a_notice_shows_that_variables_are_gone_and_where_the_files_are(
    lab: Laboratory,
) -> None:
    notice = lab.toast("idle kernel shut down after")
    expect(notice).to_contain_text(matching("Variables are gone, files stayed in"))
    volume = lab.volume_once("idle.ipynb", lambda volume: volume["state"] == "stopped")
    expect(lab.toast(WARNING)).to_have_count(0)
    copy = notice.get_by_role("button", name="Copy Volume Path")
    expect(copy).to_have_attribute("title", volume["path"])
    assert Path(volume["path"]).is_dir()
    copy.click()
    assert lab.page.evaluate("navigator.clipboard.readText()") == volume["path"]
    assert lab.complaints == []
