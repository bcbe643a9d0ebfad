"""`palimpsest topics`: is every topic there and fit, and make what is missing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streams import exits, topics
from streams.cli.console import finding_as_json, note, print_finding, print_json, print_table
from streams.cli.options import Config, Json, settings_of
from streams.findings import failed

program = typer.Typer(help="Check and create the Kafka topics that the settings name.", no_args_is_help=True)


@program.command("check")
def check_topics(config: Config = None, json: Json = False) -> int:
    """Compare every topic with what it must be: partitions, cleanup policy, retention, replicas, record size, read positions.

    Ends with 1 if something keeps a worker from starting; it says what, and what to do.

    Example: palimpsest topics check -c palimpsest.toml
    """
    findings = asyncio.run(topics.check(settings_of(config)))
    wrong = failed(findings)
    if json:
        print_json({"ok": not wrong, "findings": [finding_as_json(finding) for finding in findings]})
    else:
        for finding in findings:
            print_finding(finding)
    return exits.FAILED if wrong else exits.OK


@program.command("create")
def create_topics(
    config: Config = None,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Make missing observation and truth topics too; else a misspelt name stays an error.")
    ] = False,
    json: Json = False,
) -> int:
    """Make the topics that are missing: outputs, dead letters, commands, the changelog, internal topics. Existing ones stay as they are.

    topics.partitions and topics.replication count where no input exists yet; existing inputs decide the partitions of the rest.

    Example: palimpsest topics create --inputs
    """
    settings = settings_of(config)
    made = asyncio.run(topics.create(settings, inputs=inputs))
    if json:
        print_json([_spec_as_json(spec) for spec in made])
    elif made:
        columns = ("TOPIC", "ROLE", "PARTITIONS", "REPLICAS", "CLEANUP", "KEPT", "MIN IN SYNC")
        print_table(columns, [_spec_as_row(spec) for spec in made])
    else:
        note("every topic exists already; `palimpsest topics check` tells whether they fit")
    return exits.OK


def _spec_as_row(spec: topics.TopicSpec) -> tuple[str, ...]:
    kept = "latest per entity" if spec.cleanup == "compact" else topics.period(spec.retention_ms)
    return (spec.name, spec.role, str(spec.partitions), str(spec.replication), spec.cleanup, kept, spec.configs["min.insync.replicas"])


def _spec_as_json(spec: topics.TopicSpec) -> dict[str, object]:
    return {
        "topic": spec.name,
        "role": spec.role,
        "partitions": spec.partitions,
        "replication": spec.replication,
        "configs": dict(spec.configs),
    }
