"""How runs become ratios."""

import pytest

from bench.throughput import Run, ratios


def run(kind: str, rate: float, cpu: float) -> Run:
    return Run(kind, rate, cpu, memory_mb=100.0, load=1.0)


def test_ratios_are_those_of_the_medians_and_above_one_where_the_worker_is_the_better() -> None:
    runs = [run("worker", rate, 1.0) for rate in (900.0, 1000.0, 5000.0)]
    runs += [run("same job", 800.0, 1.2)] * 3 + [run("faust i/o", 2000.0, 0.5)] * 3
    found = ratios(runs)
    assert found["same job"] == pytest.approx({"rate": 1.25, "processor": 1.2})
    assert found["faust i/o"] == pytest.approx({"rate": 0.5, "processor": 0.5})
