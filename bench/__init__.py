"""How fast the program is, measured from outside against what it is built on.

Three programs, each with a Kafka of its own in a throw-away directory:

==================== ===================================================================================================
`bench.throughput`    events a second through a worker, beside a plain Faust agent that does the same
`bench.recovery`      records a second while a state is rebuilt, beside a bare consumer; how long a restart takes
`bench.failover`      seconds from a worker's death to the first prediction for one of its entities
==================== ===================================================================================================

Each prints a table, and `--json FILE` keeps every figure with the conditions under which it was measured. They assert nothing: a
figure depends on the machine, and what must hold on any of them is in the tests.
"""
