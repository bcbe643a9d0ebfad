"""Runs each test of Faust's faults without each counter-measure that it fails without; ends with 1 if one does not fail as it should."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from tests.integration.undone import COUNTER_MEASURES, PROOFS, TESTS, VARIABLE, Proof


def proofs() -> list[Proof]:
    """Of all test modules here, in the order of the counter-measures."""
    for path in Path(__file__).parent.glob("test_*.py"):
        import_module(f"{__package__}.{path.stem}")
    names = list(COUNTER_MEASURES)
    return sorted(PROOFS, key=lambda proof: (names.index(proof.measure), proof.test))


def show(proof: Proof) -> bool:
    """Run a test without its counter-measure, and tell how it failed; False if it did not, or otherwise than it should."""
    command = [sys.executable, "-m", "pytest", "-vv", "-rf", "--tb=no", "-p", "no:cacheprovider", f"{TESTS}/{proof.test}"]
    # Wide, so that no failure is cut.
    environment = {**os.environ, VARIABLE: proof.measure, "COLUMNS": "1000"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = " ".join(line.partition(" - ")[2] for line in ran.stdout.splitlines() if line.startswith("FAILED "))
    verdict = "fails" if proof.says in said else "FAILS OTHERWISE" if said else f"DOES NOT FAIL (pytest ended with {ran.returncode})"
    print(f"{proof.measure}: {COUNTER_MEASURES[proof.measure].fault}\n  {proof.test}\n  {verdict}: {said[:300]}", flush=True)  # noqa: T201
    return proof.says in said


if __name__ == "__main__":
    wanted = [proof for proof in proofs() if not sys.argv[1:] or proof.measure in sys.argv[1:]]
    unhurt = [proof for proof in wanted if not show(proof)]
    sys.exit(1 if unhurt else 0)
