"""Shell completion: click's own, with session ids, and with words that have colons in bash."""

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from hermes_session_mw.cli.sources import Settings, with_source
from hermes_session_mw.ids import is_session_id

_NAME, _VARIABLE = "hermes-sessions", "_HERMES_SESSIONS_COMPLETE"
_TIMEOUT = 2.0
"""Seconds that a press of the Tab key waits for the store."""

# bash splits words at colons, which ids and URLs contain. So the whole line is read, and the
# completions omit the part of the word before the last colon.
_BASH = """\
%(complete_func)s() {
    local line="${COMP_LINE:0:COMP_POINT}" type value word had=""
    word="${line##*[[:space:]]}"
    [[ "$COMP_WORDBREAKS" == *:* && "$word" == *:* ]] && had="${word%%:*}:"
    COMPREPLY=()
    while IFS=, read -r type value; do
        case "$type" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$had"}") ;;
        esac
    done < <(COMP_LINE="$line" %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class Bash(BashComplete):
    """Completion for bash, from the whole line at its prompt."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the arguments before the word that is being typed, and that word."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        if line[-1:].isspace() or not words:
            return words, ""
        return words[:-1], words[-1]


def complete_ids(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return ids in the store; none if it cannot be read, since a shell shows no errors.

    Only ids of the default alphabet, because a shell inserts them into its line unquoted.
    """
    try:
        url = ctx.find_root().params["store"]
        given = set(ctx.params.get("ids") or ())
        owner = ctx.params.get("owner")
        found = with_source(
            Settings(url, _TIMEOUT), lambda source: source.ids_with_prefix(incomplete, owner)
        )
    except Exception:  # noqa: BLE001  # an error is no use in the middle of a line
        return []
    # One that needs no quotes, and is not taken for an option.
    plain = [each for each in found if is_session_id(each) and not each.startswith("-")]
    return [CompletionItem(each) for each in dict.fromkeys(plain) if each not in given]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes the shell complete commands and ids.

    In bash, for instance: eval "$(hermes-sessions completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover  # for the type checker: all three are click's
        raise AssertionError
    click.echo(kind(ctx.find_root().command, {}, _NAME, _VARIABLE).source())
