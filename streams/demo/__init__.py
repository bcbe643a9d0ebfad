"""The demonstration: real data through real Kafka and a real model, watched day by day.

One run, in the order of the files: `command` brings services up; `configuration` writes the run's settings; `worker_process` starts the
worker; `driver` replays `dataset` through a `transport` and keeps what comes back in a `record`; `view` (with `chart` and `revision`)
shows it, `folder` stores it, `score` and `summary` say what came of it. Nothing here is used by a worker in production.
"""
