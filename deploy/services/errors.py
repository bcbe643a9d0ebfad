"""What can go wrong with local services.

Every message says what was wrong, where (the log file with its last lines, if there is one) and what to do.
"""

from pathlib import Path

LOG_LINES = 15
"""How much of a log an error shows: a Java or Go error with its cause fits, and a terminal does not scroll away."""


class ServiceError(Exception):
    """Base of this package's errors."""


class MissingTool(ServiceError):
    """A program that would have to do the work is not installed."""


class ToolFailed(ServiceError):
    """A build or a download ended with an error."""


class ChecksumMismatch(ServiceError):
    """A file is not the one that was pinned."""


class StartFailed(ServiceError):
    """A service ended, or did not answer in time, while it was being started."""


class Unreachable(ServiceError):
    """An address that the settings name does not answer."""


class UnknownModel(ServiceError):
    """No source is known for a model name."""


class TemplateMismatch(ServiceError):
    """The model server would send prompts in another form than the model was trained on."""


def log_tail(log: Path, lines: int = LOG_LINES) -> str:
    """Return the name of a log file and its last lines, for the end of an error message.

    Parameters
    ----------
    log
        The file; it may be missing or empty.
    lines
        How many lines from its end.

    Examples
    --------
    >>> log_tail(Path("/nonexistent/kafka.log"))
    'Log: /nonexistent/kafka.log (empty)'
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        text = ""
    last = [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    if not last:
        return f"Log: {log} (empty)"
    return f"Log: {log}, its end:\n" + "\n".join(f"  {line}" for line in last)
