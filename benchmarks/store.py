"""Measured parts as JSON, one file each: benchmarks/results/DEVICE/BENCHMARK/CASE.json.

A part is one benchmark with one case (`PARTS` of its module, else the names in `CASES`), so what a
long part loses when it is cut off is that part alone. A file holds

    format      1
    benchmark   "sampling"
    case        "langevin d=2", or null: the benchmark as a whole
    complete    false while it runs, so a cut one is known by it
    date, commit, rounds, seconds
    load        [one-minute load average before, after]
    machine     {"processor", "cores", "memory_gib", "system", "python", "device"}
    versions    {"jax": "0.10.2", ...} of steepest's dependencies and the peers
    output      what the benchmark said, Markdown, table by table (or row by row)
    rows        of paired timings: {"table", "contender", "seconds", "ratio", "low", "high",
                "compile_seconds", "note", "remark"}; ratio to the first contender, round by round

Only `python -m benchmarks NAME --record` and `--all` write them; RESULTS.md is rendered from them.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from .harness import Table

PLACE = Path(__file__).parent / "results"
FORMAT = 1
PACKAGES = (
    "jax", "jaxlib", "numpy", "equinox", "diffrax", "optax", "optimistix", "blackjax", "diffusers",
    "fipy", "numpyro", "ott-jax", "py-pde", "scikit-learn", "torch", "torchsde",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Part:
    """One benchmark with one case; `case` None: all of it."""

    benchmark: str
    case: str | None = None

    @property
    def label(self) -> str:
        return self.benchmark if self.case is None else f"{self.benchmark}: {self.case}"

    def path(self, device: str) -> Path:
        return PLACE / slug(device) / self.benchmark / f"{slug(self.case or 'all')}.json"


def slug(text: str) -> str:
    """Letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Recorder:
    """Writes the file of a part anew with every text that comes."""

    def __init__(self, part: Part, device: str, rounds: int):
        self.path = part.path(device)
        self.began = datetime.datetime.now(datetime.UTC)
        self.found: dict[str, Any] = {
            "format": FORMAT,
            "benchmark": part.benchmark,
            "case": part.case,
            "complete": False,
            "date": self.began.isoformat(timespec="minutes"),
            "commit": _commit(),
            "rounds": rounds,
            "seconds": 0.0,
            "load": [os.getloadavg()[0]] * 2,
            "machine": machine(device),
            "versions": versions(),
            "output": [],
            "rows": [],
        }

    def add(self, text: Any) -> None:
        self.found["output"].append(str(text))
        if isinstance(text, Table):
            for row in text.rows:
                self.found["rows"].append({"table": text.title, **_plain(row)})
        self.write()

    def close(self) -> None:
        self.found["complete"] = True
        self.write()

    def write(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.found["seconds"] = round((now - self.began).total_seconds(), 1)
        self.found["load"][1] = os.getloadavg()[0]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".partial")
        fresh.write_text(json.dumps(self.found, indent=1, allow_nan=False) + "\n")
        fresh.replace(self.path)


def _plain(row: Any) -> dict[str, Any]:
    """A row as JSON has it: no NaN, the contender under its own name."""
    found = dataclasses.asdict(row)
    found["contender"] = found.pop("name")
    bad = [k for k, v in found.items() if isinstance(v, float) and not math.isfinite(v)]
    return found | dict.fromkeys(bad)


def read(path: Path) -> dict[str, Any]:
    """The record in a file; raises ValueError for another format."""
    found = json.loads(path.read_text())
    if found.get("format") != FORMAT:
        raise ValueError(f"{path}: format {found.get('format')}, not {FORMAT}")
    return found


def records(device: str) -> list[dict[str, Any]]:
    """All that was measured on a device, by file name."""
    return [read(path) for path in sorted((PLACE / slug(device)).glob("*/*.json"))]


def devices() -> list[str]:
    """The devices that something was measured on."""
    if not PLACE.exists():
        return []
    return sorted(path.name for path in PLACE.iterdir() if path.is_dir())


def machine(device: str) -> dict[str, Any]:
    """The computer, as far as a reader needs it to read a ratio."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "device": device,
    }


def _processor() -> str:
    """The model's name, and the widest vectors it has."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*:\s*(.*)", text)
    wide = next((w for w in ("avx512f", "avx2", "asimd") if w in text), "")
    return f"{name.group(1) if name else platform.machine()} {wide}".strip()


def versions() -> dict[str, str]:
    """Of what is installed among the dependencies and the peers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The short hash, marked where files differ from it; empty outside a repository."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()
