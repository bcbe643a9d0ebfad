"""How Palimpsest's surroundings are set up: local services, containers, dashboards.

Nothing in the other packages imports this one except the command line, and this one imports none of them.
"""
