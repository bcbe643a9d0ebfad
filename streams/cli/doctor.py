"""`palimpsest doctor`: what is wrong with an installation, and what to do."""

from __future__ import annotations

import asyncio

from schemas.settings import Settings
from streams import exits
from streams.cli.console import finding_as_json, note, print_finding, print_json
from streams.cli.options import Config, Json, settings_of
from streams.doctor import examine
from streams.findings import Finding, failed


def doctor(config: Config = None, json: Json = False) -> int:
    """Look an installation over: settings, Kafka, topics, keys, model, context size, and whether model and bounds keep up.

    It changes and writes nothing, and asks the model for one word. Ends with 1 if something is wrong.

    Example: palimpsest doctor -c palimpsest.toml
    """
    findings = asyncio.run(_examine(settings_of(config), quiet=json))
    wrong = failed(findings)
    if json:
        print_json({"ok": not wrong, "findings": [finding_as_json(finding) for finding in findings]})
    else:
        warned = sum(finding.level == "warn" for finding in findings)
        note(f"{len(findings)} looked at, {len(wrong)} wrong, {warned} to think about")
    return exits.FAILED if wrong else exits.OK


async def _examine(settings: Settings, *, quiet: bool) -> list[Finding]:
    findings = []
    async for finding in examine(settings):
        findings.append(finding)
        if not quiet:
            print_finding(finding)
    return findings
