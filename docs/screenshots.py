"""Takes the pictures in docs/screenshots from a real JupyterLab: `python -m docs.screenshots` in the checkout."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from tests.lab.test_hydrations import add_kernelspec
from tests.support.browsing import FLAGS, Laboratory, laboratory, place_with_lab
from tests.support.serving import Place

HERE = Path(__file__).parent / "screenshots"
WRITE = "open('result.bin', 'wb').write(b'x' * {size})"
SLOW = "for package in numpy scipy xarray dask; do echo Installing $package; sleep 1; done"
FAILING = "sleep 2; echo 'error: the licence server does not answer' >&2; exit 3"

COMPUTE = """
get_ipython().run_line_magic("pip", "install -q matplotlib")
import numpy as np
orbit = np.empty((12_000, 3))
x, y, z = 0.1, 0.0, 0.0
for i in range(len(orbit)):
    x, y, z = x + 0.005 * 10 * (y - x), y + 0.005 * (x * (28 - z) - y), z + 0.005 * (x * y - 8 / 3 * z)
    orbit[i] = x, y, z
np.save("orbit.npy", orbit)
"""
DRAW = (
    """import matplotlib.pyplot as plt  # installed in this volume only
import numpy as np""",
    """orbit = np.load("orbit.npy")  # computed by a kernel that has ended
figure, axis = plt.subplots(figsize=(7.4, 4.1), layout="constrained")
axis.plot(orbit[:, 0], orbit[:, 2], linewidth=0.4)
axis.set(xlabel="x", ylabel="z", title="The Lorenz system");""",
)

STILL = """document.getAnimations().every(
    animation =>
        animation.playState !== 'running' ||
        animation.effect.getTiming().iterations === Infinity  // a spinner
)"""
THEMES: dict[str, str] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


def choose_theme(place: Place, theme: str) -> None:
    """Have the next page that is opened in that theme."""
    path = place.config / "lab/user-settings/@jupyterlab/apputils-extension"
    (path / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[theme]}))


def furnish(lab: Laboratory) -> None:
    """Make volumes in every state."""
    for name, size in (("climate model.ipynb", 48_000_000), ("survey 2025.ipynb", 7_300_000)):
        volume = lab.stopped_volume(name, WRITE.format(size=size))
        lab.server.job(lab.server.ask("POST", f"/api/volumes/{volume['id']}/backup"))
    lab.server.ask("PUT", f"/api/volumes/{volume['id']}/pin", {"pinned": True})
    lab.stopped_volume("scratch.ipynb", WRITE.format(size=900_000))
    lab.notebook("orbits.ipynb", *DRAW)
    session = lab.server.start("orbits.ipynb")
    lab.server.run(session["kernel"]["id"], COMPUTE, within=300)
    lab.server.ask("DELETE", f"/api/sessions/{session['id']}")
    volume = lab.volume_once("orbits.ipynb", lambda volume: volume["state"] == "stopped")
    lab.server.job(lab.server.ask("POST", f"/api/volumes/{volume['id']}/backup"))
    lab.notebook("analysis.ipynb", "results = load('result.bin')", "results.describe()")


def shoot_work(lab: Laboratory, theme: str) -> None:
    """A notebook that uses the packages and the data of its volume, beside the list of volumes."""
    lab.open_idle("orbits.ipynb")
    lab.show_running()
    for number in range(len(DRAW)):
        lab.run_cell(number)
    lab.page.locator(".jp-RenderedImage img").wait_for()
    lab.row("orbits.ipynb").get_by_text("active").wait_for()
    lab.page.mouse.move(640, 600)
    # More pixels, for screens that have them.
    devtools = lab.page.context.new_cdp_session(lab.page)
    size = {"width": 1000, "height": 640, "deviceScaleFactor": 1.5, "mobile": False}
    devtools.send("Emulation.setDeviceMetricsOverride", size)
    lab.page.wait_for_function(STILL)
    lab.page.screenshot(path=HERE / f"work-{theme}.png")
    devtools.send("Emulation.clearDeviceMetricsOverride")


def shoot_panel(lab: Laboratory, theme: str) -> None:
    """The panel, and the details of a volume."""
    lab.open_idle("analysis.ipynb")
    lab.show_running()
    lab.row("analysis.ipynb").get_by_text("active").wait_for()
    lab.row("climate model.ipynb").hover()
    shoot(lab, f"running-{theme}")
    lab.status.click()
    lab.dialog.wait_for()
    shoot(lab, f"details-{theme}")
    lab.page.keyboard.press("Escape")


def shoot_starts(lab: Laboratory, theme: str) -> None:
    """A slow start, and one that fails."""
    for name in ("slow", "failing"):
        lab.notebook(f"{name}-{theme}.ipynb", "import xarray", kernel=name)
    lab.open(f"slow-{theme}.ipynb")
    lab.toast("Preparing").wait_for()
    lab.run_cell()
    lab.toast("Installing dask").wait_for()
    shoot(lab, f"hydration-{theme}", area="corner")
    lab.open(f"failing-{theme}.ipynb")
    lab.dialog.get_by_role("button").last.click()
    error = lab.toast("is not started")
    error.wait_for()
    shoot(lab, f"failure-{theme}", area="corner")


def shoot_cull(lab: Laboratory, theme: str) -> None:
    """The warning before an idle kernel is shut down."""
    lab.notebook(f"idle-{theme}.ipynb")
    lab.open_idle(f"idle-{theme}.ipynb")
    lab.toast("its kernel is shut down at").wait_for()
    shoot(lab, f"warning-{theme}", area="corner")


def shoot(lab: Laboratory, name: str, *, area: Literal["page", "corner"] = "page") -> None:
    """Take one picture, once nothing moves any more."""
    lab.page.wait_for_function(STILL)
    clip = {"x": 0.0, "y": 0.0, "width": 1000.0, "height": 640.0}
    if area == "corner":
        clip = {"x": 520.0, "y": 390.0, "width": 480.0, "height": 250.0}
    lab.page.screenshot(path=HERE / f"{name}.png", clip=clip)  # type: ignore[arg-type]  # a TypedDict there


def main() -> None:
    """Take all of them, in both themes."""
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        usual = place_with_lab(Path(scratch, "usual"))
        add_kernelspec(usual, "slow", SLOW)
        add_kernelspec(usual, "failing", FAILING)
        with laboratory(browser, usual) as lab:
            lab.page.set_viewport_size({"width": 1000, "height": 640})
            furnish(lab)
            for theme in THEMES:
                choose_theme(usual, theme)
                shoot_work(lab, theme)
            for theme in THEMES:
                choose_theme(usual, theme)
                shoot_panel(lab, theme)
                shoot_starts(lab, theme)
        hasty = place_with_lab(
            Path(scratch, "hasty"),
            idle_shutdown="8s",
            cull_warning="4s",
            cull_interval="1s",
            cull_connected=True,
        )
        with laboratory(browser, hasty) as lab:
            lab.page.set_viewport_size({"width": 1000, "height": 640})
            for theme in THEMES:
                choose_theme(hasty, theme)
                shoot_cull(lab, theme)
        browser.close()


if __name__ == "__main__":
    main()
