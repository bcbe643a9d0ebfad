"""Which call gets a slot of one host next. Decides only: no clock, no tasks, no I/O; `agents.models.admission` carries the decisions out.

- **Order.** Predictions (and what belongs to them) before rewrites, each kind in the order of arrival. No slot stays idle while a
  prediction waits.
- **Rewrites.** With n >= 2 slots they hold at most n - 1. While predictions come they are left as many slots as they lately needed and the
  square root of that besides, as telephone exchanges are staffed (Erlang; Halfin & Whitt 1981), because a rewrite lasts so long that a
  prediction which finds all slots taken waits for more than its own time; but rewrites may always hold as many as their share comes to.
  One that has no turn of its own also leaves a slot free.
- **Turns.** A rewrite that has waited longer than `rewrite_max_wait` may take its turn before predictions, as long as rewrites have had
  less than `rewrite_share` of the slot time: each turn is charged with what a rewrite usually takes, what they take of idle slots is
  charged as it passes, at most one rewrite ahead, and the slot time of predictions pays it off (a deficit, as in deficit round robin,
  Shreedhar & Varghese 1995).
- **Cutting.** With one slot, a rewrite that runs only because nothing else waited is cut for a prediction: once at most, not in a turn of
  its own, and not past half its usual time, from where on cutting wastes more than it saves. Its second attempt runs to its end.
- **The bound.** Above `queue` waiting calls the youngest rewrite is shed, else the youngest prediction. The youngest, because the oldest
  is the next to be served and has paid for it by waiting, and because an order of arrival is what is promised.
- **Too late.** A call that has less time left than most of the last ones of its purpose took is not begun. Without that, an overloaded
  host works on nothing but calls that end at their deadline, and answers none. At least half of a call's time counts as enough, so that
  what is usual can be learned anew.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict, deque
from dataclasses import dataclass, field
from math import ceil, exp, sqrt
from statistics import fmean

from agents.models.protocol import Purpose

#: The last calls of a purpose, by which it is known what is usual: few, so that a server that has loaded its model is not taken for slow
#: for long.
REMEMBERED = 16
#: Share of them that were done in the time that counts as enough for another one, and a margin on it.
ENOUGH_FOR, MARGIN = 0.75, 1.25
#: For how long predictions are looked back at, in what one usually takes, to know how many slots they need: many arrivals, so that the mean
#: says something; short against the hours of a day.
LATELY = 20.0
#: So many times as much is ample: a call that has had it and is not answered tells that something is wrong with the host.
AMPLE = 4.0


@dataclass(eq=False, slots=True)
class Ticket:
    """One call's place in line; keeps its place when it lines up again.

    Attributes
    ----------
    purpose
        What the call is for.
    arrived, end
        When it first lined up, and when its answer must be there; seconds of one clock.
    number
        Tells apart what arrived in the same moment.
    started
        Since when it holds a slot; None while it waits.
    in_turn
        It holds its slot by the rewrites' share.
    cut
        It has been cut, or is being cut.
    """

    purpose: Purpose
    arrived: float
    end: float
    number: int = 0
    started: float | None = None
    in_turn: bool = False
    cut: bool = False
    charged: float = 0.0

    @property
    def is_rewrite(self) -> bool:
        return self.purpose == "rewrite"

    @property
    def place(self) -> tuple[float, int]:
        return self.arrived, self.number


@dataclass(slots=True)
class Moves:
    """What is to be done now.

    Attributes
    ----------
    started
        They have a slot from now on.
    shed
        The queue is full: they leave it.
    late
        Too little of their time is left: they leave the queue.
    cut
        A running one that is to be stopped; `end` follows when it has let go of its slot.
    """

    started: list[Ticket] = field(default_factory=list)
    shed: list[Ticket] = field(default_factory=list)
    late: list[Ticket] = field(default_factory=list)
    cut: Ticket | None = None


class Usual:
    """How long calls of one purpose take, in seconds; 0 before the first."""

    def __init__(self) -> None:
        self.mean = 0.0
        #: Enough for most.
        self.enough = 0.0
        self._last: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, seconds: float) -> None:
        self._last.append(seconds)
        self.mean = fmean(self._last)
        self.enough = MARGIN * sorted(self._last)[int(ENOUGH_FOR * (len(self._last) - 1))]


class Schedule:
    """The slots of one host and what waits for them.

    Parameters
    ----------
    slots
        Calls at once.
    queue
        Calls that may wait.
    rewrite_share
        Share of the slot time that overdue rewrites get while predictions come too, 0 to below 1.
    rewrite_max_wait
        Seconds after which a rewrite is overdue.

    Notes
    -----
    Every method takes the time, which never goes back, and returns what is to be done.
    """

    def __init__(self, slots: int, *, queue: int, rewrite_share: float, rewrite_max_wait: float) -> None:
        self.slots = slots
        self.queue = queue
        #: Slot-seconds used so far, by kind.
        self.prediction_seconds = 0.0
        self.rewrite_seconds = 0.0
        self._pay = rewrite_share / (1 - rewrite_share)
        self._max_wait = rewrite_max_wait
        self._most_rewrites = max(1, slots - 1)
        #: What their share comes to.
        self._least_rewrites = min(self._most_rewrites, max(1, ceil(rewrite_share * slots)))
        #: Slots that predictions held lately, on average.
        self._needed = 0.0
        self._predictions: list[Ticket] = []
        self._rewrites: list[Ticket] = []
        self._running: list[Ticket] = []
        self._usual: defaultdict[Purpose, Usual] = defaultdict(Usual)
        #: Slot-seconds that predictions are to have before the next rewrite in turn; below 0 rewrites are owed.
        self._debt = 0.0
        self._now = 0.0

    @property
    def waiting_predictions(self) -> int:
        return len(self._predictions)

    @property
    def waiting_rewrites(self) -> int:
        return len(self._rewrites)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def running_rewrites(self) -> int:
        return sum(ticket.is_rewrite for ticket in self._running)

    @property
    def rewrite_slots(self) -> int:
        """Slots that rewrites may hold now."""
        free = self.slots - ceil(self._needed + sqrt(self._needed))
        return min(self._most_rewrites, max(self._least_rewrites, free))

    def ample(self, ticket: Ticket) -> float:
        """Seconds in a slot within which this call would have been answered if all were well; at most half its time."""
        enough = self._usual[ticket.purpose].enough
        half = (ticket.end - ticket.arrived) / 2
        return min(AMPLE * enough, half) if enough else half

    def arrive(self, ticket: Ticket, now: float) -> Moves:
        """A call lines up, for the first time or again."""
        self.account(now)
        insort(self._line(ticket), ticket, key=lambda waiting: waiting.place)
        moves = self._fill(now)
        while len(self._predictions) + len(self._rewrites) > self.queue:
            moves.shed.append((self._rewrites or self._predictions).pop())
        moves.cut = self._to_cut(now)
        return moves

    def end(self, ticket: Ticket, now: float, *, learn: bool = False) -> Moves:
        """A call lets go of its slot, or gives up waiting; one that has left already changes nothing.

        Parameters
        ----------
        learn
            The time it held the slot is how long such calls take: it was answered, or its deadline passed in the slot.
        """
        self.account(now)
        if ticket in self._running:
            self._running.remove(ticket)
            took = now - (now if ticket.started is None else ticket.started)
            if ticket.in_turn:
                self._debt += took - ticket.charged
            if learn:
                self._usual[ticket.purpose].learn(took)
            ticket.started, ticket.in_turn, ticket.charged = None, False, 0.0
        elif ticket in (line := self._line(ticket)):
            line.remove(ticket)
        return self._fill(now)

    def clear(self) -> list[Ticket]:
        """Send away all that waits."""
        waiting = [*self._predictions, *self._rewrites]
        self._predictions.clear()
        self._rewrites.clear()
        return waiting

    def account(self, now: float) -> None:
        """Count the slot time that has passed since the last call of any method."""
        passed, self._now = now - self._now, now
        rewrites = self.running_rewrites
        predictions = len(self._running) - rewrites
        self.prediction_seconds += predictions * passed
        self.rewrite_seconds += rewrites * passed
        self._look_back(predictions, passed)
        self._settle(predictions, passed)
        if not self._is_overdue(now):
            # Nothing is saved up for later: a burst of rewrites has no right to the time that none of them waited for.
            self._debt = max(self._debt, 0.0)

    def _look_back(self, predictions: int, passed: float) -> None:
        usual = LATELY * self._usual["predict"].mean
        kept = exp(-passed / usual) if usual else 0.0
        if passed:
            self._needed = kept * self._needed + (1 - kept) * predictions

    def _settle(self, predictions: int, passed: float) -> None:
        """Charge rewrites that have no turn of their own with their time, and pay off with that of predictions."""
        unasked = sum(ticket.is_rewrite and not ticket.in_turn for ticket in self._running)
        # A quiet night of rewriting is not held against them in the morning.
        ahead = max(self._debt, self._usual["rewrite"].mean)
        self._debt = min(ahead, self._debt + unasked * passed) - self._pay * predictions * passed

    def _line(self, ticket: Ticket) -> list[Ticket]:
        return self._rewrites if ticket.is_rewrite else self._predictions

    def _fill(self, now: float) -> Moves:
        moves = Moves()
        while len(self._running) < self.slots:
            for line in (self._predictions, self._rewrites):
                while line and self._is_late(line[0], now):
                    moves.late.append(line.pop(0))
            chosen = self._next(now)
            if chosen is None:
                break
            chosen.started = now
            self._running.append(chosen)
            moves.started.append(chosen)
        return moves

    def _next(self, now: float) -> Ticket | None:
        may_rewrite = bool(self._rewrites) and self.running_rewrites < self.rewrite_slots
        if may_rewrite and self._pay and self._is_overdue(now) and self._owed(now) <= 0:
            turn = self._rewrites.pop(0)
            turn.in_turn = True
            turn.charged = self._usual[turn.purpose].mean
            self._debt += turn.charged
            return turn
        if self._predictions:
            return self._predictions.pop(0)
        leaves_one = self.slots == 1 or self.slots - len(self._running) > 1
        return self._rewrites.pop(0) if may_rewrite and leaves_one else None

    def _is_overdue(self, now: float) -> bool:
        return bool(self._rewrites) and now - self._rewrites[0].arrived >= self._max_wait

    def _owed(self, now: float) -> float:
        """The debt, with what rewrites in turn have taken beyond what they were charged with."""
        in_turn = [(ticket.started, ticket.charged) for ticket in self._running if ticket.in_turn and ticket.started is not None]
        return self._debt + sum(max(0.0, now - started - charged) for started, charged in in_turn)

    def _is_late(self, ticket: Ticket, now: float) -> bool:
        return ticket.end - now < min(self._usual[ticket.purpose].enough, (ticket.end - ticket.arrived) / 2)

    def _to_cut(self, now: float) -> Ticket | None:
        if self.slots > 1 or not self._predictions or not self._running:
            return None
        running = self._running[0]
        if not running.is_rewrite or running.in_turn or running.cut or running.started is None:
            return None
        usual = self._usual[running.purpose].mean
        if usual and now - running.started > usual / 2:
            return None
        running.cut = True
        return running
