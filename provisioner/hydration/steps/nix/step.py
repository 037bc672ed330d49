"""The Nix step: evaluated once, kept from Nix's garbage collector by a root in the volume, free at a restart."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from provisioner.core.errors import HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.hooks.variables import hook_variables, tool_variables
from provisioner.hydration.records import digest, digest_file, digest_text
from provisioner.hydration.step import Launch, Place
from provisioner.hydration.steps.nix.record import SCHEMA, Evaluated
from provisioner.hydration.steps.nix.reference import (
    Kind,
    Reference,
    classify,
    refuse_private_files,
    store_directory,
)
from provisioner.hydration.steps.nix.shell import (
    ShellEnvironment,
    packages,
    read_hooked,
    read_shell,
)
from provisioner.hydration.steps.nix.tool import Nix
from provisioner.system.removal import remove


@dataclass(frozen=True)
class NixProfile:
    """Runs the kernel inside what a Nix reference describes.

    Parameters
    ----------
    reference
        A flake (`/srv/flake#shell`, `github:us/env`), an expression (`shell.nix`), a store path or a
        profile. A relative path starts at the volume.
    watch
        Further files that the environment depends on; relative paths start at the flake's directory.
    stale
        As the option `stale` of `KernelOptions`.

    Notes
    -----
    In the volume's state directory are `nix.json`, the record, and `nix/` with the root: a symbolic link that is
    registered with Nix's garbage collector. The record is written last and names its root, so at any instant
    there is an old environment with its root or a new one with its own.
    """

    name: ClassVar[str] = "nix"

    reference: str
    watch: tuple[str, ...] = ()
    stale: Literal["fail", "warn"] = "fail"

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the reference, of the local files that it consists of, and of the watched files.

        A remote reference is represented by its text: only `refresh` asks what it points to today.
        """
        inputs = {
            "nix_profile": digest_text(f"{SCHEMA} {platform.machine()} {self.reference}"),
            "the Nix store": digest_text(str(store_directory(launch.env))),
        }
        try:
            reference = classify(self.reference, place.volume, launch.env)
        except HydrationFailed as error:
            return {**inputs, "nix_profile is unusable": digest_text(str(error))}
        inputs |= _local_inputs(reference, launch)
        for watched in self.watch:
            file = (reference.directory or place.volume) / watched
            inputs[str(file)] = digest_file(file)
        return inputs

    def key(self, place: Place, launch: Launch) -> str:
        """Digest all inputs."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Whether the environment is in the store, with a root in this very volume."""
        evaluated = Evaluated.read(place)
        return evaluated is not None and evaluated.is_rooted(place)

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Evaluate the reference and record the result; for a volume that moved, only register its root again."""
        hooks = StepHooks(self.name, place, progress, cancel)
        (place.state / "nix").mkdir(mode=0o700, exist_ok=True)
        try:
            evaluated = self._rooted(place, launch, hooks)
            hooks.report("writing the record", 0.9)
            evaluated.write(place)
        finally:
            _remove_unused(place)

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch inside the environment, with the program that the environment brings."""
        evaluated = Evaluated.read(place)
        if evaluated is None:
            raise HydrationFailed(
                "the record of the Nix environment is gone: start the kernel again"
            )
        inside = evaluated.environment.apply(launch)
        # The collector reads the environments of running processes: this keeps a running kernel's shell.
        return replace(inside, env={**inside.env, "NIX_GCROOT": str(evaluated.shell)})

    def _rooted(self, place: Place, launch: Launch, hooks: StepHooks) -> Evaluated:
        """Return what the reference evaluates to, recorded or evaluated now, with a root registered for it."""
        nix = Nix.find(hooks, tool_variables(launch))
        found = None if place.refresh else Evaluated.read(place)
        if found and found.key == self.key(place, launch) and found.shell.exists():
            hooks.report("the environment is in the store; registering its root")
            found = replace(found, volume=str(place.volume))
        else:
            found = self._evaluate(nix, place, launch)
        nix.register_root(found.shell, found.root(place))
        return found

    def _evaluate(self, nix: Nix, place: Place, launch: Launch) -> Evaluated:
        """Evaluate the reference; links in `nix/new` protect the result until its root is registered."""
        reference = classify(self.reference, place.volume, launch.env)
        refuse_private_files(reference)
        new = place.state / "nix/new"
        remove(new)
        new.mkdir(mode=0o700)
        if reference.kind is Kind.PACKAGES:
            assert reference.path is not None
            store = store_directory(launch.env).resolve()
            shell = store / reference.path.relative_to(store).parts[0]
            environment = packages(reference.path)
        else:
            nix.hooks.report(f"evaluating {reference.text}", 0.1)
            description = nix.evaluate(reference, new / "shell", refresh=place.refresh)
            shell = (new / "shell").resolve()
            nix.hooks.report("reading the environment", 0.7)
            environment = _read(description, shell, nix, new / "enter", launch)
        # Nix may have written flake.lock, so the key is computed only now.
        return Evaluated(self.key(place, launch), str(place.volume), shell, environment)


def _read(
    description: bytes, shell: Path, nix: Nix, script: Path, launch: Launch
) -> ShellEnvironment:
    """Return the environment of a development shell, after its `shellHook` if it has one."""
    try:
        environment, has_hook = read_shell(description)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HydrationFailed(
            f"Nix's description of {shell} could not be read: "
            "use Nix 2.4 or newer, and a development shell made by it"
        ) from None
    if not has_hook:
        return environment
    nix.hooks.report("running the shellHook", 0.8)
    nix.write_script(shell, script)
    # The script makes a directory for temporary files and never removes it.
    before = {**hook_variables(launch), "TMPDIR": str(script.parent)}
    return read_hooked(before, nix.run_script(script, before))


def _remove_unused(place: Place) -> None:
    """Remove everything but the recorded root: links of an evaluation, roots of earlier environments."""
    evaluated = Evaluated.read(place)
    for path in (place.state / "nix").iterdir():
        if evaluated is None or path != evaluated.root(place):
            remove(path)


def _local_inputs(reference: Reference, launch: Launch) -> dict[str, str]:
    path, directory = reference.path, reference.directory
    if path is None or directory is None:
        return {}
    if reference.kind in {Kind.SHELL, Kind.PACKAGES}:
        return {"the store path": digest_text(str(path))}
    files = {path} if reference.kind is Kind.FILE else {path / "flake.nix"}
    files |= {directory / "flake.lock", *directory.glob("*.nix")}
    inputs = {str(file): digest_file(file) for file in files}
    if reference.kind is Kind.FILE:
        inputs["NIX_PATH"] = digest_text(launch.env.get("NIX_PATH", ""))
    return inputs
