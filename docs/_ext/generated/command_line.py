"""The commands of `jupyter volumes`, with their arguments, from the parsers that read them."""

from __future__ import annotations

import argparse
import inspect

from provisioner.cli.app import COMMANDS, PROGRAM, Command


def commands() -> str:
    """Return a section for each command."""
    return "\n".join(_section(command) for command in COMMANDS)


def _section(command: Command) -> str:
    summary = f"{command.summary[0].upper()}{command.summary[1:]}."
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {command.name}", description=summary, add_help=False
    )
    command.load().add_arguments(parser)
    return f"## {command.name}\n\n{_described(parser)}"


def _described(parser: argparse.ArgumentParser) -> str:
    text = [
        inspect.cleandoc(parser.description or ""),
        f"```{{program}} {parser.prog}\n```",
        f"```text\n{_usage(parser)}\n```",
    ]
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            text += _actions(action)
        elif action.help != argparse.SUPPRESS:
            text.append(f"```{{option}} {_invocation(action)}\n\n{_help(action, parser)}\n```")
    return "\n\n".join(part for part in text if part) + "\n"


def _actions(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> list[str]:
    summaries = {choice.dest: choice.help for choice in sub._choices_actions}  # noqa: SLF001
    described = []
    for name, parser in sub.choices.items():
        summary = summaries.get(name) or name
        parser.description = f"{summary[0].upper()}{summary[1:]}."
        described.append(f"### {parser.prog.removeprefix(f'{PROGRAM} ')}\n\n{_described(parser)}")
    return described


def _usage(parser: argparse.ArgumentParser) -> str:
    return parser.format_usage().removeprefix("usage: ").replace("[-h] ", "").rstrip()


def _invocation(action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else "")
    if not action.option_strings:
        return str(value or action.dest)
    takes_value = action.nargs != 0
    return ", ".join(f"{flag} {value}" if takes_value else flag for flag in action.option_strings)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return f"{text[:1].upper()}{text[1:]}."
