"""The uv step: an environment built beside the old one from a shared cache, put in place by a rename."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from provisioner.core.errors import HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.hooks.variables import tool_variables
from provisioner.hydration.records import digest, digest_text, write_record
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.python.interpreter import check_version, interpreter, runs_python
from provisioner.hydration.steps.python.owners import Owner, beside, choose, others
from provisioner.hydration.steps.python.packages import (
    arguments,
    installed,
    normalized,
    site_packages,
)
from provisioner.hydration.steps.python.scripts import correct_scripts
from provisioner.hydration.steps.uv.clone import clone, link
from provisioner.hydration.steps.uv.declaration import Declaration
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.hydration.steps.uv.venv import (
    RECORD,
    drop_stale_bytecode,
    is_ours,
    is_usable,
    record_of,
    recover,
    swap,
)
from provisioner.system.removal import remove

_SCHEMA = "1"  # of the key and the record; increase it to install the same inputs again


@dataclass(frozen=True)
class UvEnvironment:
    """Gives the volume a virtual environment of its own.

    Parameters
    ----------
    declaration
        What is installed in it, besides pip (so that `%pip` works) and ipykernel (if the kernel is one).
    cache
        uv's cache, created if missing. On the volume's file system files are linked, elsewhere copied.
    requires_python, stale
        The options of the kernelspec with these names.

    Notes
    -----
    What a user has installed is kept. In the state directory are `env`, whose `hydrated.json` is the record and
    moves with it; `env.new`, which is being built; and for a moment `env.old`. If `env` belongs to another Python
    or kernelspec, it is `env-2` instead, and so on. A new one starts as a copy of what another kernelspec has of
    the same Python, so that packages installed by hand are kept.
    """

    name: ClassVar[str] = "uv"
    lasts: ClassVar[Literal[True]] = True  # each kernelspec has its own environment

    declaration: Declaration
    cache: Path
    requires_python: str | None = None
    stale: Literal["fail", "warn"] = "fail"

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the declaration, the interpreter, and what the kernel needs besides."""
        return {
            "requires-python": digest_text(f"{_SCHEMA} {self.requires_python}"),
            "the interpreter": digest_text(_python(launch)),
            "the kernel's own needs": digest_text(" ".join(_needed_beside(launch))),
            **self.declaration.inputs(place.volume),
        }

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether the environment runs and was made for this very path, with nothing unfinished beside it."""
        place = self._chosen(place, launch)
        return (
            record_of(place.environment).get("prefix") == str(place.environment)
            and is_usable(place.environment)
            and Owner.read(place.environment) == _owner(place, launch)
            and not os.path.lexists(beside(place.environment, "new"))
            and not os.path.lexists(beside(place.environment, "old"))
        )

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Correct an environment that has only moved; else copy a spare's, or build a new one."""
        place = self._chosen(place, launch)
        recover(place.environment)
        build = _Build(self, place, launch, StepHooks(self.name, place, progress, cancel))
        try:
            same = record_of(place.environment).get("key") == self.key(place, launch)
            if same and is_ours(place.environment) and not place.refresh:
                build.correct_path()
            elif not build.copy_template():
                build.install()
        finally:
            # The volume's lock is held, so no other process is building one.
            for leftover in (*place.state.glob("env*.new"), beside(place.environment, "old")):
                remove(leftover)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch with the environment's interpreter, if it runs Python, and its PATH."""
        place = self._chosen(place, launch)
        programs = place.environment / "bin"
        env = {k: v for k, v in launch.env.items() if k not in {"PYTHONHOME", "CONDA_PREFIX"}}
        env["VIRTUAL_ENV"] = str(place.environment)
        env["PATH"] = ":".join([str(programs), *filter(None, [launch.env.get("PATH")])])
        program = str(programs / "python") if runs_python(launch) else launch.argv[0]
        return replace(launch, argv=(program, *launch.argv[1:]), env=env)

    def _chosen(self, place: Place, launch: Launch) -> Place:
        return choose(place, self.name, _python(launch), shared=False)


