"""Everything the forecaster raises, in one tree.

AgentError
├── ModelError                what a language model's backend can end in; `slug` is a metric label
│   ├── ModelUnreachable      refused, reset, 502, 503, runner gone: worth another try
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
    """The server refused, dropped or never took the connection, or said that it is overloaded."""

    slug = "unreachable"
    retryable = True


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


class AnswerInvalid(AgentError):
    """The model answered, but not with something that can be used. The text says what was wrong, for the repair prompt."""

    slug = "invalid"


class PromptTooLong(AgentError):
    """Nothing more can be left out and the prompt is still above the context budget."""

    slug = "too-long"
