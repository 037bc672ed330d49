"""Logins and secrets are removed from addresses before they are shown."""

from __future__ import annotations

import pytest

from provisioner.core.logins import without_logins


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("get https://ada:pw@127.0.0.1/simple now", "get https://…@127.0.0.1/simple now"),
        ("https://127.0.0.1/a.whl?token=HUSH", "https://127.0.0.1/a.whl?token=…"),
        (
            "https://127.0.0.1/a?x=1&X-Amz-Signature=HUSH&y=2#z",
            "https://127.0.0.1/a?x=1&X-Amz-Signature=…&y=2#z",
        ),
        ("https://127.0.0.1/a?api_key=HUSH and so on", "https://127.0.0.1/a?api_key=… and so on"),
        ("https://127.0.0.1/a?page=2", "https://127.0.0.1/a?page=2"),
        ("is it a key = value?", "is it a key = value?"),
    ],
)
def test_an_address_is_shown_without_its_login(said: str, shown: str) -> None:
    assert without_logins(said) == shown
