"""Packages that a volume has lost are installed again from their exact origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.hydration.steps.python.packages import arguments

ORIGINS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"url": "https://127.0.0.1/plum.whl"}, ("plum @ https://127.0.0.1/plum.whl",)),
    (
        {
            "url": "https://127.0.0.1/plum.git",
            "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "4711"},
            "subdirectory": "python",
        },
        ("plum @ git+https://127.0.0.1/plum.git@4711#subdirectory=python",),
    ),
    (
        {"url": "https://127.0.0.1/plum.zip", "archive_info": {"hashes": {"sha256": "abc"}}},
        ("plum @ https://127.0.0.1/plum.zip#sha256=abc",),
    ),
    ({"url": "file:///plum", "dir_info": {"editable": True}}, ("-e", "file:///plum")),
    ({"url": "https://127.0.0.1/plum.git", "vcs_info": {"vcs": "git"}}, ("plum==1.0",)),
    ({"url": "https://127.0.0.1/plum.zip", "archive_info": {"hashes": 3}}, ("plum==1.0",)),
    ({}, ("plum==1.0",)),
]


@pytest.mark.parametrize(("origin", "expected"), ORIGINS)
def test_a_package_is_installed_again_from_its_exact_origin(
    tmp_path: Path, origin: dict[str, Any], expected: tuple[str, ...]
) -> None:
    info = tmp_path / "plum-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plum\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps(origin))
    assert arguments(tmp_path) == {"plum": expected}
