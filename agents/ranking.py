"""The further ranks of a category's forecast.

A 1.5B model names one label reliably and repeats itself when asked for a list, and each label it writes costs time. So only the first
rank is the model's. The rest is filled by code from the ledger: how often each label came true, cases that satisfied the same rules of
the memory counting `RULE_WEIGHT` times; ties stand in the settings' order. `top_k` accuracy of the model's arm is therefore partly the
ledger's.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.conditions import holds
from agents.ledger import STATISTICS_ROWS, Ledger
from agents.rules import matching
from schemas.messages import Scalar
from schemas.settings import TargetSettings
from schemas.state import Memory

#: Weight of a case under the same rule against any other.
RULE_WEIGHT = 4


def ranked(best: str, memory: Memory, values: Mapping[str, Scalar], ledger: Ledger, target: TargetSettings) -> tuple[str, ...]:
    """The `target.top_k` labels, best first, no label twice, beginning with the model's."""
    rules = matching(memory, values)
    weights = dict.fromkeys(target.labels, 0)
    for row in ledger.matched[-STATISTICS_ROWS:]:
        if row.truth in weights:
            under = sum(all(holds(condition, row.values) for condition in rule.when) for rule in rules)
            weights[str(row.truth)] += 1 + (RULE_WEIGHT - 1) * under
    rest = sorted((label for label in target.labels if label != best), key=lambda label: (-weights[label], target.labels.index(label)))
    return (best, *rest)[: target.top_k]
