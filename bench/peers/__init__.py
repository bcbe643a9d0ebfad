"""Our worker and what a team would write without it, on the same job, beside each other.

    python -m bench.peers [--rounds 5] [--only 'headline,crash'] [--peers worker,aiokafka] [--json FILE] [--report FILE]

The job: for each observation one call of the model over HTTP and one record on the output topic, and a state for each entity that is read
before the call, updated and stored so that it outlives the process. The model is the protocol emulator in a process of its own
(`tests.emulator`), so that how long a call takes and how many it computes at once are known.

==================== ===================================================================================================
`job`                what all of them do, said once; it runs in any environment
`faust_agent`        a Faust agent, `concurrency=1` or as many as there are slots
`gather`             a hand-written loop of aiokafka
`quix`               Quix Streams, in an environment of its own (`quix.lock`)
`roster`             how each of them is run and where its state is read
`cells`              the conditions under which they run
`track`              one run: a backlog, a program, and what it left behind
`verdict`            what was lost, doubled or out of order; from records alone
`summary`            the table, and the page for `docs/`
==================== ===================================================================================================
"""
