"""The commands of Nix: how each is called, and what its failure means."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from provisioner.core.errors import HydrationFailed
from provisioner.hydration.hooks.process import Ended, run_hook
from provisioner.hydration.steps.nix.reference import Kind, Reference

_USUAL = (
    "~/.nix-profile/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:/usr/local/bin"
)
_DEPENDENCY_FAILED = 100  # nix(1): a build failed; its log is in the output
# `exec` ends with what the hook left in the environment. Nix's script prints, and so do hooks: to the log.
_RUN_HOOK = 'source "$1" >&2; exec "$2" -0'


@dataclass(frozen=True)
class Nix:
    """Nix as found on a machine, for the hydration of one volume.

    Parameters
    ----------
    directory
        Where `nix` and `nix-store` are.
    volume, log, env, tell, cancel
        As `run_hook` takes them, for every call.
    """

    directory: Path
    volume: Path
    log: Path
    env: Mapping[str, str]
    tell: Callable[[str], None]
    cancel: Event

    @staticmethod
    def find(path: str, home: str) -> Path:
        """Return the directory of `nix`: on the PATH, or where its installers put it.

        Raises
        ------
        HydrationFailed
            There is none.
        """
        usual = _USUAL.replace("~", home)
        found = shutil.which("nix", path=f"{path}:{usual}" if path else usual)
        if found is None:
            raise HydrationFailed(
                "the kernelspec declares a nix_profile, but there is no Nix on this machine: "
                "install it (https://nixos.org/download) or add its bin directory to the PATH"
            )
        return Path(found).parent

    def evaluate(self, reference: Reference, profile: Path, *, refresh: bool) -> bytes:
        """Build a development shell, link `profile` to it, and return its description in JSON.

        The link keeps it from the collector until `keep` has made the lasting root. With `refresh`, what
        Nix has fetched before is fetched again.
        """
        expression = ["--file"] if reference.kind is Kind.FILE else ["--"]
        ended = self._run(
            [
                *self._nix("print-dev-env"),
                *("--json", "--no-accept-flake-config", "--profile", str(profile)),
                *(["--refresh"] if refresh else []),
                *expression,
                reference.text,
            ],
            self.env,
        )
        return self._demand(ended, f"nix_profile {reference.text!r}").captured

    def script(self, shell: Path, script: Path) -> None:
        """Write the script that enters a shell. Nothing is evaluated for it."""
        ended = self._run([*self._nix("print-dev-env"), "--", str(shell)], self.env)
        script.write_bytes(self._demand(ended, f"the development shell {shell}").captured)

    def hooked(self, script: Path, env: Mapping[str, str]) -> bytes:
        """Run a script with its `shellHook`, and return the environment afterwards as `env -0` prints it.

        The hook is a program of somebody else's, so `env` is a hook's and not a tool's.
        """
        path = f"{env.get('PATH', '')}:/bin:/usr/bin"
        bash, printer = shutil.which("bash", path=path), shutil.which("env", path=path)
        if bash is None or printer is None:
            raise HydrationFailed("the shellHook needs bash and env: install them or mend the PATH")
        command = [bash, "--norc", "--noprofile", "-c", _RUN_HOOK, "bash", str(script), printer]
        ended = self._run(command, env)
        if ended.code != 0 or b"PATH=" not in ended.captured:
            raise HydrationFailed(
                f"the shellHook {ended.how} without leaving an environment: "
                "it must neither exit nor exec",
                ended.tail,
            )
        return ended.captured

    def keep(self, path: Path, root: Path) -> None:
        """Register a symbolic link `root` with the collector: what it points to is kept while it exists."""
        store = str(self.directory / "nix-store")
        ended = self._run([store, "--realise", str(path), "--add-root", str(root)], self.env)
        self._demand(ended, f"registering {path} with Nix's collector")

    def _nix(self, command: str) -> list[str]:
        features = ("--extra-experimental-features", "nix-command flakes")
        return [str(self.directory / "nix"), *features, command]

    def _run(self, argv: list[str], env: Mapping[str, str]) -> Ended:
        return run_hook(
            argv,
            cwd=self.volume,
            env=env,
            log=self.log,
            tell=self.tell,
            cancel=self.cancel,
            capture=True,
        )

    @staticmethod
    def _demand(ended: Ended, what: str) -> Ended:
        if ended.code == _DEPENDENCY_FAILED:
            raise HydrationFailed(
                f"{what}: something it depends on did not build; see its log below", ended.tail
            )
        if ended.code != 0:
            raise HydrationFailed(
                f"{what}: Nix {ended.how}; correct what it says below", ended.tail
            )
        return ended
