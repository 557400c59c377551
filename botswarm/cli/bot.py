"""Create bots, let them run, stop them, and ask them why they do what they do."""

from __future__ import annotations

import click

from botswarm.cli import (
    bot_file,
    bot_list,
    bot_logs,
    bot_make,
    bot_move,
    bot_replay,
    bot_why,
)
from botswarm.cli.command import Group


@click.group(cls=Group)
def bot() -> None:
    """Create bots, start and stop them, and ask them why."""


for command in (
    bot_list.list_bots,
    bot_list.show_bot,
    bot_make.create,
    bot_make.edit,
    bot_make.clone,
    bot_make.demo,
    bot_move.start,
    bot_move.pause,
    bot_move.resume,
    bot_move.stop,
    bot_move.delete,
    bot_move.arm,
    bot_move.disarm,
    bot_file.export_bots,
    bot_file.import_bots,
    bot_list.history,
    bot_list.diff,
    bot_why.explain_bot,
    bot_replay.replay_bot,
    bot_logs.show_logs,
):
    bot.add_command(command)
