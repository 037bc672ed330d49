"""Long kernel starts: their progress is shown, cells wait for them, and the reason of a failure is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browsing import Laboratory, matching
from tests.support.serving import KERNELSPEC, Place

SLOW = "for part in one two three; do echo part $part; sleep 1; done; echo prepared > made.txt"
FAILING = "sleep 2; echo half way; sleep 2; echo 'the licence server does not answer' >&2; exit 3"

COUNT_TOASTS = """() => {
    const seen = new Set();
    const look = () => document.querySelectorAll('.Toastify__toast').forEach(it => seen.add(it));
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
    look();
    window.countToasts = () => seen.size;
}"""


@pytest.fixture(scope="module", autouse=True)
def kernelspecs(lab: Laboratory) -> Iterator[None]:
    """Install a kernel whose hydration is slow, and one whose hydration fails."""
    add_kernelspec(lab.server.place, "slow", SLOW)
    add_kernelspec(lab.server.place, "failing", FAILING)
    yield
    # JupyterLab itself reports failed starts as errors on the console.
    lab.page.goto("about:blank")
    lab.complaints.clear()


def add_kernelspec(place: Place, name: str, script: str) -> None:
    """Install a kernelspec whose volumes a shell script hydrates."""
    spec = json.loads((KERNELSPEC / "kernel.json").read_text())
    spec["display_name"] = name
    spec["metadata"]["kernel_provisioner"]["config"] = {"bootstrap_command": ["sh", "-c", script]}
    path = Path(place.home, "data", "kernels", name)
    path.mkdir(parents=True)
    (path / "kernel.json").write_text(json.dumps(spec))


def test_one_notification_follows_a_slow_start_and_a_cell_run_meanwhile_is_executed(
    lab: Laboratory,
) -> None:
    lab.notebook("slow.ipynb", "print(open('made.txt').read())", kernel="slow")
    lab.open("slow.ipynb")
    lab.toast("Preparing slow.ipynb").wait_for()
    cell = lab.run_cell()
    expect(cell.locator(".jp-InputPrompt")).to_have_text("[*]:")
    expect(lab.toast("Preparing slow.ipynb")).to_have_text(matching("bootstrap: part three"))
    expect(lab.toast("slow.ipynb")).to_have_count(1)

    expect(lab.toast("slow.ipynb")).to_have_text(matching("The volume of slow.ipynb is ready"))
    expect(lab.toast("Preparing")).to_have_count(0)
    expect(cell.locator(".jp-OutputArea-output")).to_have_text("prepared\n")
    expect(cell.locator(".jp-InputPrompt")).to_have_text("[1]:")


def test_closing_the_notebook_ends_its_start_without_a_message(lab: Laboratory) -> None:
    lab.notebook("closed.ipynb", kernel="slow")
    lab.open("closed.ipynb")
    lab.toast("Preparing closed.ipynb").wait_for()
    (session,) = [
        session
        for session in lab.server.get("/api/sessions").json()
        if session["path"] == "closed.ipynb"
    ]
    lab.server.ask("DELETE", f"/api/sessions/{session['id']}")
    expect(lab.toast("closed.ipynb")).to_have_count(0)
    lab.volume_once("closed.ipynb", lambda volume: volume["state"] == "stopped")


def test_a_failed_start_shows_the_reason_and_the_output_of_the_command(lab: Laboratory) -> None:
    lab.notebook("failing.ipynb", kernel="failing")
    lab.open("failing.ipynb")
    lab.toast("Preparing failing.ipynb").wait_for()
    lab.page.evaluate(COUNT_TOASTS)
    lab.toast("Preparing failing.ipynb").get_by_title("Hide notification").click()
    # JupyterLab's own dialog.
    expect(lab.dialog).to_contain_text("the licence server does not answer")
    lab.dialog.get_by_role("button").last.click()

    error = lab.toast("failing.ipynb is not started.")
    expect(error).to_have_class(matching("Toastify__toast--error"))
    expect(error).to_contain_text("the licence server does not answer")
    expect(lab.toast("Preparing")).to_have_count(0)
    # Progress did not show the hidden notification again; the failure did.
    assert lab.page.evaluate("window.countToasts()") == 2
    error.get_by_role("button", name="Show Details").click()
    output = lab.page.locator(".jp-Volumes-output")
    expect(output).to_contain_text("the licence server does not answer")
    expect(output).to_contain_text("jupyter volumes hydrate")
