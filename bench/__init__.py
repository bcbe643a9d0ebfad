"""How fast the program is, measured from outside against what it is built on.

Programs with a Kafka of their own in a throw-away directory:

==================== ===================================================================================================
`bench.throughput`    events a second through a worker, beside a plain Faust agent that does the same
`bench.recovery`      records a second while a state is rebuilt, beside a bare consumer; how long a restart takes
`bench.failover`      seconds from a worker's death to the first prediction for one of its entities
`bench.slots`         whether the model's slots are busy, and what rewrites cost predictions
`bench.peers`         our worker beside Faust, Quix Streams and a loop on aiokafka, on the same job
`bench.soak`          half an hour at full load with a model that fails in every way: does anything grow, or get lost?
==================== ===================================================================================================

Each prints a table, and `--json FILE` keeps every figure with the conditions under which it was measured. They assert nothing,
`bench.soak` apart: a figure depends on the machine, and what must hold on any of them is in the tests.
"""
