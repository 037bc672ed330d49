"""What jupyter_client (8.10) and jupyter_server (2.21) leave undone for a kernel that takes minutes to start.

One function for each workaround. `tests/kernel/test_upstream.py` shows the fault of each without it, and fails once
upstream has mended it: then the function goes.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timezone
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import TraitError


def forget_failed_start(manager: Any, kernel_id: str) -> None:
    """Remove a failed start from `MultiKernelManager._pending_kernels`.

    `_add_kernel_when_ready` removes only starts that succeed. `shutdown_all` then tries to shut down a kernel that the
    server's manager does not know, and fails: the server never exits
    (https://github.com/jupyter/jupyter_client/issues/960).
    """
    pending = getattr(getattr(manager, "parent", None), "_pending_kernels", None)
    if isinstance(pending, dict):
        pending.pop(kernel_id, None)


def settle_cancelled_start(ready: Any, error: BaseException) -> None:
    """Cancel the `ready` of a start that was cancelled.

    `in_pending_state` (jupyter_client/manager.py) settles `ready` in `except Exception`, which CancelledError is not:
    every caller that awaits `ready` would wait for ever. `ready` is that of the start; a shutdown that began
    meanwhile has one of its own.
    """
    if ready is not None and isinstance(error, asyncio.CancelledError):
        ready.cancel()


def complete_connection(manager: Any, launcher: Any) -> None:
    """Give a launcher that failed to prepare the connection whose ports its cleanup returns.

    `LocalProvisioner.pre_launch` (provisioning/local_provisioner.py) caches ports before it writes the connection file.
    Where the file cannot be written, as on a full disk, `connection_info` stays empty, and the cleanup raises a
    KeyError that hides the real error.
    """
    if getattr(launcher, "ports_cached", False) and not launcher.connection_info:
        launcher.connection_info = manager.get_connection_info()


def require_wanted(manager: Any, *, shut_down: bool) -> None:
    """End the start of a kernel that was closed or shut down while it was pending.

    `MultiKernelManager._async_shutdown_kernel` does not stop a pending start: it cancels or skips the waiting, finds
    no process, and cleans up (https://github.com/jupyter/jupyter_client/issues/616). The start would go on and launch
    a kernel that nobody can reach.

    Raises
    ------
    asyncio.CancelledError
        No other error will do: `in_pending_state` would set it on the cancelled `ready` and fail with
        InvalidStateError (https://github.com/jupyter/jupyter_client/pull/967).
    """
    ready = getattr(manager, "ready", None)
    if shut_down or (ready is not None and ready.cancelled()):
        raise asyncio.CancelledError("The kernel was closed while it was pending.")


def mark_active(manager: Any) -> None:
    """Set `last_activity` of a pending kernel, so that no culler ends it as idle.

    `MappingKernelManager.cull_kernel_if_idle` (jupyter_server/services/kernels/kernelmanager.py) counts the time since
    `last_activity`, also of a kernel that is still starting and so has neither connections nor activity.
    """
    # A trait without a value raises TraitError when it is read.
    with contextlib.suppress(TraitError):
        if getattr(manager, "last_activity", None) is not None:
            manager.last_activity = datetime.now(timezone.utc)


def count_as_local(provisioner: type[KernelProvisionerBase]) -> None:
    """Make a provisioner that wraps a local one pass `isinstance(_, LocalProvisioner)`.

    Applications ask this way whether a kernel has a local process (as jupyter_client's own tests do,
    tests/test_kernelmanager.py), and then use `pid` and `process`. The class becomes a virtual subclass: it inherits
    nothing.
    """
    LocalProvisioner.register(provisioner)  # type: ignore[attr-defined]  # its ABCMeta is made at run time
