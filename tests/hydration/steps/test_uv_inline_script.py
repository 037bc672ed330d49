from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from provisioner.core.errors import ConfigError
from provisioner.hydration.steps.uv.inline_script import InlineScript, inline_script

BLOCK = (
    '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "pandas>=2",\n# ]\n# ///'
)


def notebook(*sources: str) -> Any:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": s} for s in sources]
    prose = {"cell_type": "markdown", "metadata": {}, "source": BLOCK}
    text = {"cells": [prose, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    return nbformat.reads(json.dumps(text), as_version=4)  # type: ignore[no-untyped-call]  # nbformat's


def test_the_first_code_cell_with_a_block_declares() -> None:
    found = inline_script(notebook("import os", f"{BLOCK}\nimport pandas", BLOCK.replace("2", "3")))
    assert found == InlineScript(("pandas>=2",), ">=3.11")


def test_a_source_may_be_a_list_of_lines() -> None:
    cell = {"cell_type": "code", "source": BLOCK.splitlines(keepends=True)}
    assert inline_script({"cells": [cell]}) == InlineScript(("pandas>=2",), ">=3.11")


@pytest.mark.parametrize("block", [BLOCK, BLOCK.replace("\n", "\n#\n", 1)])
def test_windows_line_ends_are_read(block: str) -> None:
    cell = {"cell_type": "code", "source": block.replace("\n", "\r\n")}
    assert inline_script({"cells": [cell]}) == InlineScript(("pandas>=2",), ">=3.11")


def test_a_file_that_is_no_notebook_declares_nothing() -> None:
    code: dict[str, Any] = {"cell_type": "code"}
    odd: list[Any] = [None, 1, "x", [None, "x", []], [{**code, "source": None}, code]]
    for cells in odd:
        assert inline_script({"cells": cells}) is None
    assert inline_script({"cells": [{**code, "source": ["# /// script\n", 1]}]}) is None
    assert inline_script({}) is None


def test_a_block_inside_of_another_comment_block_is_part_of_it() -> None:
    assert inline_script(notebook(f"# /// other\n{BLOCK}")) is None
    assert inline_script(notebook(f"# /// other\n\n{BLOCK}")) is not None


def test_a_hundred_thousand_opening_lines_are_read_quickly() -> None:
    """The regular expression of PEP 723 would take twenty minutes for them, while no other thread runs."""
    cell = {"cell_type": "code", "source": "# /// script\n" * 100_000}
    assert inline_script({"cells": [cell]}) is None


@pytest.mark.parametrize(
    "source", ["", "print(1)", "# /// other\n# a = 1\n# ///", "# /// script\n"]
)
def test_a_notebook_without_a_block_declares_nothing(source: str) -> None:
    assert inline_script(notebook(source)) is None


def test_an_empty_block_declares_no_requirements() -> None:
    assert inline_script(notebook("# /// script\n# ///")) is None
    assert inline_script(notebook("# /// script\n#\n# ///")) == InlineScript(())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"{BLOCK}\n\n{BLOCK}", "two script blocks"),
        ("# /// script\n# dependencies = [\n# ///", "not TOML"),
        ('# /// script\n# dependencies = "pandas"\n# ///', "list of strings"),
        ("# /// script\n# requires-python = 3\n# ///", "a string"),
        (f"# /// script\n# a = {'[' * 5000}\n# ///", "not TOML"),
        (f"# /// script\n# a = {'9' * 5000}\n# ///", "not TOML"),
        ('# /// script\n# [tool.uv]\n# find-links = ["/tmp"]\n# ///', "a notebook may not set"),
    ],
)
def test_a_declaration_that_a_notebook_may_not_make_is_refused_in_one_line(
    source: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        inline_script(notebook(source))
    assert "\n" not in str(refusal.value)
