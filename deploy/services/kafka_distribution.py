"""Apache Kafka's jars, fetched by Maven and checked against pinned checksums.

The versions stand in ``kafka-pom.xml``; ``kafka-jars.sha256`` lists every jar that Maven resolves from it. To renew the list after a
change of the pom: run ``mvn -B -f kafka-pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=DIR``, then
``sha256sum *.jar`` in DIR.
"""

import asyncio
import shutil
from importlib import resources
from pathlib import Path

from deploy.services.cache import cache_directory, locked, sha256
from deploy.services.errors import ChecksumMismatch
from deploy.services.progress import Progress, silent
from deploy.services.tool import require, run_tool

KAFKA_VERSION = "4.1.0"
POM = resources.files("deploy.services") / "kafka-pom.xml"
CHECKSUMS = resources.files("deploy.services") / "kafka-jars.sha256"
STEP = "kafka"


async def kafka_jars(cache: Path | None = None, progress: Progress = silent) -> Path:
    """Return the directory with Kafka's jars, fetching them first where needed (54 MB, once).

    Parameters
    ----------
    cache
        Where to keep them; the default cache if None.
    progress
        Whom to tell.

    Raises
    ------
    MissingTool
        Java or Maven is not installed.
    ToolFailed
        Maven could not fetch the jars.
    ChecksumMismatch
        What it fetched is not what was pinned.
    """
    home = (cache or cache_directory()) / "kafka"
    jars = home / KAFKA_VERSION
    require("java", "Running Kafka")
    if jars.exists():
        return jars
    maven = require("mvn", "Fetching Kafka")
    async with locked(home / f"{KAFKA_VERSION}.lock", STEP, progress):
        if jars.exists():
            return jars
        what = f"fetching Kafka {KAFKA_VERSION} with Maven"
        progress(STEP, what)
        fetched = home / f"{KAFKA_VERSION}.fetching"
        shutil.rmtree(fetched, ignore_errors=True)
        fetched.mkdir(parents=True)
        pom = home / "pom.xml"
        pom.write_bytes(POM.read_bytes())
        await run_tool(
            [
                maven,
                "-q",
                "-B",
                "-f",
                str(pom),
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={fetched}",
            ],
            log=home / "fetch.log",
            what=what,
            advice="The log tells why; without network access to Maven's repository, name a running Kafka in the settings.",
            step=STEP,
            progress=progress,
        )
        await asyncio.to_thread(verify_jars, fetched, pinned_checksums())
        fetched.rename(jars)
    return jars


def pinned_checksums() -> dict[str, str]:
    """Return the SHA-256 of every jar by its file name."""
    pairs = (line.split() for line in CHECKSUMS.read_text().splitlines())
    return {name: checksum for checksum, name in pairs}


def verify_jars(directory: Path, expected: dict[str, str]) -> None:
    """Check that a directory holds exactly the expected files.

    Raises
    ------
    ChecksumMismatch
        A jar is missing, unexpected or different.
    """
    found = {path.name: sha256(path) for path in sorted(directory.iterdir())}
    if found == expected:
        return
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    shown = ", ".join(f"{name} ({_difference(found.get(name), expected.get(name))})" for name in wrong[:5])
    raise ChecksumMismatch(
        f"{len(wrong)} of Kafka's jars are not what {CHECKSUMS} pins: {shown}. They are in {directory} and were not used. "
        "A damaged download is the usual cause: delete these jars from Maven's local repository and try again. "
        "If it stays, the mirror that Maven uses serves other files."
    )


def _difference(found: str | None, expected: str | None) -> str:
    if found is None:
        return "missing"
    if expected is None:
        return "not expected"
    return f"SHA-256 {found[:12]}…, pinned {expected[:12]}…"