@dataclass(frozen=True)
class _Build:
    """The making of one environment, chosen in `place`, while the volume's hydration lock is held."""

    step: UvEnvironment
    place: Place
    launch: Launch
    hooks: StepHooks

    def correct_path(self) -> None:
        """Make a whole environment fit the path where it is now, and record its owner."""
        environment = self.place.environment
        record = record_of(environment)
        if record["prefix"] != str(environment):
            self.hooks.report("the volume has moved; correcting the environment's scripts")
            correct_scripts(environment, environment, Path(str(record["prefix"])))
            write_record(environment / RECORD, {**record, "prefix": str(environment)})
        self._owner.write(environment)

    def copy_template(self) -> bool:
        """Copy the environment of an unused volume; return whether there was one to copy.

        It has the same key, and nothing was installed in it since. Its absolute paths are those of its own scripts,
        which are corrected; a module's bytecode contains its path too, which Python corrects by itself.
        """
        template, environment = self.place.template, self.place.environment
        if template is None or self.place.refresh or os.path.lexists(environment):
            return False
        theirs = template.state / environment.name
        record = record_of(theirs)
        if record.get("key") != self.step.key(self.place, self.launch) or record["prefix"] != str(
            theirs
        ):
            return False
        self.hooks.report("copying the environment of another volume of this kernelspec", 0.1)
        # The other volume may be claimed or removed meanwhile; if this one cannot be written, uv will report it.
        with contextlib.suppress(OSError):
            if not is_usable(theirs) or sorted(installed(theirs)) != record["installed"]:
                return False
            remove(self._new)
            clone(theirs, self._new, self.hooks.cancel)
            correct_scripts(self._new, environment, theirs)
            if template.is_pristine():
                self._write_record()
                swap(environment, self._new)
                return True
        return False

    def install(self) -> None:
        """Build a new environment, starting with a copy of an earlier one of the same Python."""
        remove(self._new)
        self.step.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        uv = Uv.find(self.hooks, tool_variables(self.launch), self.step.cache)
        earlier = self._earlier()
        same_python = record_of(earlier).get("interpreter") == self._owner.python
        if not (same_python and is_ours(earlier) and self._copy(earlier)):
            python = interpreter(self.launch)
            self.hooks.report(f"making a virtual environment of {python}", 0.1)
            uv.create(python, self._new)
            # uv marks its environments as caches, which backups leave out; but some packages are only here.
            (self._new / "CACHEDIR.TAG").unlink(missing_ok=True)
        check_version(self.step.requires_python, _version(self._new))
        self.hooks.report("installing", 0.2)
        needed = _needed_beside(self.launch)
        self.step.declaration.install(uv, self._new / "bin/python", self.place.volume, needed)
        self.hooks.report("looking for what was installed by hand", 0.8)
        if lost := self._install_again(earlier, uv):
            self.hooks.report(
                "warning: installed by hand and not available for the new environment: "
                f"{', '.join(lost)}; install them again"
            )
        drop_stale_bytecode(earlier, self._new)
        self.hooks.report("writing the record", 0.9)
        self._write_record(_by_hand(earlier))
        self.hooks.report("putting the environment in place", 0.95)
        swap(self.place.environment, self._new)

    def _earlier(self) -> Path:
        """Return the environment to start with: the present one, else the latest of another kernelspec, if any."""
        if os.path.lexists(self.place.environment):
            return self.place.environment
        found = others(self.place, self._owner.maker, self._owner.python)
        usable = [path for path in found if record_of(path) and is_usable(path)]
        latest = max(usable, key=lambda path: (path / RECORD).stat().st_mtime_ns, default=None)
        return latest or self.place.environment

    def _copy(self, earlier: Path) -> bool:
        """Copy an earlier environment: by links if the copy will replace it, else as separate files."""
        self.hooks.report(f"copying the environment {earlier.name}, to change the copy", 0.1)
        if earlier == self.place.environment:
            link(earlier, self._new, self.hooks.cancel)
            return True
        packages = site_packages(earlier) or earlier
        with contextlib.suppress(OSError):
            before = packages.stat().st_mtime_ns
            clone(earlier, self._new, self.hooks.cancel)
            correct_scripts(self._new, self.place.environment, Path(record_of(earlier)["prefix"]))
            if packages.stat().st_mtime_ns == before:
                return True
        # A kernel runs there and may be installing packages. They are installed instead of copied.
        remove(self._new)
        return False

    def _install_again(self, earlier: Path, uv: Uv) -> list[str]:
        """Install the packages that a user had in an earlier environment, if the new one is no copy of it.

        It is no copy if the earlier one is of another interpreter, or an overlay. Returns the packages that are not
        available, as arguments for an installer.
        """
        before, packages, new = installed(earlier), site_packages(earlier), installed(self._new)
        names = sorted(_by_hand(earlier) - new.keys())
        if not names or packages is None:
            return []
        found = arguments(packages)
        wanted = [found.get(name, (f"{name}=={before[name]}",)) for name in names]
        # The declaration takes precedence: packages that conflict with it are returned.
        pins = [f"{name}=={version}" for name, version in new.items()]
        if self._try_install(uv, pins, *wanted):
            return []
        # One by one, so that a package that is not available does not prevent the others.
        return [" ".join(one) for one in wanted if not self._try_install(uv, pins, one)]

    def _try_install(self, uv: Uv, pins: Sequence[str], *wanted: tuple[str, ...]) -> bool:
        """Install packages; return whether that was possible."""
        options = [word for one in wanted for word in one if len(one) > 1]  # `-e PATH`
        plain = [one[0] for one in wanted if len(one) == 1]
        try:
            uv.install(self._new / "bin/python", (*options, "--", *plain), Path("/"), pins)
        except HydrationFailed:
            return False
        return True

    def _write_record(self, by_hand: Set[str] = frozenset()) -> None:
        """Record the owner, and the packages without those installed by hand: this tells the two apart later."""
        self._owner.write(self._new)
        record = {
            "key": self.step.key(self.place, self.launch),  # uv may have written a lock file
            "prefix": str(self.place.environment),
            "interpreter": self._owner.python,
            "installed": sorted(installed(self._new).keys() - by_hand),
        }
        write_record(self._new / RECORD, record)

    @property
    def _new(self) -> Path:
        return beside(self.place.environment, "new")

    @property
    def _owner(self) -> Owner:
        return _owner(self.place, self.launch)


def _needed_beside(launch: Launch) -> tuple[str, ...]:
    """Return what an environment needs beside the declaration; uv's environments have no pip."""
    kernel = any(word.startswith("ipykernel") for word in launch.argv)
    return ("pip", "ipykernel") if kernel else ("pip",)


def _by_hand(environment: Path) -> Set[str]:
    """Return the names of the packages in an environment that this step did not install."""
    declared = record_of(environment).get("installed", ())
    return installed(environment).keys() - {normalized(str(name)) for name in declared}


def _version(environment: Path) -> str:
    """Return the version of an environment's Python."""
    settings = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    found = re.search(r"^version_info *= *(\S+)", settings, re.MULTILINE)
    return found[1] if found else ""


def _owner(place: Place, launch: Launch) -> Owner:
    return Owner(UvEnvironment.name, _python(launch), (place.kernelspec,))


def _python(launch: Launch) -> str:
    return os.path.realpath(interpreter(launch))
