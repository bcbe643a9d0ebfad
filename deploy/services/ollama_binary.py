"""The Ollama program: the installed one, else one built by Go into the cache.

v0.11.4 is the last release that builds alone from its Go module (``research/llm_serving.md`` §1.10). Built without flags it has no
SIMD and is several times slower, so it is built for the very processor at hand, and kept by that processor's fingerprint: a home
directory may be carried to another machine, where such a program would die of an illegal instruction.
"""

import hashlib
import platform
import shutil
from pathlib import Path

from deploy.services.cache import cache_directory, locked
from deploy.services.errors import MissingTool
from deploy.services.progress import Progress, silent
from deploy.services.tool import require, run_tool

OLLAMA_VERSION = "0.11.4"
OLLAMA_MODULE = f"github.com/ollama/ollama@v{OLLAMA_VERSION}"
CPU_INFO = Path("/proc/cpuinfo")
STEP = "ollama"


def installed_ollama() -> Path | None:
    """Return the ``ollama`` on the PATH, if there is one."""
    found = shutil.which("ollama")
    return None if found is None else Path(found)


def can_have_ollama() -> bool:
    """Tell whether Ollama is installed or could be built here (Go and a C++ compiler are there)."""
    return installed_ollama() is not None or (shutil.which("go") is not None and shutil.which("g++") is not None)


async def ollama_program(cache: Path | None = None, progress: Progress = silent) -> Path:
    """Return a working Ollama program, building it first where needed (about 3 minutes on 2 cores, once).

    Parameters
    ----------
    cache
        Where to build to and look; the default cache if None.
    progress
        Whom to tell.

    Raises
    ------
    MissingTool
        Neither Ollama nor both Go and a C++ compiler are installed.
    ToolFailed
        The build failed.
    """
    installed = installed_ollama()
    if installed is not None:
        return installed
    fingerprint = processor_fingerprint()
    home = (cache or cache_directory()) / "ollama" / f"v{OLLAMA_VERSION}-{fingerprint}"
    program = home / "bin" / "ollama"
    if program.exists():
        return program
    if not can_have_ollama():
        raise MissingTool(
            "Building Ollama needs Go ('go') and a C++ compiler ('g++') on the PATH. Install both, or Ollama itself, or name a "
            "running Ollama in the settings, or use the embedded model."
        )
    async with locked(home.with_name(home.name + ".lock"), STEP, progress):
        if program.exists():
            return program
        what = f"building Ollama {OLLAMA_VERSION} with Go"
        progress(STEP, f"{what} (about 3 minutes on 2 cores, once)")
        flags = compiler_flags(fingerprint)
        building = home / "building"
        await run_tool(
            [
                require("go", "Building Ollama"),
                "install",
                f"-ldflags=-X=github.com/ollama/ollama/version.Version={OLLAMA_VERSION}",
                OLLAMA_MODULE,
            ],
            log=home / "build.log",
            what=what,
            advice="The log tells why; without network access to Go modules, install Ollama by hand.",
            environment={"GOBIN": str(building), "CGO_ENABLED": "1", "CGO_CFLAGS": flags, "CGO_CXXFLAGS": flags},
            step=STEP,
            progress=progress,
        )
        program.parent.mkdir(parents=True, exist_ok=True)
        (building / "ollama").rename(program)
        shutil.rmtree(building)
    return program


def processor_fingerprint(cpu_info: Path = CPU_INFO) -> str:
    """Return a short hash of the processor's kind and instruction sets.

    Examples
    --------
    >>> processor_fingerprint() == processor_fingerprint()
    True
    """
    kind = [platform.machine(), platform.processor()]
    kind += sorted(
        {line for line in _cpu_lines(cpu_info) if line.split("\t")[0].strip() in {"vendor_id", "cpu family", "model", "flags", "Features"}}
    )
    return hashlib.sha256("\n".join(kind).encode()).hexdigest()[:12]


def compiler_flags(fingerprint: str, cpu_info: Path = CPU_INFO) -> str:
    """Return the flags for C and C++ with which the build uses this processor's SIMD instructions.

    The macro keeps builds for different processors apart in Go's build cache, which knows ``-march=native`` only by its name.

    AMX is switched off where the processor has it: the sources that use it sit in a folder that ``go install`` does not compile,
    and with it on the program does not link (``undefined reference to ggml_backend_amx_buffer_type``).
    """
    flags = ["-O3", "-march=native", f"-DPALIMPSEST_CPU=0x{fingerprint}"]
    if any("amx_tile" in line.split() for line in _cpu_lines(cpu_info)):
        flags += ["-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16"]
    return " ".join(flags)


def _cpu_lines(cpu_info: Path) -> list[str]:
    return cpu_info.read_text().splitlines() if cpu_info.exists() else []
