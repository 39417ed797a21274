"""`arena-jax completion`: a script that completes commands, presets and options in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from arena_jax.config.presets import PRESETS

SHELLS = ("bash", "zsh", "fish")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion", help='print a completion script; bash and zsh: eval "$(arena-jax completion SHELL)"'
    )
    parser.add_argument("shell", choices=SHELLS, metavar="{bash,zsh,fish}", help="which shell reads it")
    # The parsers of all commands, the way their options are written down; known when the command runs.
    parser.set_defaults(call=lambda arguments: run(arguments, commands.choices))
    return parser


def run(arguments: argparse.Namespace, commands: Mapping[str, argparse.ArgumentParser]) -> int:
    """Run the command."""
    words = {name: _words(parser) for name, parser in commands.items()}
    words["train"] = sorted(PRESETS) + words["train"]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](words))
    return 0


def _words(parser: argparse.ArgumentParser) -> list[str]:
    words = sorted(flag for flag in parser._option_string_actions if flag.startswith("--"))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words = [*action.choices, *words]
    return words


def _bash(words: Mapping[str, list[str]]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(options)}" ;;' for name, options in words.items())
    return f"""_arena_jax() {{
  local words current="${{COMP_WORDS[COMP_CWORD]}}"
  case "$([ "$COMP_CWORD" -gt 1 ] && echo "${{COMP_WORDS[1]}}")" in
{cases}
    *) words="{" ".join(words)}" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _arena_jax arena-jax"""


def _zsh(words: Mapping[str, list[str]]) -> str:
    # zsh runs bash's completions by a module of its own.
    return f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_bash(words)}"


def _fish(words: Mapping[str, list[str]]) -> str:
    lines = [f'complete -c arena-jax -n __fish_use_subcommand -f -a "{" ".join(words)}"']
    for name, options in words.items():
        condition = f'-n "__fish_seen_subcommand_from {name}"'
        plain = " ".join(option for option in options if not option.startswith("--"))
        lines += [f'complete -c arena-jax {condition} -a "{plain}"'] if plain else []
        lines += [f"complete -c arena-jax {condition} -l {option[2:]}" for option in options if option.startswith("--")]
    return "\n".join(lines)
