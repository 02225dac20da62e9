"""Where each key of a TOML file stands, so that an error can name its line.

`tomllib` gives values without positions. This scanner walks text that `tomllib` has already
accepted, so it only has to find keys and skip over values, never to judge them.
"""

from __future__ import annotations

from bisect import bisect_right

Path = tuple[str | int, ...]

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def line_map(text: str) -> dict[Path, int]:
    """Return the 1-based line of every table, key and array item in valid TOML `text`.

    Paths are the ones `tomllib.loads` answers to: `("task", 0, "attacks", 1, "steps")`.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.newlines = [i for i, c in enumerate(text) if c == "\n"]
        self.tables: dict[Path, int] = {}
        """Index of the latest table of every array of tables."""

    def scan(self) -> dict[Path, int]:
        prefix: Path = ()
        while True:
            self.skip_blank()
            if self.at >= len(self.text):
                return self.lines
            if self.text.startswith("[[", self.at):
                self.at += 2
                *parents, last = self.keys()
                array = (*self.resolve(parents), last)
                self.tables[array] = self.tables.get(array, -1) + 1
                prefix = (*array, self.tables[array])
                self.record(array)
                self.record(prefix)
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                prefix = self.resolve(self.keys())
                self.record(prefix)
                self.at += 1
            else:
                self.pair(prefix)

    def record(self, path: Path) -> None:
        self.lines.setdefault(path, bisect_right(self.newlines, self.at - 1) + 1)

    def resolve(self, keys: list[str]) -> Path:
        """Return the path of a table header, entering the latest table of each array."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self.record(path)
            if path in self.tables:
                path = (*path, self.tables[path])
        return path

    def skip_blank(self) -> None:
        """Move over spaces, newlines and comments."""
        while self.at < len(self.text):
            c = self.text[self.at]
            if c == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif c in " \t\r\n":
                self.at += 1
            else:
                return

    def keys(self) -> list[str]:
        """Read a dotted key; stop at what follows it."""
        found = []
        while True:
            self.skip_blank()
            c = self.text[self.at]
            if c in "\"'":
                start = self.at
                self.string()
                found.append(_unquote(self.text[start : self.at]))
            else:
                start = self.at
                while self.text[self.at] in _BARE:
                    self.at += 1
                found.append(self.text[start : self.at])
            self.skip_blank()
            if self.text[self.at] != ".":
                return found
            self.at += 1

    def pair(self, prefix: Path) -> None:
        """Read `key = value`."""
        start = self.at
        path = prefix
        keys = self.keys()
        end, self.at = self.at, start
        for key in keys:
            path = (*path, key)
            self.record(path)
        self.at = end + 1  # the "="
        self.value(path)

    def value(self, path: Path) -> None:
        """Move over a value, recording what it contains."""
        self.skip_blank()
        c = self.text[self.at]
        if c in "\"'":
            self.string()
        elif c == "[":
            self.at += 1
            index = 0
            while not self.closes("]"):
                self.record((*path, index))
                self.value((*path, index))
                index += 1
        elif c == "{":
            self.at += 1
            while not self.closes("}"):
                self.pair(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\r\n":
                self.at += 1

    def closes(self, bracket: str) -> bool:
        """Move to the next item of an array or inline table; True past the closing bracket."""
        self.skip_blank()
        if self.text[self.at] == ",":
            self.at += 1
            self.skip_blank()
        if self.text[self.at] == bracket:
            self.at += 1
            return True
        return False

    def string(self) -> None:
        """Move over any of TOML's four kinds of string."""
        quote = self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            self.at += 3
            while not self.text.startswith(quote * 3, self.at):
                self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            self.at += 3
            while self.at < len(self.text) and self.text[self.at] == quote:
                self.at += 1  # up to two quotes may stand just before the closing three
            return
        self.at += 1
        while self.text[self.at] != quote:
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += 1


def _unquote(quoted: str) -> str:
    import tomllib

    return str(tomllib.loads(f"k = {quoted}")["k"])
