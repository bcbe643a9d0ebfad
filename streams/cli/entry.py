"""From a command line to an exit code: which errors end a command how, and that none shows a traceback that is no defect."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from aiokafka.errors import KafkaError
from rich.markup import escape

from agents.errors import AgentError
from deploy.services.errors import ServiceError
from schemas.settings import SettingsError
from streams import exits
from streams.cli.console import stderr
from streams.cli.program import build_program
from streams.errors import StreamError

log = logging.getLogger(__name__)


def main() -> NoReturn:
    """Run the command line of this process, and end it with its exit code (`streams.exits`)."""
    # A client that cannot connect logs each try, and then raises what is told anyway. The worker sets up its own logs.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code."""
    try:
        code = build_program()(args=list(arguments), prog_name="palimpsest", standalone_mode=False)
        return code if isinstance(code, int) else exits.OK
    except typer.Exit as end:
        return end.exit_code
    except SettingsError as error:
        return _tell(str(error), exits.CONFIG)
    except StreamError as error:
        return _tell(str(error), error.exit_code)
    except (ServiceError, AgentError) as error:
        return _tell(str(error), exits.UNAVAILABLE)
    except KafkaError as error:
        return _tell(f"Kafka: {error}", exits.UNAVAILABLE)
    except SystemExit:
        # Typer's way of saying that whoever read the output has enough (`palimpsest memory history | head`).
        return exits.OK
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        return exits.INTERRUPTED
    except Exception as error:
        if (show := getattr(error, "show", None)) is not None and isinstance(code := getattr(error, "exit_code", None), int):
            show()  # a mistake in the command line; its text names the option and what is allowed
            return code
        log.exception("this is a defect of palimpsest; please report it")
        return exits.SOFTWARE


def _tell(text: str, code: int) -> int:
    for line in text.splitlines():
        stderr.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
    return code
