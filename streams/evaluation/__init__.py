"""Evaluation without Kafka: arms that forecast the same stream, scored by delayed progressive validation, compared in pairs, reported."""
