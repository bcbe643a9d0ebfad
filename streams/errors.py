"""Everything the shell raises, in one tree; the command line turns each into its exit code.

StreamError
├── KafkaUnavailable          no broker answers, or it refuses the connection
├── TopicsUnfit               topics are missing or not as the program needs them; carries the findings
└── ReplayError               a file that is replayed cannot be read
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


class ReplayError(StreamError):
    """A file that should be replayed has a line that cannot be."""

    exit_code = exits.FAILED
