"""The requests that the interface refuses itself, and the HTTP status of every error by its stable code."""

from __future__ import annotations

from provisioner.core.errors import VolumeError

_STATUS = {
    "bad-request": 400,
    "bad-session": 400,
    "not-confirmed": 400,
    "not-found": 404,
    "cancelled": 409,
    "disabled": 409,
    "held": 409,
    "no-kernel": 409,
    "not-backed-up": 409,
    "pool-full": 409,
    "body-too-large": 413,
    "too-many-jobs": 429,
    "bad-setting": 503,
    "registry-unusable": 503,
    "root-unusable": 503,
    "disk-full": 507,
}


class Refusal(VolumeError):
    """A request that the interface refuses, with the stable code of the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def status_of(error: VolumeError) -> int:
    """Return the HTTP status of an error."""
    return _STATUS.get(error.code, 500)
