"""The data of `steepest generate`: arrays, labels, and the truth where it is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..problems.csv_text import MAX_BYTES, NUMBER, TableError, read_text, short
from ..store import read_arrays

MOST_BYTES = 512 * 2**20


@dataclasses.dataclass(frozen=True)
class Points:
    """`train` and `held_out`: (n, ...); labels beside them, or None; `names` of the classes."""

    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None
    held_out_labels: np.ndarray | None
    classes: tuple[str, ...]
    truth: Any
    quantum: float
    notes: tuple[str, ...]


def read(table: Any, folder: Path, share: float, seed: int) -> Points:
    """Reads or makes the data, shuffles them by the seed and holds a share out."""
    import jax

    truth, labels, classes, quantum = None, None, (), 0.0
    if table.kind in ("two-moons", "checkerboard"):
        from ..diffusion import toys

        exact = toys.two_moons(table.noise) if table.kind == "two-moons" else toys.Checkerboard()
        truth = exact
        x = np.asarray(toys.draw(exact, jax.random.key(seed), table.count), np.float32)
        notes = [f"{table.count} points, whose law and score are known exactly"]
    else:
        x, labels, classes = LOADERS[table.kind](table, folder)
        quantum = table.quantum / table.divide
        x = (x / table.divide).astype(np.float32)
        notes = [f"{len(x)} points of shape {x.shape[1:]} from {source(table)}"]
        if quantum:
            notes.append(f"values spaced by {table.quantum:g} are filled by uniform noise")
    order = np.random.default_rng(seed).permutation(len(x))
    held = round(share * len(x))
    if held < 20 or len(x) - held < 20:
        raise ArgumentError("train.held_out", share, f"of {len(x)} points both parts need 20")
    out, keep = order[:held], order[held:]
    pick = lambda rows: None if labels is None else labels[rows]  # noqa: E731
    notes.append(f"{held} points held out")
    return Points(x[keep], x[out], pick(keep), pick(out), classes, truth, quantum, tuple(notes))


def source(table: Any) -> str | None:
    """The file or folder that the points come from, as the spec names it."""
    return getattr(table, "data", None) or getattr(table, "folder", None)


def _csv(table: Any, folder: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    path = folder / table.data
    header, rows, lines = read_text(path, ",", MAX_BYTES)
    for key, names in (("label", [table.label] if table.label else []), ("drop", table.drop)):
        for name in names:
            if name not in header:
                raise TableError(f"{path.name}: {key} names the column {name!r}, which it lacks")
    used = [i for i, name in enumerate(header) if name != table.label and name not in table.drop]
    if not used:
        raise TableError(f"{path.name}: no column is left")
    values = np.empty((len(rows), len(used)))
    for k, row in enumerate(rows):
        for j, i in enumerate(used):
            text = row[i].strip()
            if not NUMBER.fullmatch(text) or not np.isfinite(float(text)):
                raise TableError(
                    f"{path.name}, line {lines[k]}, column {header[i]!r}: {short(text)} is not a "
                    f"finite number; drop = [{header[i]!r}] leaves the column out"
                )
            values[k, j] = float(text)
    if not table.quantum:
        for j, i in enumerate(used):
            if not np.ptp(values[:, j]) > 0:
                raise TableError(
                    f"{path.name}, column {header[i]!r}: constant at {values[0, j]:g}, so it has "
                    f"no density; drop = [{header[i]!r}], or give quantum for images"
                )
    if table.shape is not None:
        if not table.shape or min(table.shape) < 1 or np.prod(table.shape) != len(used):
            raise ArgumentError("data.shape", table.shape, f"sizes whose product is {len(used)}")
        values = values.reshape(len(rows), *table.shape)
    if table.label is None:
        return values, None, ()
    found = [row[header.index(table.label)].strip() for row in rows]
    levels = sorted(set(found), key=lambda t: (not NUMBER.fullmatch(t), float(t) if
                    NUMBER.fullmatch(t) else 0.0, t))  # fmt: skip
    if len(levels) > 1000:
        raise TableError(
            f"{path.name}, column {table.label!r}: {len(levels)} classes, at most 1000"
        )
    code = {level: i for i, level in enumerate(levels)}
    return values, np.asarray([code[t] for t in found]), tuple(levels)


def _npz(table: Any, folder: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    path = folder / table.data
    try:
        arrays = read_arrays(path, MOST_BYTES)
    except OSError as error:
        raise ArgumentError("data.data", table.data, str(error.strerror or error)) from None
    except Exception as error:
        raise ArgumentError(
            "data.data", table.data, f"not an .npz of plain arrays ({error})"
        ) from None
    wanted = [table.array] + ([table.label] if table.label else [])
    for name in wanted:
        if name not in arrays:
            raise ArgumentError("data.array", repr(name), f"one of {', '.join(sorted(arrays))}")
    x = arrays[table.array]
    if x.ndim < 2 or not np.issubdtype(x.dtype, np.number):
        raise ArgumentError("data.array", f"{x.dtype}{x.shape}", "numbers (n, ...)")
    if np.issubdtype(x.dtype, np.integer) and not table.quantum:
        remedy = "integers have no density: say quantum = 1, and divide = their largest value"
        raise ArgumentError("data.quantum", 0, remedy)
    x = x.astype(float)
    if not np.isfinite(x).all():
        raise ArgumentError("data.array", "NaN or infinite values", "finite numbers")
    if table.label is None:
        return x, None, ()
    labels = arrays[table.label]
    if labels.shape != (len(x),) or not np.issubdtype(labels.dtype, np.integer):
        raise ArgumentError("data.label", f"{labels.dtype}{labels.shape}", f"({len(x)},) integers")
    levels, coded = np.unique(labels, return_inverse=True)
    return x, coded, tuple(str(v) for v in levels)


def _images(table: Any, folder: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    place = folder / table.folder
    if not place.is_dir():
        raise ArgumentError("data.folder", repr(table.folder), "a folder of .png files")
    names = [sub.name for sub in sorted(place.iterdir()) if sub.is_dir()] if table.classes else []
    if table.classes and not names:
        raise ArgumentError("data.classes", True, f"{table.folder} has no subfolders")
    found: list[tuple[np.ndarray, Path, int]] = []
    size = 0
    for code, part in enumerate([place / name for name in names] or [place]):
        for path in sorted(p for p in part.iterdir() if p.suffix.lower() == ".png"):
            image = _image(path)
            if found and image.shape != found[0][0].shape:
                first = f"{found[0][1].name} is {found[0][0].shape}"
                raise ArgumentError(
                    "data.folder", f"{path.name} of size {image.shape}", f"one size; {first}"
                )
            size += image.nbytes
            if size > MOST_BYTES:
                raise ArgumentError("data.folder", "images", f"at most {MOST_BYTES // 2**20} MiB")
            found.append((image, path, code))
    if not found:
        raise ArgumentError("data.folder", repr(table.folder), "it holds no .png files")
    x = np.stack([image for image, _, _ in found]).astype(float)
    if not names:
        return x, None, ()
    return x, np.asarray([code for _, _, code in found]), tuple(names)


def _image(path: Path) -> np.ndarray:
    """(height, width) or (height, width, channels) of 0 to 255."""
    from matplotlib import image as files

    try:
        read = np.asarray(files.imread(path, format="png"), float)
    except Exception as error:  # the reader has no one error for what is no image
        raise ArgumentError("data.folder", path.name, f"not a PNG image ({error})") from None
    values = np.rint(255.0 * read)
    if np.abs(255.0 * read - values).max() > 1e-3:
        raise ArgumentError("data.folder", path.name, "8 bits a channel; it has more")
    if values.ndim == 3 and values.shape[-1] == 4:
        if (values[..., 3] != 255).any():
            raise ArgumentError("data.folder", path.name, "no transparent pixels: flatten it")
        values = values[..., :3]
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    return values.astype(np.uint8)


LOADERS = {"csv": _csv, "npz": _npz, "images": _images}
