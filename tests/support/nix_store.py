"""A real Nix, offline, with its store in a separate directory."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import require

_SYSTEM = f"{platform.machine().replace('arm64', 'aarch64')}-{sys.platform}"

# Without nixpkgs: a derivation is what a shell makes. A builder ends in a builtin (`exit 0`): ended by a
# program of coreutils, Nix 2.8 now and then took the build for killed.
_EXPRESSION = """
let
  build = name: script: derivation {{
    inherit name; system = "{system}"; builder = "/bin/bash"; PATH = "/usr/bin:/bin";
    args = [ "-euc" (script + "\\nexit 0") ];
  }};
  tool = build "tool" ''
    mkdir -p $out/bin $out/share/jupyter
    printf '#!/bin/sh\\necho {greeting}\\n' > $out/bin/greet
    printf '#!/bin/sh\\nexport RAN_BY=%s\\nexec {python} "$@"\\n' $out/bin/python3 > $out/bin/python3
    chmod +x $out/bin/*
    {dependency}
  '';
  stdenv = build "stdenv" ''
    mkdir $out
    printf '%s\\n' 'PATH=' 'for i in $buildInputs; do PATH=$PATH''${{PATH:+:}}$i/bin; done' \\
      'export PATH SHELL=/usr/sbin/nologin' \\
      'export SSL_CERT_FILE=/no-cert-file.crt NIX_SSL_CERT_FILE=/no-cert-file.crt' > $out/setup
  '';
  shell = derivation {{
    name = "shell"; system = "{system}"; builder = "/bin/bash"; outputs = [ "out" ];
    inherit stdenv; buildInputs = [ tool ]; GREETING = "{greeting}";
    shellHook = ''
      {hook}
    '';
  }};
in
"""
_FLAKE = """
{{
  {settings}
  outputs = {{ self }}: {expression} {{
    devShells."{system}".default = shell;
    packages."{system}".default = tool;
  }};
}}
"""


@dataclass(frozen=True)
class NixStore:
    """A store, and the variables with which Nix uses it."""

    root: Path
    env: Mapping[str, str]

    def flake(
        self,
        directory: Path,
        greeting: str = "hello",
        *,
        hook: str = "",
        dependency: str = "",
        settings: str = "",
    ) -> Path:
        """Write a flake with a development shell; return its directory."""
        directory.mkdir(parents=True, exist_ok=True)
        expression = self._expression(greeting, hook, dependency)
        flake = _FLAKE.format(system=_SYSTEM, expression=expression, settings=settings)
        (directory / "flake.nix").write_text(flake)
        return directory

    def expression(self, directory: Path, greeting: str = "hello") -> Path:
        """Write a shell.nix; return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "shell.nix"
        path.write_text(f"{self._expression(greeting, '', '')} shell")
        return path

    def build(self, flake: Path) -> Path:
        """Build a flake's package; return its path in the store."""
        built = self.run("nix", "build", "--json", "--no-link", f"path:{flake}")
        return Path(json.loads(built)[0]["outputs"]["out"])

    def collect(self) -> None:
        """Delete everything that no root keeps."""
        self.run("nix-collect-garbage")

    def temporary_roots(self) -> list[str]:
        """Return the targets of all roots of the store except the permanent roots of volumes."""
        links = (self.root / "var/gcroots/auto").glob("*")
        targets = [str(link.readlink()) for link in links if link.exists()]
        return [target for target in targets if "/nix/root-" not in target]

    def run(self, *command: str) -> str:
        program = require(command[0], "install the package nix-bin")
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), **self.env}
        return subprocess.run(
            [program, *command[1:]], env=env, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    @staticmethod
    def _expression(greeting: str, hook: str, dependency: str) -> str:
        return _EXPRESSION.format(
            system=_SYSTEM,
            python=sys.executable,
            greeting=greeting,
            hook=hook,
            dependency=dependency,
        )


def make_store(root: Path) -> NixStore:
    """Make an empty store below a directory."""
    for name in ("store", "var", "log", "etc", "cache"):
        (root / name).mkdir()
    (root / "registry.json").write_text('{"version": 2, "flakes": []}')
    settings = {
        "experimental-features": "nix-command flakes",
        "substituters": "",
        "sandbox": "false",
        "build-users-group": "",
        "flake-registry": str(root / "registry.json"),
    }
    env = {
        "NIX_STORE_DIR": str(root / "store"),
        "NIX_STATE_DIR": str(root / "var"),
        "NIX_LOG_DIR": str(root / "log"),
        "NIX_CONF_DIR": str(root / "etc"),
        "NIX_USER_CONF_FILES": "",
        "XDG_CACHE_HOME": str(root / "cache"),
        "NIX_CONFIG": "\n".join(f"{name} = {value}" for name, value in settings.items()),
    }
    return NixStore(root, env)
