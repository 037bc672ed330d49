"""The overlay environment: a private `sys.prefix` over all that the launching environment has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Literal

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.environments import CLAIM, Claim, claim_of, names, settled
from provisioner.hydration.interpreter import runs_python
from provisioner.hydration.pieces import File, Piece, writing
from provisioner.hydration.records import digest, digest_text
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.overlay import launching
from provisioner.hydration.steps.overlay.activation import activate
from provisioner.hydration.steps.overlay.console_scripts import bring_home
from provisioner.hydration.steps.overlay.introspection import is_below
from provisioner.hydration.steps.overlay.launching import LaunchingPython
from provisioner.hydration.steps.overlay.layout import layout, outdated, packages

_SCHEMA = "1"


class Overlay:
    """Lays a virtual environment of the volume's own over the one that the kernel would run in.

    It sees every package of the launching environment; what is installed lands in the volume, and hides what
    the launching environment has of the same name. Nothing is copied and, for the interpreter that we run in
    ourselves, no process is started. Kernels that no Python is the program of are left as they are.

    Each Python whose kernels share the volume has one of its own: it would not do to exchange the interpreter
    under a kernel that runs. One that has moved or was upgraded keeps the one that it had.

    It is never trusted: at each start every piece is compared with what it should be for the interpreter of
    today at the place of today. What the user installed is left alone; only the first lines of console
    scripts follow the volume when it moves.

    Parameters
    ----------
    requires_python
        A version specifier that the interpreter must satisfy; None for any.
    """

    def __init__(self, requires_python: str | None = None) -> None:
        self._requires_python = requires_python

    @property
    def name(self) -> str:
        """`overlay`."""
        return "overlay"

    @property
    def lasts(self) -> Literal[True]:
        """Return True: each Python has an overlay of its own."""
        return True

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Digest what decides how the interpreter looks.

        Raises
        ------
        HydrationFailed
            The interpreter does not exist.
        """
        if not _applies(launch):
            return {}
        found = launching.inputs(launching.find(launch))
        if self._requires_python is not None:
            found["requires-python"] = digest_text(self._requires_python)
        return found

    def key(self, place: Place, launch: Launch) -> str:
        """Digest the interpreter and what it must satisfy; it fails as `inputs` does."""
        return digest({"schema": _SCHEMA, **self.inputs(place, launch)})

    def intact(self, place: Place, launch: Launch) -> bool:
        """Compare each piece with what it should be."""
        if not _applies(launch):
            return True
        executable = launching.find(launch)
        python = launching.known(place, executable)
        if python is None or _stands_on(python, place):
            return False
        here = settled(place, self.name, executable)
        return all(piece.fits(here.environment) for piece in self._pieces(python, here, executable))

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Write what is missing or wrong, each piece atomically; killed at any instant, it is begun anew.

        Raises
        ------
        HydrationFailed
            The interpreter does not run or cannot carry an overlay, or the environment cannot be written.
        Cancelled
            `cancel` was set.
        """
        if not _applies(launch):
            return
        if cancel.is_set():
            raise Cancelled("hydration was cancelled; start the kernel again to resume it")
        try:
            python = self._python(place, launch, progress, cancel)
            with writing:
                self._write(python, place, launching.find(launch), progress)
        except OSError as error:
            raise HydrationFailed(
                f"the volume's environment could not be written ({error.strerror}: "
                f"{error.filename or place.state}): make room for it, or move away what is in its way"
            ) from error

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with the overlay's interpreter, and everything that searches pointed at it.

        Raises
        ------
        HydrationFailed
            The interpreter is not known, so nothing was hydrated.
        """
        if not _applies(launch):
            return launch
        executable = launching.find(launch)
        python = launching.known(place, executable)
        if python is None:
            raise HydrationFailed(
                f"no environment in {place.state} was made for {executable}: start the kernel again"
            )
        here = settled(place, self.name, executable)
        return activate(launch, here.environment, python, executable)

    def _python(
        self, place: Place, launch: Launch, progress: StepProgress, cancel: Event
    ) -> LaunchingPython:
        executable = launching.find(launch)
        python = None if place.refresh else launching.known(place, executable)
        if python is None:
            progress(self.name, f"asking {executable} what it looks like")
            python = launching.ask(place, launch, executable, progress, cancel)
        if self._requires_python is not None:
            # Imported here: few kernelspecs demand anything, and all pay for it.
            from provisioner.hydration.requires import check_python

            check_python(self._requires_python, ".".join(map(str, python.version)))
        if _stands_on(python, place):
            raise HydrationFailed(
                f"the kernel's interpreter {executable} runs on this very volume's environment: start the "
                "server from another environment, or name another interpreter in kernel.json"
            )
        return python

    def _pieces(self, python: LaunchingPython, place: Place, executable: str) -> list[Piece]:
        """Return all pieces in the order in which they are to be written; whose they are comes first."""
        claim = claim_of(place, self.name, executable)
        return [File(CLAIM, claim.to_json()), *layout(python, place.environment)]

    def _write(
        self, python: LaunchingPython, place: Place, executable: str, progress: StepProgress
    ) -> None:
        here = settled(place, self.name, executable)
        root = here.environment
        elsewhere = [] if (root / packages(python)).is_dir() else self._with_packages(here)
        if elsewhere:
            self._tell_what_is_lost(python, executable, elsewhere, progress)
        pieces = self._pieces(python, here, executable)
        for directory in sorted({(root / piece.path).parent for piece in pieces}):
            directory.mkdir(parents=True, exist_ok=True)
        for path in outdated(pieces, root):
            path.unlink()
        # Before the shims: they name this place too, so as long as they do not, this is done again.
        bring_home(root)
        for piece in pieces:
            if not piece.fits(root):
                piece.write(root)

    def _with_packages(self, here: Place) -> list[Path]:
        """Return the environments that may have packages for another Python: this one's, then the others' overlays."""
        others = [here.state / name for name in names(here) if name != here.name]
        claims = ((path, Claim.read(path)) for path in others)
        overlays = [path for path, claim in claims if claim and claim.maker == self.name]
        return [path for path in (here.environment, *overlays) if (path / "lib").is_dir()]

    def _tell_what_is_lost(
        self,
        python: LaunchingPython,
        executable: str,
        elsewhere: list[Path],
        progress: StepProgress,
    ) -> None:
        # Once in a volume's life of years; its imports would double the time of every overlay.
        from provisioner.hydration.lost_packages import packages_to_install_again

        lost = next(filter(None, map(packages_to_install_again, elsewhere)), "")
        if lost:
            progress(
                self.name,
                f"this kernel runs on {executable} ({python.library}), and the volume's packages are for another "
                f"Python; for them, run: %pip install {lost}",
            )


def _applies(launch: Launch) -> bool:
    return bool(launch.argv) and runs_python(launch)


def _stands_on(python: LaunchingPython, place: Place) -> bool:
    """Whether a Python gets packages from an environment of this volume: over itself one is searched without end."""
    environments = [str(place.state / name) for name in names(place)]
    return any(is_below(path, environment) for path in python.path for environment in environments)
