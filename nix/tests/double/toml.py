"""Writes the JSON object of standard input as TOML (https://toml.io/en/v1.0.0): plain keys first, then tables."""

import json
import re
import sys


def key(name):
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def is_table_list(value):
    return isinstance(value, list) and value and all(isinstance(item, dict) for item in value)


def inline(value):
    match value:
        case dict():
            return "{ " + ", ".join(f"{key(name)} = {inline(item)}" for name, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(inline, value)) + "]"
        case _:
            return json.dumps(value)


def table(path, values):
    plain = {name: value for name, value in values.items() if not isinstance(value, dict) and not is_table_list(value)}
    for name, value in plain.items():
        yield f"{key(name)} = {inline(value)}"
    for name, value in values.items():
        inner = [*path, key(name)]
        if isinstance(value, dict):
            yield from ["", f"[{'.'.join(inner)}]", *table(inner, value)]
        elif name not in plain:
            for item in value:
                yield from ["", f"[[{'.'.join(inner)}]]", *table(inner, item)]


print("\n".join(table([], json.load(sys.stdin))).lstrip("\n"))
