"""Backends of the language model, behind one protocol (`agents.models.protocol`)."""
