"""How much of what venues allow is used up, and whether one wants to hear nothing for a while."""

from __future__ import annotations

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns


@click.command("limits", cls=Command)
@click.pass_obj
def limits(session: Session) -> Answer:
    """Show what all processes of this machine have used of each venue's limits, and bans."""
    from botswarm.exchanges.allowances import boards

    data = []
    rows: list[tuple[object, ...]] = []
    bans = []
    for server, board in boards(session.settings().state_dir).items():
        used, ban_s, offset = board.used(), board.ban_left_s(), board.offset()
        data.append(
            {
                "server": server,
                "ban_s": round(ban_s, 1),
                "ban_words": board.ban_words() if ban_s else None,
                "clock_offset_s": None if offset is None else round(offset[0], 3),
                "limits": [
                    {"name": each.name, "used": round(each.used, 3), "most": each.most}
                    for each in used
                ],
            }
        )
        rows += [(server, each.name, f"{each.used:.0f} of {each.most:.0f}") for each in used]
        if ban_s:
            bans.append(f"{server} wants to hear nothing for {ban_s:.0f} s: {board.ban_words()}")
    text = in_columns(["SERVER", "LIMIT", "USED"], rows) if rows else "No venue was asked yet."
    return Answer(data=data, text=text, warnings=bans)
