"""What the command line sets in its own process, before JAX starts; the library never does.

Everything is a default: a variable that the user has set stays as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import ArgumentError


def prepare(devices: int = 1) -> None:
    """Compiled programs are kept between runs; vectors are as wide as the processor's.

    `devices`: into how many the processor is divided; threads that wait for one another then need
    others to run on. Linear algebra outside XLA is of small matrices, and takes one thread: where
    the cores are busy, threads that wait for each other make it tens of times slower.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cache = _cache_folder()
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > 1 and "xla_force_host_platform_device_count" not in flags:
        flags = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
        os.environ["XLA_FLAGS"] = flags
        os.environ.setdefault("NPROC", "32")
    if "xla_cpu_prefer_vector_width" not in flags and _has_avx512():
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_prefer_vector_width=512".strip()


def connect(processes: str) -> None:
    """Join the other processes of a run: "auto", as the cluster says, or "HOST:PORT,I,N".

    Raises ArgumentError.
    """
    import jax

    options = {}
    if processes != "auto":
        found = re.fullmatch(r"([\w.-]+:\d+),(\d+),(\d+)", processes)
        if found is None or int(found[2]) >= int(found[3]):
            remedy = "auto, or HOST:PORT,I,N: the first process's address, and 0 <= I < N"
            raise ArgumentError("--distributed", repr(processes), remedy)
        options = dict(
            coordinator_address=found[1], process_id=int(found[2]), num_processes=int(found[3])
        )
    try:
        jax.distributed.initialize(**options)  # pyright: ignore[reportArgumentType]
    except (RuntimeError, ValueError) as error:
        remedy = str(error).strip()
        if processes == "auto" and "should be defined" in remedy:
            remedy = "no cluster that JAX knows (SLURM, Kubernetes) is here: give HOST:PORT,I,N"
        raise ArgumentError("--distributed", repr(processes), remedy) from None


def mesh(count: int | None) -> Any:
    """All devices of all processes in a line, or the first `count`; None where there is but one.

    Raises ArgumentError.
    """
    import jax

    found = jax.devices()
    wanted = len(found) if count is None or jax.process_count() > 1 else count
    if wanted > len(found):
        raise ArgumentError("--devices", count, f"there are {len(found)}")
    if wanted == 1 or (count is None and jax.process_count() == 1):
        return None
    return jax.make_mesh((wanted,), ("particles",), devices=found[:wanted])


def _cache_folder() -> Path | None:
    """Where compiled programs are kept; None where nothing can be written."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = home / "steepest" / "xla"
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return cache if os.access(cache, os.W_OK) else None


def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
