"""The Faust shell: app, topics, state, transactions, per-entity lanes, recovery, dead letters, metrics, HTTP and the command line."""
