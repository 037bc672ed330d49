"""The Nix step: evaluated once, kept in the volume with a root for the collector, free at a restart."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

from provisioner.core.errors import HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.variables import hook_variables, tool_environment
from provisioner.hydration.records import (
    digest,
    digest_file,
    digest_text,
    read_record,
    write_record,
)
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.nix.copied import LARGE, check_copied
from provisioner.hydration.steps.nix.environment import (
    Environment,
    packages,
    read_hooked,
    read_shell,
)
from provisioner.hydration.steps.nix.reference import Kind, Reference, classify, store_directory
from provisioner.hydration.steps.nix.tool import Nix
from provisioner.system.removal import remove

_SCHEMA = "1"  # of the key and the record; count up when the same inputs should be evaluated again


@dataclass(frozen=True)
class NixProfile:
    """Puts the kernel into what a Nix reference describes.

    Parameters
    ----------
    reference
        A flake (`/srv/flake#shell`, `github:us/env`), an expression (`shell.nix`), a store path or a
        profile. A relative path starts at the volume.
    watch
        Further files that the environment depends on; relative paths start at the flake's directory.
    stale
        What to do when the inputs have changed and their evaluation fails while the earlier environment
        is whole: `fail` the start, or `warn` and use it.

    Notes
    -----
    In the volume's state directory lie `nix.json`, the record, and `nix/`, with the root: a symbolic link
    that is registered with Nix's collector. The record is written last and names its root, so at any
    instant there is an old environment with its root or a new one with its own.
    """

    reference: str
    watch: tuple[str, ...] = ()
    stale: Literal["fail", "warn"] = "fail"

    @property
    def name(self) -> str:
        """`nix`."""
        return "nix"

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the reference, of the files that decide it, and of the watch list.

        A remote reference stands for itself: what it points to today is found out by asking anew only.
        """
        inputs = {
            "nix_profile": digest_text(f"{_SCHEMA} {platform.machine()} {self.reference}"),
            "the Nix store": digest_text(str(store_directory(launch.env))),
        }
        try:
            reference = classify(self.reference, place.volume, launch.env)
        except HydrationFailed as error:
            return {**inputs, "nix_profile is unusable": digest_text(str(error))}
        inputs |= _local_inputs(reference, launch)
        directory = place.volume
        if reference.path is not None:
            is_file = reference.kind is Kind.FILE
            directory = reference.path.parent if is_file else reference.path
        for watched in self.watch:
            inputs[str(directory / watched)] = digest_file(directory / watched)
        return inputs

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether the environment is in the store and rooted from this very place."""
        kept = _Kept.read(place)
        return kept is not None and kept.is_rooted(place)

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Evaluate the reference and keep the answer, or register its root again for a volume that moved."""
        (place.state / "nix").mkdir(mode=0o700, exist_ok=True)
        try:
            kept = self._bring(place, launch, progress, cancel)
            progress(self.name, "writing the record", 0.9)
            write_record(place.record(self.name), kept.to_record())
        finally:
            _tidy(place)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch inside the environment, with the program that it brings."""
        kept = _Kept.read(place)
        if kept is None:
            raise HydrationFailed(
                "the record of the Nix environment is gone: start the kernel again"
            )
        inside = kept.environment.apply(launch)
        # The collector looks into the environments of running processes: a kernel keeps its own shell.
        return replace(inside, env={**inside.env, "NIX_GCROOT": str(kept.shell)})

    def _bring(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> _Kept:
        """Have a root registered for what the reference stands for: kept from before, or evaluated now."""
        kept = _Kept.read(place)
        if kept and not place.refresh and kept.key == self.key(place, launch) and kept.exists():
            progress(self.name, "the environment is in the store; registering its root")
            kept = replace(kept, volume=str(place.volume))
            nix = self._nix(place, launch, progress, cancel)
        else:
            reference = classify(self.reference, place.volume, launch.env)
            _warn_of_copies(reference, self.name, progress)
            nix = self._nix(place, launch, progress, cancel)
            kept = self._evaluate(reference, nix, place, launch, progress)
        nix.keep(kept.shell, kept.root(place))
        return kept

    def _nix(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> Nix:
        env = {**tool_environment(launch.env), **launch.added}
        return Nix(
            directory=Nix.find(env.get("PATH", ""), env.get("HOME", "")),
            volume=place.volume,
            log=place.log,
            env=env,
            tell=lambda line: progress(self.name, line),
            cancel=cancel,
        )

    def _evaluate(
        self, reference: Reference, nix: Nix, place: Place, launch: Launch, progress: StepProgress
    ) -> _Kept:
        """Return what a reference stands for; until it is kept, links in `nix/new` protect it."""
        new = place.state / "nix/new"
        remove(new)
        new.mkdir(mode=0o700)
        if reference.kind is Kind.PACKAGES:
            assert reference.path is not None
            shell = _store_path(reference.path, store_directory(launch.env))
            environment = packages(reference.path)
        else:
            progress(self.name, f"evaluating {reference.text}", 0.1)
            if reference.kind is Kind.SHELL:
                assert reference.path is not None
                shell, description = reference.path, reference.path.read_bytes()
            else:
                description = nix.evaluate(reference, new / "shell", refresh=place.refresh)
                shell = (new / "shell").resolve()
            progress(self.name, "reading the environment", 0.7)
            environment = self._read(description, shell, nix, place, launch, progress)
        # Nix may have written flake.lock, so the key is made only now.
        return _Kept(self.key(place, launch), str(place.volume), shell, environment)

    def _read(
        self,
        description: bytes,
        shell: Path,
        nix: Nix,
        place: Place,
        launch: Launch,
        progress: StepProgress,
    ) -> Environment:
        try:
            declared = read_shell(description)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise HydrationFailed(
                f"Nix's description of {shell} could not be read: "
                "use Nix 2.4 or newer, and a development shell made by it"
            ) from None
        if not declared.has_hook:
            return declared.environment
        progress(self.name, "running the shellHook", 0.8)
        script = place.state / "nix/new/enter"
        nix.script(shell, script)
        # Entering makes a directory for temporary files and never removes it.
        before = {**hook_variables(launch), "TMPDIR": str(script.parent)}
        return read_hooked(before, nix.hooked(script, before))


@dataclass(frozen=True)
class _Kept:
    """The record: what was evaluated, from which inputs, and for which place."""

    key: str
    volume: str
    shell: Path
    environment: Environment

    @classmethod
    def read(cls, place: Place) -> _Kept | None:
        record = read_record(place.record("nix"))
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if record["schema"] == _SCHEMA:
                environment = Environment.from_record(record["environment"])
                return cls(
                    str(record["key"]), str(record["volume"]), Path(record["shell"]), environment
                )
        return None

    def to_record(self) -> dict[str, Any]:
        return {
            "schema": _SCHEMA,
            "key": self.key,
            "volume": self.volume,
            "shell": str(self.shell),
            "environment": self.environment.to_record(),
        }

    def root(self, place: Place) -> Path:
        label = hashlib.sha256(str(self.shell).encode()).hexdigest()[:16]
        return place.state / "nix" / f"root-{label}"

    def exists(self) -> bool:
        return self.shell.exists()

    def is_rooted(self, place: Place) -> bool:
        """Whether this place's root, and nothing else, lies where roots do, and leads to what exists."""
        root = self.root(place)
        try:
            return (
                self.volume == str(place.volume)
                and [path.name for path in root.parent.iterdir()] == [root.name]
                and root.readlink() == self.shell
                and self.exists()
            )
        except OSError:
            return False


