"""Half an hour at full load against a server that fails in every way it can: does anything grow, and does anything get lost?

    python -m bench.soak [--minutes 30] [--outage SECONDS] [--seed N] [--json FILE] [--plot FILE.svg]

One Kafka broker, one worker, and the emulator of Ollama, each a process of its own. Observations come a little faster than the model's
slots can answer, truths some seconds after them; the emulator's faults come and go by a seeded schedule (`schedule`), with quiet in
between. With `--outage` every call hangs for so long, from a third of the run on.

========== ====================================================================================================================
`load`     what is sent, and when
`schedule` which fault is on, and when
`worker`   the worker's settings, and the worker's process
`samples`  what is looked at while it runs: memory, what is in flight, what waits, the breaker
`arrivals` when each prediction could be read, and who made it
`run`      all of that side by side, until everything sent is worked off
`verdict`  what must hold: pure functions of what a run left behind
`picture`  memory and queues over time
========== ====================================================================================================================

Unlike the other benchmarks it asserts, and ends with 1 where something does not hold. What was lost, doubled or reordered is decided by
`tests.chaos.verdict`, from the topics; what is of this run alone (bounds, deadlines, memory) is decided here.
"""
