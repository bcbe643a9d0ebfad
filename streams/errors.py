"""Everything the shell raises, in one tree; the command line turns each into its exit code.

StreamError
├── KafkaUnavailable          no broker answers, or it refuses the connection
├── TopicsUnfit               topics are missing or not as the program needs them; carries the findings
├── CommandUnfit              a command that no worker could use
├── Unanswered                a command was sent and nobody has answered it yet
├── StatesInUse               a tool for the states is refused while workers have them
├── StatesInTheWay            states are to be imported where there are some
├── DumpError                 a file is no whole export, or does not fit where it should go
├── ReplayError               a file that is replayed cannot be read
└── AnswerMissing             an evaluation's model does not answer, and nothing is recorded of it (`streams.evaluation.records`)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams import exits

if TYPE_CHECKING:
    from streams.findings import Finding


class StreamError(Exception):
    """Base of all errors of this package."""

    exit_code = exits.SOFTWARE


class KafkaUnavailable(StreamError):
    """No broker answers at the bootstrap servers, or it does not take the connection."""

    exit_code = exits.UNAVAILABLE


class TopicsUnfit(StreamError):
    """Topics are missing, or not as the program needs them."""

    exit_code = exits.FAILED

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class CommandUnfit(StreamError):
    """A command that a worker with these settings would put to the dead letters; it was not sent."""

    exit_code = exits.USAGE


class Unanswered(StreamError):
    """A command stands in its topic and was not answered in the time it was given; a worker that comes to it does it all the same."""

    exit_code = exits.UNAVAILABLE


class StatesInUse(StreamError):
    """Workers have the states that a tool would take away or write."""

    exit_code = exits.FAILED


class StatesInTheWay(StreamError):
    """There is something already where states are to be imported."""

    exit_code = exits.FAILED


class DumpError(StreamError):
    """A file that is no whole export, or that does not fit where it should go; the text names file and line."""

    exit_code = exits.FAILED


class ReplayError(StreamError):
    """A file that should be replayed has a line that cannot be."""

    exit_code = exits.FAILED
