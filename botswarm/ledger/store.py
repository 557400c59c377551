"""The ledger as the rest of the program holds it: one database, and a drawer per subject."""

from __future__ import annotations

from botswarm.config import Secret
from botswarm.ledger.armings import Armings
from botswarm.ledger.audit import Audit
from botswarm.ledger.backups import Backups
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.bots import Bots
from botswarm.ledger.cancels import Cancels
from botswarm.ledger.candles import Candles
from botswarm.ledger.changes import Changes
from botswarm.ledger.enablings import Enablings
from botswarm.ledger.evaluations import Evaluations
from botswarm.ledger.exchange_keys import ExchangeKeys
from botswarm.ledger.findings import Findings
from botswarm.ledger.halts import Halts
from botswarm.ledger.heartbeats import Heartbeats
from botswarm.ledger.limits import Limits
from botswarm.ledger.marks import Marks
from botswarm.ledger.orders import Orders
from botswarm.ledger.outbox import Outbox
from botswarm.ledger.outcomes import Outcomes
from botswarm.ledger.protections import Protections
from botswarm.ledger.reconciling import Reconciliations
from botswarm.ledger.risk_standings import RiskStandings
from botswarm.ledger.roster import Roster
from botswarm.ledger.schedules import Schedules
from botswarm.ledger.session import Database
from botswarm.ledger.stands import Stands
from botswarm.ledger.sweeping import Sweeping
from botswarm.ledger.trades import Trades
from botswarm.ledger.watched import Watched


class Ledger:
    """Opening it connects to nothing; that happens when it is first used.

    One per process: after a fork the child calls ``dispose_after_fork`` before anything else.
    """

    def __init__(self, url: str | Secret) -> None:
        self.database = Database(url)
        self.armings = Armings(self.database)
        self.audit = Audit(self.database)
        self.backups = Backups(self.database)
        self.books = LedgerBooks(self.database)
        self.bots = Bots(self.database)
        self.cancels = Cancels(self.database)
        self.candles = Candles(self.database)
        self.changes = Changes(self.database)
        self.enablings = Enablings(self.database)
        self.evaluations = Evaluations(self.database)
        self.exchange_keys = ExchangeKeys(self.database)
        self.findings = Findings(self.database)
        self.halts = Halts(self.database)
        self.heartbeats = Heartbeats(self.database)
        self.limits = Limits(self.database)
        self.marks = Marks(self.database)
        self.orders = Orders(self.database)
        self.outbox = Outbox(self.database)
        self.outcomes = Outcomes(self.database)
        self.protections = Protections(self.database)
        self.reconciliations = Reconciliations(self.database)
        self.risk_standings = RiskStandings(self.database)
        self.roster = Roster(self.database)
        self.schedules = Schedules(self.database)
        self.stands = Stands(self.database)
        self.sweeping = Sweeping(self.database)
        self.trades = Trades(self.database)
        self.watched = Watched(self.database)

    def dispose_after_fork(self) -> None:
        self.database.dispose_after_fork()

    def close(self) -> None:
        self.database.close()
