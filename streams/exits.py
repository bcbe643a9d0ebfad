"""Exit codes of `palimpsest`, after sysexits.h where it has one."""

from __future__ import annotations

OK = 0
#: Something was checked and is not as it should be (`doctor`, `topics check`).
FAILED = 1
#: The command line is wrong.
USAGE = 2
#: A service does not answer: Kafka, the model (EX_UNAVAILABLE).
UNAVAILABLE = 69
#: A defect (EX_SOFTWARE).
SOFTWARE = 70
#: The worker was fenced, or cannot know whether a transaction went through: start it again and it decides by reading (EX_TEMPFAIL).
RESTART = 75
#: Environment variable by which a supervisor tells a worker how often it was started again.
RESTARTS_VARIABLE = "PALIMPSEST_RESTARTS"
#: The settings are wrong (EX_CONFIG).
CONFIG = 78
#: Interrupted by the user (128 + SIGINT).
INTERRUPTED = 130
