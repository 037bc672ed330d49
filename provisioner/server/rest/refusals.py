"""The errors of the REST interface in addition to the pool's: each with a stable code and an HTTP status."""

from __future__ import annotations

from provisioner.core.errors import (
    BadSession,
    Cancelled,
    ConfigError,
    DiskFull,
    NotBackedUp,
    PoolDisabled,
    PoolFull,
    RegistryUnusable,
    RootUnusable,
    VolumeError,
    VolumeHeld,
    VolumeNotFound,
)


class Refusal(VolumeError):
    """A request that the interface refuses."""

    status = 400


class BadRequest(Refusal):
    """A body that does not fit the operation."""

    code = "bad-request"


class BodyTooLarge(Refusal):
    """A body larger than any that an operation takes."""

    code = "body-too-large"
    status = 413


class NotConfirmed(Refusal):
    """A deletion whose confirmation does not name the session."""

    code = "not-confirmed"


class NoKernel(Refusal):
    """An operation that needs a running kernel, on a volume without one in this server."""

    code = "no-kernel"
    status = 409


class TooManyJobs(Refusal):
    """Several long operations are under way."""

    code = "too-many-jobs"
    status = 429


class NotFound(Refusal):
    """No such volume, job or path."""

    code = "not-found"
    status = 404


_STATUS: dict[type[VolumeError], int] = {
    BadSession: 400,
    VolumeNotFound: 404,
    Cancelled: 409,
    NotBackedUp: 409,
    PoolDisabled: 409,
    PoolFull: 409,
    VolumeHeld: 409,
    ConfigError: 503,
    RegistryUnusable: 503,
    RootUnusable: 503,
    DiskFull: 507,
}


def status_of(error: VolumeError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, Refusal):
        return error.status
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
