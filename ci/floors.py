#!/usr/bin/env python3
"""Refuses an import that goes up, or round: `python3 ci/floors.py`, or with a room's name, for the imports of that one.

The rooms of src/ stand on floors, lowest first, one floor a line. A room uses rooms of lower floors only. Inside a room,
the files do not use each other in a circle. A `mod.rs` that hands on what its files define (`pub use`) does not use them
by that: whoever imports such a name uses the file that defines it. Code for tests does not count.
"""
import functools, re, sys
from pathlib import Path

FLOORS = """
    base
    fork thread
    unwind
    stack locals frames
    record
    goexit suspension check
    coroutine tls
    driver
    task
    source dump inspect_socket
    runtime
    scope time wait blocking
    join_set exit sync io
    chan net signal
    inspect trace test
"""

SRC = Path(__file__).resolve().parents[1] / "src"
FLOOR = {room: floor for floor, line in enumerate(FLOORS.split("\n")) for room in line.split()}
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|b?r#*"(?:.|\n)*?"#*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', re.S)
blank = functools.partial(re.sub, r"[^\n]", " ")

def end_of_item(text, start):
    """Behind the item that begins at `start`: its semicolon, or the brace that closes it."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0 and text[at] in ";}":
            return at + 1
    return len(text)

def expand(tree):
    """The paths of a use tree."""
    head, brace, rest = tree.partition("{")
    if not brace:
        return [re.sub(r"\s+as\s+\w+|\s", "", tree)]
    parts = re.findall(r"(?:[^,{}]|\{(?:[^{}]|\{[^{}]*\})*\})+", rest.rsplit("}", 1)[0])
    return [re.sub(r"\s", "", head) + path for part in parts if part.strip() for path in expand(part)]

class File:
    def __init__(self, path):
        self.path, names = path, path.relative_to(SRC).with_suffix("").parts
        self.module = names[:-1] if names[-1] == "mod" else names
        self.imports, self.hands_on, self.test_files = [], {}, []
        text = NOT_CODE.sub(lambda m: blank(m[0]), path.read_text())
        for test in re.finditer(r"#\[cfg\([^\]]*\btest\b[^\]]*\]", text):
            item = text[test.start() : end_of_item(text, test.end())]
            self.test_files += re.findall(r"\bmod\s+(\w+)\s*;", item)
            text = text.replace(item, blank(item), 1)
        self.children = set(re.findall(r"\bmod\s+(\w+)\s*;", text)) | set(self.test_files)
        inline = [(m.start(), end_of_item(text, m.start())) for m in re.finditer(r"\bmod\s+\w+\s*\{", text)]
        for use in re.finditer(r"(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);", text):
            for name in expand(use[2]):
                target = self.absolute(name, sum(a < use.start() < b for a, b in inline))
                if target and use[1] and target[: len(self.module)] == self.module:
                    self.hands_on[target[-1]] = target
                elif target:
                    self.note(text, use.start(), target)
            text = text.replace(use[0], blank(use[0]), 1)
        for name, target in self.hands_on.items():
            if used := re.search(rf"(?<![\w.:])(?<!fn )(?<!mod ){name}\b", text):
                self.note(text, used.start(), target)
        for path in re.finditer(r"(?<![\w:$])(?:\w+::)+\w+", text):
            if target := self.absolute(path[0], sum(a < path.start() < b for a, b in inline)):
                self.note(text, path.start(), target)

    def absolute(self, path, depth):
        first, *rest = path.split("::")
        if first == "crate":
            return tuple(rest)
        if first in self.children and depth == 0:
            return self.module + (first, *rest)
        up = 0
        while first == "super" and rest:
            up, first, rest = up + 1, rest[0], rest[1:]
        return self.module[: len(self.module) - up + depth] + (first, *rest) if up > depth else None

    def note(self, text, at, target):
        self.imports.append((text.count("\n", 0, at) + 1, target))

def main(wanted=""):
    files = {file.module: file for file in map(File, sorted(SRC.rglob("*.rs"))) if file.module != ("lib",)}
    tests = {file.module + (name,) for file in files.values() for name in file.test_files}
    files = {m: f for m, f in files.items() if not any(m[: len(t)] == t for t in tests)}

    def defined_in(target):
        for length in range(len(target), 0, -1):
            if module := target[:length] in files and target[:length]:
                further = length < len(target) and files[module].hands_on.get(target[length])
                return defined_in(further) if further and further != target else module

    def reaches(start, end):
        seen, left = set(), [start]
        while left and end not in seen:
            seen.add(module := left.pop())
            left += [other for _, other in uses[module] if other[0] == end[0] and other not in seen]
        return end in seen

    uses = {m: [(line, to) for line, t in file.imports if (to := defined_in(t)) not in (None, m)] for m, file in files.items()}
    problems = [f"src/{room}: this room stands on no floor" for room in {m[0] for m in files} - FLOOR.keys()]
    for here in sorted(files):
        for line, there in uses[here] if wanted in ("", here[0]) else []:
            up = FLOOR.get(there[0], 0) - FLOOR.get(here[0], 0)
            what = f"{files[here].path.relative_to(SRC.parent)}:{line}: {'::'.join(here)} imports {'::'.join(there)}"
            if here[0] == there[0] and reaches(there, here):
                problems.append(f"{what}: round, within {here[0]}")
            elif here[0] != there[0] and up >= 0:
                problems.append(f"{what}: from {here[0]} {'up' if up else 'across'} to {there[0]}")
    print(*dict.fromkeys(problems), sep="\n", end="\n" * bool(problems))
    return bool(problems)

sys.exit(main(*sys.argv[1:]))
