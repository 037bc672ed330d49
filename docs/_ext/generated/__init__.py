"""A Sphinx extension that writes the reference from the program.

A page has a line such as `<!-- generated: settings VolumePool root max_volumes -->`. The extension replaces it by the
Markdown that the function of that name returns for those arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from generated.command_line import commands
from generated.errors import errors
from generated.events import events
from generated.rest import operations, refusals, schemas
from generated.settings import settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GENERATORS: Mapping[str, Callable[..., str]] = {
    "commands": commands,
    "errors": errors,
    "events": events,
    "operations": operations,
    "refusals": refusals,
    "schemas": schemas,
    "settings": settings,
}

MARKER = re.compile(r"^<!-- generated: (?P<call>.+) -->$", re.MULTILINE)


def fill_in(text: str) -> str:
    """Return a page with each marker replaced by what it stands for."""

    def generate(marker: re.Match[str]) -> str:
        name, *arguments = marker["call"].split()
        return GENERATORS[name](*arguments)

    return MARKER.sub(generate, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx when it loads the extension."""

    def read(_app: Sphinx, _page: str, source: list[str]) -> None:
        source[0] = fill_in(source[0])

    def outdated(app: Sphinx, *_: object) -> list[str]:
        # What the program says may have changed although the page has not.
        return [
            page
            for page in app.env.found_docs
            if MARKER.search(app.env.doc2path(page).read_text(encoding="utf-8"))
        ]

    app.connect("source-read", read)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
