"""Every check of health in one table: what it asks, how often, and what is no longer well.

Who asks a line, and whether it cannot work without, is said where processes are put together
(``botswarm.health.process``). A value is judged by ``warn_above`` and ``fail_above``; a look that
has to weigh more than a number says its status itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.health.watch import Line

WORK = Line(
    name="work",
    asks="Does this process get on with its work? A heartbeat alone would not say so.",
    unit="s",
    warn_above=20,
    fail_above=60,
    cure="look at its log; it is started again by what watches over it",
)

LINES: tuple[Line, ...] = (
    # --- servers ------------------------------------------------------------------------------
    Line(
        name="ledger",
        asks="Does the ledger answer SELECT 1, and how fast?",
        unit="ms",
        warn_above=500,
        cure="look at its server and disk: botswarm doctor --only database",
    ),
    Line(
        name="broker",
        asks="Does the broker let us in, and answer?",
        unit="ms",
        warn_above=1000,
        cure="look at it: botswarm doctor --only broker",
    ),
    Line(
        name="tasks",
        asks="Is this worker connected, and does it take tasks from its queues?",
        every_s=1,
        cure="wait while it starts; else look at its log and at the broker",
    ),
    Line(
        name="redis",
        asks="Does Redis answer PING, save what it holds and take clients, where it is used?",
        unit="ms",
        warn_above=500,
        cure="start it, or look at its log: botswarm doctor --only redis",
    ),
    Line(
        name="venues",
        asks="Can the server of every account be reached?",
        unit="unreachable",
        fail_above=0,
        every_s=4,
        limit_s=4,
        cure="look at the venue's status page and at this machine's network",
    ),
    # --- this machine -------------------------------------------------------------------------
    Line(
        name="disk",
        asks="How full is the disk of the state folder, and can it be written?",
        unit="%",
        warn_above=80,
        fail_above=85,
        cure="delete or move what is not needed, or enlarge the disk",
    ),
    Line(
        name="memory",
        asks="How much memory is left to this machine or container?",
        unit="% used",
        cure="stop something, or enlarge the machine",
        every_s=5,
    ),
    Line(
        name="cpu",
        asks="How busy is this machine, over the last minute?",
        unit="%",
        warn_above=85,
        every_s=5,
        cure="see what takes it: top; spread the workers over more machines",
    ),
    Line(
        name="clock",
        asks="Does the clock run evenly, agree with the venues', and is it kept right?",
        unit="s",
        cure="set the clock right (chrony, systemd-timesyncd): until then no order is sent",
    ),
    Line(
        name="certificates",
        asks="For how many days are the venues' certificates still good?",
        unit="days",
        every_s=600,
        limit_s=30,
        cure="a venue renews its own; where a proxy stands between, renew the proxy's",
    ),
    # --- the feed -----------------------------------------------------------------------------
    Line(
        name="feed",
        asks="Is every venue that is followed connected, and heard of lately?",
        unit="s",
        cure="botswarm feed status says why; botswarm feed selftest tries each venue",
    ),
    # --- the swarm, asked by whoever works on the queue ops -----------------------------------
    Line(
        name="leader",
        asks="Does a beat lead, and a feed of each venue?",
        unit="missing",
        fail_above=0,
        cure="start what is missing: botswarm run beat, botswarm run feed",
    ),
    Line(
        name="queues",
        asks="Is every queue worked on, how old is what waits, and how many letters are dead?",
        unit="s",
        warn_above=30,
        fail_above=120,
        cure="botswarm queue list; start workers for what waits: botswarm run worker -Q NAMES",
    ),
    Line(
        name="doorbells",
        asks="How long has committed work been waiting for somebody to tell the broker?",
        unit="s",
        warn_above=30,
        fail_above=120,
        cure="the sweep on the queue ops rings again: is a worker for ops running?",
    ),
    Line(
        name="reconciliation",
        asks="Does every account agree with its venue, and was it compared lately?",
        unit="s",
        warn_above=300,
        cure="botswarm ledger reconcile",
        every_s=5,
    ),
    Line(
        name="orders",
        asks="Is any order in doubt for longer than its proof should take?",
        unit="s",
        warn_above=120,
        fail_above=600,
        cure="botswarm order list --state unknown; botswarm order resolve",
        every_s=5,
    ),
    Line(
        name="trading",
        asks="May the swarm trade?",
        every_s=5,
        cure="botswarm trading status",
    ),
    Line(
        name="builds",
        asks="Are all processes of one build, with the same settings?",
        unit="differences",
        every_s=5,
        cure="botswarm ps --all; restart the older ones, or stop the one that differs",
    ),
    Line(
        name="enabling",
        asks="Is trading that opens step by step looked at?",
        unit="s",
        warn_above=15,
        fail_above=60,
        every_s=5,
        cure="start what looks: botswarm run beat, botswarm run worker -Q ops",
    ),
    Line(
        name="backup_age",
        asks="How old is the last backup that was fully written and test-restored?",
        unit="s",
        every_s=30,
        cure="botswarm backup create; botswarm backup list says what went wrong",
    ),
    Line(
        name="archive",
        asks="How far is the archive behind the ledger, where there is one?",
        unit="s",
        every_s=15,
        cure="its log says why: botswarm logs search --process archive --level warning",
    ),
    Line(
        name="bucket",
        asks="For how long has nothing of the archive, or of log lines, reached its place?",
        unit="s",
        warn_above=60,
        fail_above=300,
        cure="try botswarm backup push; see the bucket's keys, their rights and its address",
    ),
    Line(
        name="schedules",
        asks="Has anything periodic been missed, or failed?",
        unit="missed",
        every_s=15,
        cure="botswarm schedule list",
    ),
    Line(
        name="keys",
        asks="Is a key, or a certificate of a server, so old that it has to be renewed?",
        every_s=60,
        cure="do what it says, then let it look again: botswarm schedule run check-keys",
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Line] = {line.name: line for line in (WORK, *LINES)}
