"""Progress as plain lines."""

import io

from deploy.services import lines


def test_a_line_for_each_new_text_and_each_quarter() -> None:
    output = io.StringIO()
    tell = lines(output)
    tell("kafka", "fetching")
    tell("kafka", "fetching")
    for percent in range(101):
        tell("model", "copying", percent / 100)
    assert output.getvalue().splitlines() == [
        "kafka: fetching",
        "model: copying 0%",
        "model: copying 25%",
        "model: copying 50%",
        "model: copying 75%",
        "model: copying 100%",
    ]
