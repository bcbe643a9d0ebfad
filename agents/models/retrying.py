"""How often a call is made again, and after which pause.

Retries help against what passes by itself and harm where a server is in trouble, because they come on top of a load that it does not
bear as it is. So over all calls they have a budget: each call pays a share of a token in, each retry takes one out (as in Finagle's
`RetryBudget` and gRPC's retry throttling); whatever happens, no more than `share` of the calls are made twice, plus the first `BURST`.
Pauses are drawn from zero to a bound that doubles ("full jitter", Brooker 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Tries of one call. A third one comes after two pauses; what has not passed by then is the breaker's business.
MOST_TRIES = 3
#: Seconds of the longest first pause; each further one may be twice as long. Time for a full queue to move on; a server that lost its
#: model's runner loads it again within the next call.
FIRST_PAUSE = 1.0
#: Tokens at the beginning, and at most: a worker that asks once a minute may retry too.
BURST = 10.0


class RetryBudget:
    """Tokens for retries; shared by all calls of a worker.

    Parameters
    ----------
    share
        Tokens that each call pays in, 0 to 1; 0: nothing is ever retried.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = BURST if share else 0.0

    def called(self) -> None:
        """A call is made for the first time."""
        self._tokens = min(BURST, self._tokens + self._share)

    def spend(self) -> bool:
        """Take a token for a retry; False where there is none."""
        if self._tokens < 1 - 1e-9:  # ten tenths are not quite one
            return False
        self._tokens -= 1
        return True


def pause(tried: int, chance: float, retry_after: float | None = None) -> float:
    """Seconds before the next try.

    Parameters
    ----------
    tried
        Tries so far, at least 1.
    chance
        A number from [0, 1).
    retry_after
        What the server asked for: never sooner.

    Examples
    --------
    >>> pause(1, 0.5), pause(2, 0.5), pause(1, 0.5, 3.0)
    (0.5, 1.0, 3.0)
    """
    return max(chance * FIRST_PAUSE * 2.0 ** (tried - 1), retry_after or 0.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's `Retry-After` asks for; None where there is none that can be read.

    Examples
    --------
    >>> retry_after({"retry-after": "7"}), retry_after({}), retry_after({"retry-after": "soon"})
    (7.0, None, None)
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        left: float = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
    return max(0.0, left)
