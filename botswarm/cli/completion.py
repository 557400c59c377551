"""Print the script that makes a shell complete our commands."""

from __future__ import annotations

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Answer:
    """Print the completion script of a shell.

    Load it with: eval "$(botswarm completion bash)" in ~/.bashrc, the same with zsh in
    ~/.zshrc, or botswarm completion fish | source in fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "botswarm", "_BOTSWARM_COMPLETE").source()
    return Answer(data={"shell": shell, "script": script}, text=script.rstrip("\n"))
