"""The emulator's own paths, for programs that run it as a process.

======================================= ================================================================================
`GET /emulator/statistics`              `tests.emulator.journal.Statistics` of the window
`DELETE /emulator/statistics`           begins a new window
`GET /emulator/calls?after=NUMBER`      the calls of the window after that one, a JSON line each (`tests.emulator.journal.Call`)
`GET /emulator/faults`                  what is on
`PUT /emulator/faults/FAULT`            switches it on; the body may have `share`, `kinds`, `times` (`tests.emulator.faults`)
`DELETE /emulator/faults[/FAULT]`       switches it, or all, off
======================================= ================================================================================
"""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
from aiohttp import web

from tests.emulator.connections import JSON, LINES, refused
from tests.emulator.faults import Faults
from tests.emulator.journal import Journal

#: Keys of sums are names of kinds and faults.
_OPTIONS = orjson.OPT_NON_STR_KEYS


def routes(faults: Faults, journal: Journal) -> list[web.RouteDef]:
    async def statistics(request: web.Request) -> web.Response:
        return _json(dataclasses.asdict(journal.statistics()))

    async def reset(request: web.Request) -> web.Response:
        journal.reset()
        return web.Response(status=204)

    async def calls(request: web.Request) -> web.Response:
        try:
            after = int(request.query.get("after", "0"))
        except ValueError:
            return refused(400, "after is the number of a call")
        lines = b"".join(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE) for call in journal.calls if call.number > after)
        return web.Response(body=lines, headers={"Content-Type": LINES})

    async def which(request: web.Request) -> web.Response:
        on = faults.on_now
        return _json({fault: {**dataclasses.asdict(switched), "kinds": sorted(switched.kinds)} for fault, switched in on.items()})

    async def on(request: web.Request) -> web.Response:
        try:
            body: dict[str, Any] = orjson.loads(await request.read() or b"{}")
            faults.on(request.match_info["fault"], **body)
        except (ValueError, TypeError) as error:
            return refused(400, str(error))
        return web.Response(status=204)

    async def off(request: web.Request) -> web.Response:
        try:
            faults.off(request.match_info.get("fault"))
        except ValueError as error:
            return refused(400, str(error))
        return web.Response(status=204)

    return [
        web.get("/emulator/statistics", statistics),
        web.delete("/emulator/statistics", reset),
        web.get("/emulator/calls", calls),
        web.get("/emulator/faults", which),
        web.put("/emulator/faults/{fault}", on),
        web.delete("/emulator/faults/{fault}", off),
        web.delete("/emulator/faults", off),
    ]


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value, option=_OPTIONS), headers={"Content-Type": JSON})
