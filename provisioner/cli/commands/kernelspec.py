"""`jupyter volumes kernelspec`: adds, removes and lists the kernelspecs whose kernels get volumes."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from provisioner.cli.arguments import add_switch
from provisioner.cli.doctor.kernelspecs import faults
from provisioner.cli.flags import add_option_flags, given_options
from provisioner.cli.output.terminal import Column, complain, print_json, print_table
from provisioner.core.errors import ConfigError
from provisioner.hydration.kernelspec import (
    DEFAULT_LAUNCHER,
    PROVISIONER,
    Kernelspec,
    Stanza,
    kernelspec,
    kernelspecs,
)
from provisioner.settings.pool import load_settings

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
"""The names that Jupyter accepts, without those of a parent directory (`..`) or a hidden one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `kernelspec add`, `remove` and `list`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser(
        "add",
        help="copy a kernelspec into one with volumes",
        description="Copy a kernelspec into one with volumes. The provisioner of the original becomes the launcher "
        "of the copy; if the original gives volumes itself, the copy keeps its options.",
    )
    add.add_argument("name", metavar="NAME", help="the name of the new kernelspec")
    add.add_argument(
        "--from", dest="source", metavar="KERNELSPEC", required=True, help="the kernelspec to copy"
    )
    add.add_argument(
        "--display-name",
        metavar="TEXT",
        help="its name in launchers (default: that of the source, with NAME in parentheses)",
    )
    add_option_flags(add)
    add_switch(add, "--force", "replace an existing kernelspec of that name")
    where = add.add_mutually_exclusive_group()
    add_switch(where, "--user", "install it for yourself (the default)")
    add_switch(where, "--sys-prefix", "install it into this Python environment")
    where.add_argument("--prefix", metavar="PATH", help="install it below PATH/share/jupyter")
    remove = actions.add_parser("remove", help="remove a kernelspec that gives volumes")
    remove.add_argument("name", metavar="NAME", help="the kernelspec to remove")
    listed = actions.add_parser("list", help="list the kernelspecs that give volumes")
    add_switch(listed, "--json", "print them as JSON")


def run(args: argparse.Namespace) -> int:
    """Carry out the action."""
    {"add": _add, "remove": _remove, "list": _list}[args.action](args)
    return 0


def _add(args: argparse.Namespace) -> None:
    if not _NAME.fullmatch(args.name):
        raise ConfigError(
            f"A kernelspec cannot be named {args.name[:300]!r}; "
            'use letters, digits, "-", "_" and ".", and do not begin with a dot.'
        )
    if args.prefix == "":
        raise ConfigError("--prefix is empty; give a directory, or omit the flag.")
    source = kernelspec(args.source)
    stanza = _wrapped(source.stanza, given_options(args))
    for fault in faults(stanza, args.name, load_settings(args.config).root_path):
        raise ConfigError(fault)
    content = {
        **source.content,
        "display_name": args.display_name or _display_name(args.name, source),
        "metadata": {**source.metadata, "kernel_provisioner": stanza.metadata()},
    }
    prefix = sys.prefix if args.sys_prefix else args.prefix
    if not args.force:
        _require_free(args.name, prefix)
    installed = _install(args.name, content, source.directory, prefix)
    print(f"Added {args.name}: {installed}")
    if args.prefix is None and (found := kernelspec(args.name).directory) != Path(installed):
        complain(f"{args.name!r} is hidden by {found}, where Jupyter looks first.")


def _wrapped(source: Stanza, given: Mapping[str, Any]) -> Stanza:
    """Return the stanza of a new kernelspec: the source's, its provisioner as the launcher, and the given options."""
    if source.gives_volume:
        return Stanza(PROVISIONER, {**source.config, **given})
    inherited: dict[str, Any] = {}
    if source != Stanza(DEFAULT_LAUNCHER) and "launcher" not in given:
        inherited["launcher"] = source.provisioner
        if source.config:
            inherited["launcher_config"] = dict(source.config)
    return Stanza(PROVISIONER, {**inherited, **given})


def _display_name(name: str, source: Kernelspec) -> str:
    """Return the display name of a new kernelspec, which differs from those of the source and its other copies.

    `NAME-volume`, a copy of NAME, gets "… (volume)", like `python3-volume`.
    """
    base = source.display_name
    if source.stanza.gives_volume:
        base = base.removesuffix(f" ({source.name})").removesuffix(" (volume)")
    elif name.lower() == f"{source.name}-volume":
        name = "volume"
    return f"{base} ({name})".strip()


def _require_free(name: str, prefix: str | None) -> None:
    """Refuse a name that Jupyter already finds, or that exists below `prefix`."""
    taken = [str(found.directory) for found in kernelspecs() if found.name == name.lower()]
    target = Path(prefix or "", "share", "jupyter", "kernels", name.lower())
    if prefix is not None and target.exists():
        taken.append(str(target))
    if taken:
        raise ConfigError(
            f"A kernelspec {name!r} exists already in {taken[0]}; "
            "choose another name, or replace it with --force."
        )


def _install(name: str, content: Mapping[str, Any], resources: Path, prefix: str | None) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "kernelspec")
        shutil.copytree(resources, copy)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (copy / "kernel.json").write_text(f"{text}\n", encoding="utf-8")
        try:
            return KernelSpecManager().install_kernel_spec(
                str(copy), name, user=prefix is None, prefix=prefix
            )
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            if isinstance(error, shutil.Error):  # one for a whole tree, with a reason for each file
                reason = str(error.args[0][0][-1])
            raise ConfigError(
                f"The kernelspec was not added ({reason}); "
                "make that writable for you, or install it elsewhere, for example with --user."
            ) from error


def _remove(args: argparse.Namespace) -> None:
    found = kernelspec(args.name)
    if not found.stanza.gives_volume:
        raise ConfigError(
            f"The kernelspec {args.name!r} gives no volumes, so this command does not remove it; "
            f"`jupyter kernelspec remove {args.name}` does."
        )
    if found.is_packaged:
        raise ConfigError(
            f"The kernelspec {args.name!r} belongs to the package; "
            "`pip uninstall jupyter-volumes` removes it with the package."
        )
    print(f"Removed {args.name}: {KernelSpecManager().remove_kernel_spec(found.name)}")


def _list(args: argparse.Namespace) -> None:
    found = [installed for installed in kernelspecs() if installed.stanza.gives_volume]
    if args.json:
        print_json(
            [
                {
                    "name": installed.name,
                    "display_name": installed.display_name,
                    "directory": installed.directory,
                    "config": installed.stanza.config,
                    "misfit": installed.misfit,
                }
                for installed in found
            ]
        )
        return
    columns: Sequence[Column[Kernelspec]] = (
        Column("NAME", lambda installed: installed.name),
        Column("DISPLAY NAME", lambda installed: installed.display_name),
        Column("LAUNCHER", lambda installed: str(installed.stanza.launcher)),
        Column("WORKDIR", lambda installed: str(installed.stanza.config.get("workdir", "volume"))),
        Column("DIRECTORY", lambda installed: str(installed.directory), shrinks=True),
    )
    print_table(columns, found)
    for installed in found:
        if installed.misfit is not None:
            complain(installed.misfit)
