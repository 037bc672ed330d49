"""The commands of Nix: how each is called, and what its failure means."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.hooks.process import Ended, StepHooks
from provisioner.hydration.steps.nix.reference import Kind, Reference

_USUAL = (
    "~/.nix-profile/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:/usr/local/bin"
)
# Nix's script and the hook print to the log; `env -0` then prints the environment that the hook left.
_RUN_HOOK = 'source "$1" >&2; exec "$2" -0'


@dataclass(frozen=True)
class Nix:
    """Nix as found on a machine: the directory of its programs, what runs them, and their environment."""

    directory: Path
    hooks: StepHooks
    env: Mapping[str, str]

    @classmethod
    def find(cls, hooks: StepHooks, env: Mapping[str, str]) -> Nix:
        """Find `nix` on the PATH, or where its installers put it; raises HydrationFailed if there is none."""
        path, usual = env.get("PATH", ""), _USUAL.replace("~", env.get("HOME", ""))
        found = shutil.which("nix", path=f"{path}:{usual}" if path else usual)
        if found is None:
            raise HydrationFailed(
                "the kernelspec declares a nix_profile, but there is no Nix on this machine: "
                "install it (https://nixos.org/download) or add its bin directory to the PATH"
            )
        return cls(Path(found).parent, hooks, env)

    def evaluate(self, reference: Reference, profile: Path, *, refresh: bool) -> bytes:
        """Build a development shell, link `profile` to it, and return its description in JSON.

        The link keeps it from the garbage collector until `register_root` is called. With `refresh`, Nix fetches
        again what it has cached.
        """
        expression = ["--file"] if reference.kind is Kind.FILE else ["--"]
        ended = self._run(
            [
                *self._nix("print-dev-env"),
                *("--json", "--no-accept-flake-config", "--profile", str(profile)),
                *(["--refresh"] if refresh else []),
                *expression,
                reference.text,
            ]
        )
        return _require_success(ended, f"nix_profile {reference.text!r}").captured

    def write_script(self, shell: Path, script: Path) -> None:
        """Write the script that enters a shell. Nix evaluates nothing for this."""
        ended = self._run([*self._nix("print-dev-env"), "--", str(shell)])
        script.write_bytes(_require_success(ended, f"the development shell {shell}").captured)

    def run_script(self, script: Path, env: Mapping[str, str]) -> bytes:
        """Run a shell's script with its `shellHook`, and return the environment afterwards as `env -0` prints it.

        The `shellHook` is a program of somebody else, so `env` must be what a hook may see.
        """
        path = f"{env.get('PATH', '')}:/bin:/usr/bin"
        bash, printer = shutil.which("bash", path=path), shutil.which("env", path=path)
        if bash is None or printer is None:
            raise HydrationFailed("the shellHook needs bash and env: install them or mend the PATH")
        command = [bash, "--norc", "--noprofile", "-c", _RUN_HOOK, "bash", str(script), printer]
        ended = self.hooks.run(command, env, capture=True)
        if ended.code != 0 or b"PATH=" not in ended.captured:
            raise HydrationFailed(
                f"the shellHook {ended.how} without leaving an environment: "
                "it must neither exit nor exec",
                ended.tail,
            )
        return ended.captured

    def register_root(self, path: Path, root: Path) -> None:
        """Register a symbolic link `root` with the garbage collector: its target is kept while the link exists."""
        store = str(self.directory / "nix-store")
        ended = self._run([store, "--realise", str(path), "--add-root", str(root)])
        _require_success(ended, f"registering {path} with Nix's collector")

    def _nix(self, command: str) -> list[str]:
        features = ("--extra-experimental-features", "nix-command flakes")
        return [str(self.directory / "nix"), *features, command]

    def _run(self, argv: list[str]) -> Ended:
        return self.hooks.run(argv, self.env, capture=True)


def _require_success(ended: Ended, what: str) -> Ended:
    if ended.code != 0:
        raise HydrationFailed(f"{what}: Nix {ended.how}; correct what it says below", ended.tail)
    return ended
