"""The forecaster of one entity: a frozen language model that reads a memory, predicts, and rewrites the memory after outcomes."""
