"""The datasets of the evaluation, by name."""
