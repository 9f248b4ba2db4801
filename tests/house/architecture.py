"""Draw the rooms of the code and their imports, read from the code.

A room is a package at most two folders below `app`, or a module that the layers contract in
pyproject.toml names. A room stands above all rooms that it imports. An arrow that follows from two
others is left out.
"""

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from math import fsum
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("app", "rest_shim")

CONTRACTS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LAYERS: Final = frozenset(
    name for layer in CONTRACTS[0]["layers"] for name in layer.replace("|", " ").split()
)

Rooms = Mapping[str, frozenset[str]]
Position = tuple[float, float]

CHARACTER, PADDING, HEIGHT, GAP, ROW, MARGIN = 7.4, 14, 30, 34, 88, 24


def modules() -> Iterator[tuple[Path, str]]:
    """Yield each module with its dotted name."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Name the room of a module, or of a name that is imported from one."""
    folder = Path()
    for part in module.split(".")[:3]:
        path = folder / part
        if not (ROOT / path / "__init__.py").is_file():
            if ".".join(path.parts) in LAYERS:
                folder = path
            break
        folder = path
    return folder.as_posix().removeprefix("app/")


def imported(path: Path) -> Iterator[str]:
    """Yield the project's modules and names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


@cache
def rooms() -> Rooms:
    """Read which rooms each room imports; a package file with a docstring alone is skipped."""
    imports: dict[str, set[str]] = {}
    for path, module in modules():
        if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1:
            targets = imports.setdefault(room_of(module), set())
            targets.update(room_of(name) for name in imported(path))
    return {
        room: frozenset((targets - {room}) & imports.keys()) for room, targets in imports.items()
    }


def reachable(graph: Rooms) -> Rooms:
    """Compute every room that a room imports, directly or not."""
    closure = {room: set(targets) for room, targets in graph.items()}
    for middle in graph:
        for targets in closure.values():
            if middle in targets:
                targets.update(closure[middle])
    return {room: frozenset(targets) for room, targets in closure.items()}


def levels(graph: Rooms) -> dict[str, int]:
    """Count the rooms of the longest way down from each room; a circle shares one level."""
    below = reachable(graph)
    level: dict[str, int] = {}
    for room in sorted(graph, key=lambda name: (len(below[name] | {name}), name)):
        strictly = [target for target in below[room] if room not in below[target]]
        level[room] = max((level[target] + 1 for target in strictly), default=0)
    return level


def arrows(graph: Rooms) -> list[tuple[str, str]]:
    """List the imports that do not follow from two others."""
    below = reachable(graph)

    def follows(room: str, target: str) -> bool:
        return any(
            target in below[middle] and room not in below[middle] and middle not in below[target]
            for middle in graph[room] - {target}
        )

    return sorted(
        (room, target)
        for room, targets in graph.items()
        for target in targets
        if not follows(room, target)
    )


def rows(graph: Rooms) -> list[list[str]]:
    """Order the rooms of each level by where their neighbours stand, top level first."""
    level = levels(graph)
    lines = [
        sorted(room for room in graph if level[room] == number)
        for number in range(max(level.values()), -1, -1)
    ]
    links = arrows(graph)
    for _ in range(4):
        for sweep in (lines, lines[::-1]):
            for line in sweep:
                middles = {room: middle_of(room, lines, links) for room in line}
                line.sort(key=lambda room: (middles[room], room))
    return lines


def middle_of(room: str, lines: Sequence[Sequence[str]], links: Iterable[tuple[str, str]]) -> float:
    """Average the places of a room's neighbours in their rows, from 0 to 1."""
    positions = {name: (at + 0.5) / len(line) for line in lines for at, name in enumerate(line)}
    near = [positions[b if a == room else a] for a, b in links if room in (a, b)]
    return round(fsum(near) / len(near), 6) if near else 0.5


def width_of(room: str) -> float:
    """Estimate the width of a room's box."""
    return round(len(room) * CHARACTER + 2 * PADDING, 1)


def draw() -> str:
    """Draw the picture."""
    graph = rooms()
    lines = rows(graph)
    width = round(max(fsum(map(width_of, line)) + GAP * (len(line) + 1) for line in lines))
    height = MARGIN * 2 + ROW * (len(lines) - 1) + HEIGHT
    corners: dict[str, Position] = {}
    for number, line in enumerate(lines):
        # Versions of Python round the results of `sum` differently.
        gap = (width - fsum(map(width_of, line))) / (len(line) + 1)
        left = gap
        for room in line:
            corners[room] = (round(left, 1), MARGIN + number * ROW)
            left += width_of(room) + gap
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        "<title>The rooms of the code; each imports only rooms below it</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(arrow(corners, room, target) for room, target in arrows(graph)),
        *(box(room, corners[room], graph[room]) for line in lines for room in line),
        "</svg>\n",
    ]
    return "\n".join(parts)


def arrow(corners: Mapping[str, Position], room: str, target: str) -> str:
    """Draw one import as a curve from the box of a room down to the box that it imports."""
    left, top = corners[room]
    end_left, end_top = corners[target]
    x, y = left + width_of(room) / 2, top + HEIGHT
    end_x, end_y = end_left + width_of(target) / 2, end_top
    bend = ROW / 2
    return (
        f'<path d="M{x:.1f} {y} C{x:.1f} {y + bend} {end_x:.1f} {end_y - bend} {end_x:.1f} {end_y}"'
        ' fill="none" stroke="#7c8ba1" marker-end="url(#tip)"/>'
    )


def box(room: str, corner: Position, targets: frozenset[str]) -> str:
    """Draw a room; its tooltip lists every room that it imports."""
    left, top = corner
    width = width_of(room)
    tooltip = f"{room} imports {', '.join(sorted(targets)) or 'no other room'}"
    return (
        f"<g><title>{escape(tooltip)}</title>"
        f'<rect x="{left}" y="{top}" width="{width}" height="{HEIGHT}" rx="6" '
        'fill="#f1f5f9" stroke="#475569"/>'
        f'<text x="{left + width / 2:.1f}" y="{top + 20}" text-anchor="middle" '
        f'fill="#0f172a">{escape(room)}</text></g>'
    )
