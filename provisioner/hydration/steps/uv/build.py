"""Builds an environment of uv beside the present one and puts it in its place, whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.hooks.variables import tool_variables
from provisioner.hydration.records import write_record
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.python.interpreter import check_version, interpreter
from provisioner.hydration.steps.python.owners import Owner, beside, others
from provisioner.hydration.steps.python.packages import installed, site_packages
from provisioner.hydration.steps.python.scripts import correct_scripts
from provisioner.hydration.steps.uv.by_hand import by_hand, install_again
from provisioner.hydration.steps.uv.clone import clone, link
from provisioner.hydration.steps.uv.declaration import Declaration
from provisioner.hydration.steps.uv.tool import Uv
from provisioner.hydration.steps.uv.venv import (
    RECORD,
    configuration,
    drop_stale_bytecode,
    is_ours,
    is_usable,
    record_of,
    swap,
)
from provisioner.system.removal import remove


@dataclass(frozen=True)
class Build:
    """The making of one environment, while the volume's hydration lock is held.

    Parameters
    ----------
    declaration, cache, requires_python
        As `UvEnvironment` has them.
    place
        The volume, with the environment chosen.
    launch
        The launch for which the environment is made.
    owner
        Whose it will be.
    key
        Digests its inputs; called after the installation, since uv may write a lock file.
    hooks
        Runs uv, and reports.
    """

    declaration: Declaration
    cache: Path
    requires_python: str | None
    place: Place
    launch: Launch
    owner: Owner
    key: Callable[[], str]
    hooks: StepHooks

    def correct_path(self) -> None:
        """Make a whole environment fit the path where it is now, and record its owner."""
        environment = self.place.environment
        record = record_of(environment)
        if record["prefix"] != str(environment):
            self.hooks.report("the volume has moved; correcting the environment's scripts")
            correct_scripts(environment, environment, Path(str(record["prefix"])))
            write_record(environment / RECORD, {**record, "prefix": str(environment)})
        self.owner.write(environment)

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
        if record.get("key") != self.key() or record["prefix"] != str(theirs):
            return False
        self.hooks.report("copying the environment of another volume of this kernelspec", 0.1)
        try:
            if not is_usable(theirs) or sorted(installed(theirs)) != record["installed"]:
                return False
            remove(self._new)
            clone(theirs, self._new, self.hooks.cancel)
            correct_scripts(self._new, environment, theirs)
        except OSError:
            # The other volume was claimed or removed meanwhile; or this one cannot be written, which uv will report.
            return False
        if not template.is_pristine():
            return False
        self._write_record()
        swap(environment, self._new)
        return True

    def install(self) -> None:
        """Build a new environment, starting with a copy of an earlier one of the same Python."""
        remove(self._new)
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        uv = Uv.find(self.hooks, tool_variables(self.launch), self.cache)
        earlier = self._earlier()
        same_python = record_of(earlier).get("interpreter") == self.owner.python
        if not (same_python and is_ours(earlier) and self._copy(earlier)):
            self._create(uv)
        check_version(self.requires_python, configuration(self._new).get("version_info", ""))
        self.hooks.report("installing", 0.2)
        python = self._new / "bin/python"
        self.declaration.install(uv, python, self.place.volume, needed_beside(self.launch))
        self.hooks.report("looking for what was installed by hand", 0.8)
        if lost := install_again(earlier, self._new, uv):
            self.hooks.report(
                f"warning: installed by hand and not available for the new environment: "
                f"{', '.join(lost)}; install them again",
            )
        drop_stale_bytecode(earlier, self._new)
        self.hooks.report("writing the record", 0.9)
        self._write_record(by_hand(earlier))
        self.hooks.report("putting the environment in place", 0.95)
        swap(self.place.environment, self._new)

    def _earlier(self) -> Path:
        """Return the environment to start with: the present one, else the latest of another kernelspec, if any."""
        if os.path.lexists(self.place.environment):
            return self.place.environment
        found = others(self.place, self.owner.maker, self.owner.python)
        usable = [path for path in found if record_of(path) and is_usable(path)]
        made = {path: (path / RECORD).stat().st_mtime_ns for path in usable}
        return max(usable, key=made.__getitem__, default=self.place.environment)

    def _copy(self, earlier: Path) -> bool:
        """Copy an earlier environment: by links if the copy will replace it, else as separate files."""
        self.hooks.report(f"copying the environment {earlier.name}, to change the copy", 0.1)
        if earlier == self.place.environment:
            link(earlier, self._new, self.hooks.cancel)
            return True
        packages = site_packages(earlier)
        try:
            before = packages and packages.stat().st_mtime_ns
            clone(earlier, self._new, self.hooks.cancel)
            correct_scripts(self._new, self.place.environment, Path(record_of(earlier)["prefix"]))
            if packages and packages.stat().st_mtime_ns != before:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(packages))
        except OSError:
            # A kernel runs there and may be installing packages. They are installed instead of copied.
            remove(self._new)
            return False
        return True

    def _create(self, uv: Uv) -> None:
        python = interpreter(self.launch)
        self.hooks.report(f"making a virtual environment of {python}", 0.1)
        uv.create(python, self._new)
        # uv marks its environments as caches, which backups leave out; but packages installed by hand are only here.
        (self._new / "CACHEDIR.TAG").unlink(missing_ok=True)

    def _write_record(self, by_hand: Set[str] = frozenset()) -> None:
        """Record the owner, and the packages without those installed by hand: this tells the two apart later."""
        self.owner.write(self._new)
        record = {
            "key": self.key(),
            "prefix": str(self.place.environment),
            "interpreter": self.owner.python,
            "installed": sorted(installed(self._new).keys() - by_hand),
        }
        write_record(self._new / RECORD, record)

    @property
    def _new(self) -> Path:
        return beside(self.place.environment, "new")


def needed_beside(launch: Launch) -> tuple[str, ...]:
    """Return what an environment needs beside the declaration; uv's environments have no pip."""
    kernel = any(word.startswith("ipykernel") for word in launch.argv)
    return ("pip", "ipykernel") if kernel else ("pip",)
