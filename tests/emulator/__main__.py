"""`python -m tests.emulator`: the emulator as a process; prints its address when it answers, and runs until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated

import typer

from tests.emulator.answers import Answers
from tests.emulator.latency import Distribution, Latency
from tests.emulator.server import Emulator


def main(
    model: Annotated[str, typer.Option(help="The model that it has.")] = "qwen2.5-coder:1.5b",
    slots: Annotated[int, typer.Option(min=1, help="Calls that compute at once.")] = 1,
    latency: Annotated[float, typer.Option(min=0.0, help="Seconds of every call.")] = 0.0,
    prompt_token: Annotated[float, typer.Option(min=0.0, help="Seconds more for a prompt token that is not in the slot's cache.")] = 0.0,
    answer_token: Annotated[float, typer.Option(min=0.0, help="Seconds more for an answer token.")] = 0.0,
    rewrite_latency: Annotated[float | None, typer.Option(min=0.0, help="Seconds of a rewrite, instead.")] = None,
    distribution: Annotated[Distribution, typer.Option(help="Of the factor on a call's time; its mean is 1.")] = "constant",
    sigma: Annotated[float, typer.Option(min=0.0, help="Spread of the lognormal distribution.")] = 0.5,
    load: Annotated[float, typer.Option(min=0.0, help="Seconds that loading the model takes.")] = 0.0,
    max_queue: Annotated[int, typer.Option(min=0, help="Calls that may wait for that.")] = 512,
    keep_alive: Annotated[float, typer.Option(help="Seconds for which an idle model stays loaded; negative: for ever.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Repeats answers, latencies and the choice of faulty calls.")] = 0,
    each_anew: Annotated[bool, typer.Option(help="Equal requests get different answers.")] = False,
    cached_counts: Annotated[bool, typer.Option(help="Answers tell how many prompt tokens the cache had.")] = False,
    drip: Annotated[float, typer.Option(min=0.0, help="Seconds between two pieces of an answer that drips.")] = 0.5,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
) -> None:
    """Emulate an Ollama server; `/emulator/...` switches faults and tells what happened."""
    usual = Latency(latency, prompt_token, answer_token, distribution, sigma)
    rewrites = usual if rewrite_latency is None else Latency(rewrite_latency, prompt_token, answer_token, distribution, sigma)
    emulator = Emulator(
        model=model,
        slots=slots,
        latency=usual,
        rewrites=rewrites,
        load_seconds=load,
        max_queue=max_queue,
        keep_alive=float("inf") if keep_alive < 0 else keep_alive,
        answer=Answers(seed, each_anew=each_anew),
        seed=seed,
        cached_counts=cached_counts,
        drip_seconds=drip,
        port=port,
    )
    asyncio.run(_run(emulator))


async def _run(emulator: Emulator) -> None:
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)
    async with emulator:
        sys.stdout.write(f"{emulator.host}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    typer.run(main)
