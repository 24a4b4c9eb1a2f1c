"""What the command line sets in its own process, before JAX starts; the library never does.

Everything is a default: a variable that the user has set stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path


def prepare() -> None:
    """Compiled programs are kept between runs; vectors are as wide as the processor's.

    Linear algebra outside XLA is of small matrices, and takes one thread: where the cores are busy,
    threads that wait for each other make it tens of times slower.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cache = _cache_folder()
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_prefer_vector_width" not in flags and _has_avx512():
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_prefer_vector_width=512".strip()


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
