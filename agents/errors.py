"""Everything the forecaster raises, in one tree.

AgentError
├── ModelError                what a language model's backend can end in; `slug` is a metric label
│   ├── ModelUnreachable      refused, reset, 502, 503, runner gone: worth another try
│   ├── ModelAway             not asked: no host has answered lately
│   ├── ModelOverloaded       not asked: too many calls wait already, or it waited for too long
│   ├── ModelTimeout          no answer within the deadline
│   ├── ModelMissing          the server does not have the model
│   ├── ModelRefused          the request itself is at fault (400, 403): never retried
│   └── ModelMisbehaved       an answer that is none: empty, no JSON, an unknown shape, a degenerate loop
├── AnswerInvalid             a complete answer that cannot be used: not the schema, not finite, out of range, cut off
└── PromptTooLong             a prompt does not fit the context budget even with everything optional left out
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of all errors of this package."""


class ModelError(AgentError):
    """A call of the language model failed."""

    slug = "error"
    #: Whether the same call may succeed when made again.
    retryable = False


class ModelUnreachable(ModelError):
    """The server refused, dropped or never took the connection, or said that it is overloaded.

    Attributes
    ----------
    retry_after
        Seconds after which the server asks to be tried again; None where it does not say.
    alive
        The server itself said "not now" with a 4xx: no sign that it is down.
    """

    slug = "unreachable"
    retryable = True

    def __init__(self, *args: object, retry_after: float | None = None, alive: bool = False) -> None:
        super().__init__(*args)
        self.retry_after = retry_after
        self.alive = alive


class ModelAway(ModelError):
    """The call was not made: every host has failed so often that it is left alone for a while."""

    slug = "away"


class ModelOverloaded(ModelError):
    """The call was not made: the queue is full, or too little of its time was left when its turn came."""

    slug = "shed"


class ModelTimeout(ModelError):
    """No complete answer within the deadline."""

    slug = "timeout"


class ModelMissing(ModelError):
    """The server does not have this model; `palimpsest models pull` gets it."""

    slug = "missing"


class ModelRefused(ModelError):
    """The server calls the request itself wrong; sending it again would not help."""

    slug = "refused"


class ModelMisbehaved(ModelError):
    """The server answered with something that is no answer."""

    slug = "misbehaved"


#: Slugs of calls that were never made: they say nothing about the model, only that the moment was wrong.
NOT_ASKED = frozenset({ModelAway.slug, ModelOverloaded.slug})


class AnswerInvalid(AgentError):
    """The model answered, but not with something that can be used. The text says what was wrong, for the repair prompt."""

    slug = "invalid"


class PromptTooLong(AgentError):
    """Nothing more can be left out and the prompt is still above the context budget."""

    slug = "too-long"
