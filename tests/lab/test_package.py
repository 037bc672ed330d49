"""The installed labextension: complete, and without a build step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import provisioner
from tests.support.browsing import LABEXTENSION, Laboratory, laboratory, place_with_lab

STATIC = LABEXTENSION / "static"
PACKAGE = json.loads((LABEXTENSION / "package.json").read_text())


WITHOUT_TWO = """
window._JUPYTERLAB = new Proxy({}, {
    set(containers, name, container) {
        const { init } = container;
        if (name === 'jupyter-volumes') {
            const broken = { '1': { get: async () => { throw new Error('broken'); } } };
            container.init = scope =>
                init({ ...scope, '@jupyterlab/statusbar': undefined, '@jupyterlab/running': broken });
        }
        containers[name] = container;
        return true;
    }
});
"""
"""Runs before JupyterLab: hides the module of the status bar from this extension, and breaks the panel's."""


@pytest.fixture(scope="module")
def bare(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A server that offers the labextension but has not loaded the server extension."""
    place = place_with_lab(tmp_path_factory.mktemp("bare") / "home")
    without = "--ServerApp.jpserver_extensions={'provisioner.server': False}"
    with laboratory(browser, place, without) as opened:
        yield opened


def test_the_labextension_has_the_version_of_the_package() -> None:
    assert PACKAGE["version"] == provisioner.__version__
    assert PACKAGE["jupyterlab"]["_build"]["load"].endswith(f"?v={provisioner.__version__}")


def test_the_modules_that_exist_are_exactly_those_imported() -> None:
    imported = {PACKAGE["jupyterlab"]["_build"]["load"].split("?")[0].removeprefix("static/")}
    for module in STATIC.glob("*.js"):
        imported |= set(re.findall(r'(?:from "\./|new URL\(")([\w.]+)"', module.read_text()))
    assert imported == {path.name for path in Path(STATIC).iterdir()}


def test_without_the_server_extension_there_is_no_section_and_no_error(bare: Laboratory) -> None:
    requested: list[str] = []
    bare.page.on("request", lambda request: requested.append(request.url))
    bare.notebook("plain.ipynb", kernel="python3")
    bare.open_idle("plain.ipynb")
    bare.page.locator('.lm-TabBar-tab[data-id="jp-running-sessions"]').click()
    titles = bare.page.locator("#jp-running-sessions .lm-AccordionPanel-title")
    titles.filter(has_text="Kernels").wait_for()
    assert titles.filter(has_text="Volumes").count() == 0
    assert bare.page.evaluate("'jupyter-volumes' in window._JUPYTERLAB")
    assert [url for url in requested if "api/volumes" in url] == []
    assert bare.complaints == []


def test_a_missing_or_broken_module_disables_only_the_features_that_need_it(
    lab: Laboratory,
) -> None:
    lab.notebook("partly.ipynb")
    page = lab.page.context.new_page()
    page.add_init_script(WITHOUT_TWO)
    partly = Laboratory(lab.server, page)
    page.on("pageerror", lambda error: partly.hear(str(error)))
    try:
        partly.open_idle("partly.ipynb")
        partly.run_command("Show Details of This Notebook's Volume")
        expect(partly.dialog).to_contain_text(lab.server.place.session("partly.ipynb"))
        page.keyboard.press("Escape")
        expect(partly.status).to_have_count(0)
        page.locator('.lm-TabBar-tab[data-id="jp-running-sessions"]').click()
        titles = page.locator("#jp-running-sessions .lm-AccordionPanel-title")
        titles.filter(has_text="Kernels").wait_for()
        assert titles.filter(has_text="Volumes").count() == 0
        assert partly.complaints == []
    finally:
        page.close()