def _tidy(place: Place) -> None:
    """Remove what is not the recorded root: links of an evaluation, roots of earlier environments."""
    kept = _Kept.read(place)
    for path in (place.state / "nix").iterdir():
        if kept is None or path != kept.root(place):
            remove(path)


def _store_path(path: Path, store: Path) -> Path:
    """Return what the store knows: the directory right below it."""
    store = store.resolve()
    return store / path.relative_to(store).parts[0]


def _local_inputs(reference: Reference, launch: Launch) -> dict[str, str]:
    path = reference.path
    if path is None:
        return {}
    if reference.kind in {Kind.SHELL, Kind.PACKAGES}:
        return {"the store path": digest_text(str(path))}
    directory = path if reference.kind is Kind.FLAKE else path.parent
    files = {path} if reference.kind is Kind.FILE else {path / "flake.nix"}
    files |= {directory / "flake.lock", *directory.glob("*.nix")}
    inputs = {str(file): digest_file(file) for file in files}
    if reference.kind is Kind.FILE:
        inputs["NIX_PATH"] = digest_text(launch.env.get("NIX_PATH", ""))
    return inputs


def _warn_of_copies(reference: Reference, step: str, progress: StepProgress) -> None:
    if reference.copied is not None:
        size = check_copied(reference.copied)
        if size > LARGE:
            progress(
                step,
                f"Nix copies the {size >> 20} MiB in {reference.copied} with the flake each time: "
                "put the flake into a directory of its own",
            )
