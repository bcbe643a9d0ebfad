"""Tools for the states as a whole: are they sound (`verification`), start anew (`resetting`), out to a file (`exporting`) and in
again (`importing`).

They work on the changelog, from outside of the workers. What a file may carry over into another application, or onto topics that have
changed, is decided in `continuity`.
"""
