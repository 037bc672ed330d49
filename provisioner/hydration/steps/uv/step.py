"""The uv step: built aside from a shared cache, put in place by renaming, free at a restart."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

from provisioner.core.progress import StepProgress
from provisioner.hydration.clone import clone, link
from provisioner.hydration.environments import (
    CLAIM,
    Claim,
    aside,
    claim_of,
    others,
    settled,
    unfinished,
)
from provisioner.hydration.hooks.variables import tool_environment
from provisioner.hydration.interpreter import interpreter, runs_python
from provisioner.hydration.pieces import writing
from provisioner.hydration.records import digest, digest_text, write_record
from provisioner.hydration.requires import check_python
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.uv.by_hand import by_hand, install_again
from provisioner.hydration.steps.uv.declaration import Declaration
from provisioner.hydration.steps.uv.record import (
    RECORD,
    configuration,
    installed,
    is_usable,
    record_of,
)
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.hydration.steps.uv.tree import (
    drop_stale_bytecode,
    recover,
    relocate,
    site_packages,
    swap,
)
from provisioner.system.files import replace_file
from provisioner.system.removal import remove

_SCHEMA = "1"  # of the key and the record; count up when the same inputs should be installed again


@dataclass(frozen=True)
class UvEnvironment:
    """Gives the volume a virtual environment of its own.

    Parameters
    ----------
    declaration
        What is installed in it, besides pip (so that `%pip` works) and ipykernel (if the kernel is one).
    cache
        uv's cache, made if missing. On the volume's file system files are linked, elsewhere copied.
    requires_python
        What the interpreter must satisfy, such as `>=3.11`; None for nothing.
    stale
        What to do when the declaration has changed and cannot be installed while the earlier environment
        is whole: `fail` the start, or `warn` and use it.

    Notes
    -----
    What a user has installed is kept. In the state directory lie `env`, whose `hydrated.json` is the
    record and moves with it; `env.new`, which is being built; and for a moment `env.old`. Where `env` is
    another Python's or another kernelspec's, it is `env-2` instead, and so on; it then begins as a copy of what
    that kernelspec has of the same Python, so that what was installed by hand comes along.
    """

    declaration: Declaration
    cache: Path
    requires_python: str | None = None
    stale: Literal["fail", "warn"] = "fail"

    @property
    def name(self) -> str:
        """`uv`."""
        return "uv"

    @property
    def lasts(self) -> Literal[True]:
        """Return True: each kernelspec has an environment of its own."""
        return True

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the declaration, and which interpreter it is for."""
        return {
            "requires-python": digest_text(f"{_SCHEMA} {self.requires_python}"),
            "the interpreter": digest_text(os.path.realpath(interpreter(launch))),
            "the kernel's own needs": digest_text(" ".join(_also(launch))),
            **self.declaration.inputs(place.volume),
        }

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether the environment runs and was made for this very place, with nothing half-made beside it."""
        place = self._settled(place, launch)
        return (
            record_of(place.environment).get("prefix") == str(place.environment)
            and is_usable(place.environment)
            and self._claim(place, launch) == Claim.read(place.environment)
            and not any(os.path.lexists(path) for path in (_new(place), _old(place)))
        )

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Build the environment beside the old one and put it in its place, or make a moved one fit."""
        place = self._settled(place, launch)
        recover(place.environment, _old(place))
        try:
            record = record_of(place.environment)
            usable = self._is_usable(place.environment)
            if record.get("key") != self.key(place, launch) or not usable or place.refresh:
                if not self._copy_template(place, launch, progress, cancel):
                    self._build(place, launch, progress, cancel)
            else:
                self._fit(place, launch, record, progress)
        finally:
            # Nobody else makes one now: this volume's lock is held.
            for leftover in (*unfinished(place), _old(place)):
                remove(leftover)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with the environment's interpreter, if it runs Python, and its PATH."""
        place = self._settled(place, launch)
        programs = place.environment / "bin"
        env = {k: v for k, v in launch.env.items() if k not in {"PYTHONHOME", "CONDA_PREFIX"}}
        env["VIRTUAL_ENV"] = str(place.environment)
        env["PATH"] = ":".join([str(programs), *filter(None, [launch.env.get("PATH")])])
        argv = launch.argv
        if runs_python(launch):
            argv = (str(programs / "python"), *argv[1:])
        return replace(launch, argv=argv, env=env)

    def _is_usable(self, environment: Path) -> bool:
        """Whether it is one of ours; an overlay may have been laid into it since, which sees the server's packages."""
        claim = Claim.read(environment)
        return is_usable(environment) and (claim is None or claim.maker == self.name)

    def _settled(self, place: Place, launch: Launch) -> Place:
        return settled(place, self.name, os.path.realpath(interpreter(launch)), shared=False)

    def _claim(self, place: Place, launch: Launch) -> Claim:
        return claim_of(place, self.name, os.path.realpath(interpreter(launch)), shared=False)

    def _fit(
        self, place: Place, launch: Launch, record: Mapping[str, Any], progress: StepProgress
    ) -> None:
        """Make an environment that is whole fit the place where it is now, and the kernelspec."""
        if record["prefix"] != str(place.environment):
            progress(self.name, "the volume has moved; correcting the environment's scripts")
            relocate(place.environment, Path(str(record["prefix"])), place.environment)
            moved = {**record, "prefix": str(place.environment)}
            write_record(place.environment / RECORD, moved)
        self._write_claim(place.environment, place, launch)

    def _build(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        new, base = _new(place), interpreter(launch)
        remove(new)
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        uv = self._uv(place, launch, progress, cancel)
        earlier = self._earlier(place, launch)
        extends = record_of(earlier).get("interpreter") == os.path.realpath(base)
        usable = extends and self._is_usable(earlier)
        if not (usable and self._copy(earlier, place, progress, cancel)):
            progress(self.name, f"making a virtual environment of {base}", 0.1)
            uv.create(base, new)
            # uv marks its environments as caches, which backups leave out; what is installed by hand lies nowhere else.
            (new / "CACHEDIR.TAG").unlink(missing_ok=True)
        self._check_version(new)
        progress(self.name, "installing", 0.2)
        self.declaration.install(uv, new / "bin/python", place.volume, _also(launch))
        progress(self.name, "looking for what was installed by hand", 0.8)
        if lost := install_again(earlier, new, uv):
            progress(
                self.name,
                f"warning: installed by hand and not available for the new environment: "
                f"{', '.join(lost)}; install them again",
            )
        drop_stale_bytecode(earlier, new)
        progress(self.name, "writing the record", 0.9)
        self._write_record(new, place, launch, by_hand(earlier))
        progress(self.name, "putting the environment in place", 0.95)
        swap(place.environment, new, _old(place))

    def _earlier(self, place: Place, launch: Launch) -> Path:
        """Return the environment to begin with: the place's own, else the latest of another kernelspec, if any."""
        if os.path.lexists(place.environment):
            return place.environment
        found = others(place, self.name, os.path.realpath(interpreter(launch)))
        usable = [path for path in found if record_of(path) and is_usable(path)]
        made = {path: (path / RECORD).stat().st_mtime_ns for path in usable}
        return max(usable, key=made.__getitem__, default=place.environment)

    def _copy(self, earlier: Path, place: Place, progress: StepProgress, cancel: Event) -> bool:
        """Copy an environment: by links where it makes way for the copy, else so that the two never meet."""
        progress(self.name, f"copying the environment {earlier.name}, to change the copy", 0.1)
        if earlier == place.environment:
            link(earlier, _new(place), cancel)
            return True
        packages = site_packages(earlier)
        try:
            before = packages and packages.stat().st_mtime_ns
            clone(earlier, _new(place), cancel)
            relocate(_new(place), Path(record_of(earlier)["prefix"]), place.environment)
            if packages and packages.stat().st_mtime_ns != before:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(packages))
        except OSError:
            # A kernel is running there and may be installing. What cannot be copied is installed again.
            remove(_new(place))
            return False
        return True

    def _copy_template(
        self, place: Place, launch: Launch, progress: StepProgress, cancel: Event
    ) -> bool:
        """Take the environment of a volume that nobody has used; return whether there was one to take.

        It is the same one: of the same key, with nothing installed since. Its absolute paths are those of its
        own scripts, which are corrected; a module's bytecode has its path too, which Python corrects itself.
        """
        if place.template is None or place.refresh or os.path.lexists(place.environment):
            return False
        theirs, new = place.template.state / place.environment.name, _new(place)
        record = record_of(theirs)
        if record.get("key") != self.key(place, launch) or record["prefix"] != str(theirs):
            return False
        progress(self.name, "copying the environment of another volume of this kernelspec", 0.1)
        try:
            if not is_usable(theirs) or sorted(installed(theirs)) != record["installed"]:
                return False
            remove(new)
            clone(theirs, new, cancel)
            relocate(new, theirs, place.environment)
        except OSError:
            return False  # claimed or retired meanwhile; or if we cannot write here, uv will say so
        if not place.template.is_pristine():
            return False
        self._write_record(new, place, launch)
        swap(place.environment, new, _old(place))
        return True

    def _uv(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> Uv:
        env = {**tool_environment(launch.env), **launch.added}
        return Uv(
            program=Uv.find(env.get("PATH", "")),
            cache=self.cache,
            log=place.log,
            env=env,
            tell=lambda line: progress(self.name, line),
            cancel=cancel,
            refresh=place.refresh,
        )

    def _check_version(self, environment: Path) -> None:
        if self.requires_python is None:
            return
        check_python(self.requires_python, configuration(environment).get("version_info", ""))

    def _write_record(
        self, environment: Path, place: Place, launch: Launch, hands: Set[str] = frozenset()
    ) -> None:
        """Write what was installed, but not what was installed by hand: that is how the two are told apart."""
        self._write_claim(environment, place, launch)
        record = {
            "key": self.key(place, launch),
            "prefix": str(place.environment),
            "interpreter": os.path.realpath(interpreter(launch)),
            "installed": sorted(installed(environment).keys() - hands),
        }
        write_record(environment / RECORD, record)

    def _write_claim(self, environment: Path, place: Place, launch: Launch) -> None:
        with writing:
            replace_file(environment / CLAIM, self._claim(place, launch).to_json(), 0o644)


def _also(launch: Launch) -> tuple[str, ...]:
    """Return what the environment needs beyond the declaration; uv's environments have no pip."""
    kernel = any(word.startswith("ipykernel") for word in launch.argv)
    return ("pip", "ipykernel") if kernel else ("pip",)


def _new(place: Place) -> Path:
    return aside(place.environment, "new")


def _old(place: Place) -> Path:
    return aside(place.environment, "old")
