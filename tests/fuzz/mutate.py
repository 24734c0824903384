"""Mutations that keep the structure of a format: from a random source and a well-formed input to a malformed one.

Changed bytes alone rarely pass a parser. Each mutation therefore parses the input, changes its parts and writes it
again; for most formats, one result in four has some of its bytes changed as well.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**19, -(2**31), 1e308, 1.5, -0.0, float("nan"), float("inf"),
    "", " ", "x", "0", "none", "\0", "\ud800", "e\u0301", "../outside", "/dev/zero", "~nosuchuser", "file:///etc", "((",
    "{{", "a" * 300, "someone/kernel", [], {}, [None], [[]], {"": None}, [0] * 50, {"a": {"a": {}}}, [-1, "x"],
)  # fmt: skip
WORDS = (
    b"",
    b"\0",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"1e999",
    b"nan",
    b"-1",
    b"[" * 3000,
)
NUMBERS = (0, 1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**64 - 1)


def raw(random: Random, content: bytes) -> bytes:
    """The input with bits flipped, or with bytes removed, repeated, inserted or overwritten by numbers."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(6)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + random.choice((1, 2, 8, 100))]
        elif kind == 3:
            changed[at:at] = random.choice(WORDS)
        elif kind == 4:
            changed[at:at] = changed[at : at + random.choice((1, 8, 100, 1000))]
        else:
            changed[at : at + 8] = struct.pack("<Q", random.choice(NUMBERS))
    return bytes(changed)


def json_text(random: Random, content: bytes) -> bytes:
    """A JSON document with one to three of its parts changed; rarely a key occurs twice or a number is enormous."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return raw(random, content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _change_part(random, value)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.04:
        text = text.replace("{", '{"twice": 1, "twice": 2, ', 1)
    if random.random() < 0.02:
        text = text.replace("1", "9" * 4301, 1)
    changed = text.encode("utf-8", "surrogatepass")
    return raw(random, changed) if random.random() < 0.1 else changed


def json_lines(random: Random, content: bytes) -> bytes:
    """Lines of JSON, some of which are changed, removed or inserted."""
    lines = content.split(b"\n")
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        kind = random.randrange(5)
        if kind < 3:
            lines[at] = json_text(random, lines[at])
        elif kind == 3:
            lines[at:at] = [random.choice((b"", lines[at], b"null", b"[]", b"\xff", b"3"))]
        else:
            del lines[at]
            lines = lines or [b""]
    changed = b"\n".join(lines)
    return raw(random, changed) if random.random() < 0.25 else changed


def text_lines(random: Random, content: bytes) -> bytes:
    """Lines of fields separated by spaces, with fields or lines changed, removed or inserted."""
    lines = content.split(b"\n")
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        fields = lines[at].split(b" ")
        field = random.randrange(len(fields))
        kind = random.randrange(4)
        if kind == 0:
            fields[field] = random.choice((*WORDS, b"999999999999 300", b"3 4000000000", b"1" * 4301))
            lines[at] = b" ".join(fields)
        elif kind == 1:
            lines[at:at] = [random.choice((b"", b"   ", lines[at], b"\t", b"2 2"))]
        elif kind == 2:
            del lines[at]
            lines = lines or [b""]
        else:
            del fields[field]
            lines[at] = b" ".join(fields)
    changed = b"\n".join(lines)
    return raw(random, changed) if random.random() < 0.25 else changed


def gzipped(inner: Mutation) -> Mutation:
    """A gzip file, changed before or after compression; in one case in 100, a file that decompresses to 256 MiB."""

    def mutation(random: Random, content: bytes) -> bytes:
        if random.random() < 0.01:
            return bomb()
        if random.random() < 0.5:
            return gzip.compress(inner(random, gzip.decompress(content)), 1)
        return raw(random, content)

    return mutation


@cache
def bomb() -> bytes:
    """256 MiB of zeros, compressed to less than a MiB; computed once, because that takes longer than reading it."""
    return gzip.compress(bytes(2**28), 1)


def safetensors(random: Random, content: bytes) -> bytes:
    """A safetensors file with a change in its header, its length field or its data."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    kind = random.randrange(4)
    if kind <= 1:
        named = json.loads(header)
        name = random.choice(sorted(named))
        if random.random() < 0.3:
            named[random.choice(("x", name + "_scale", "../x", ""))] = named.pop(name)
        elif isinstance(named[name], dict) and "dtype" in named[name] and random.random() < 0.5:
            named[name]["dtype"] = random.choice(
                ("F8_E4M3", "I8", "I32", "U32", "BOOL", "F64", "F16", "X", "I64", "C64")
            )
        else:
            named = _change_part(random, named)
        header = json.dumps(named).encode("utf-8", "surrogatepass")
    elif kind == 2:
        header = raw(random, header)
    else:
        data = raw(random, data)
    length = random.choice(NUMBERS) if random.random() < 0.1 else len(header)
    return struct.pack("<Q", length) + header + data


def npz(random: Random, content: bytes) -> bytes:
    """An .npz archive with a member renamed, removed, repeated, or changed in its header or data."""
    if random.random() < 0.25:
        return raw(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = random.randrange(len(members))
    name, array = members[at]
    kind = random.randrange(6)
    if kind == 0:
        members[at] = (random.choice((name + "x", name[:-4], "../x.npy", " ", name.upper())), array)
    elif kind == 1:
        del members[at]
    elif kind == 2:
        members.append((name, array))
    elif kind == 3:
        members[at] = (name, raw(random, array))
    elif kind == 4:
        shape = random.choice((b"(-1,)", b"(10**9,)", b"(1000000000000,)", b"()", b"(2, 2)", b"(0,)", b"((", b"None"))
        start, end = array.index(b"'shape': ") + 9, array.index(b"}")
        head = array[:start] + shape + b", }"
        members[at] = (name, head.ljust(end + 1) + array[end + 1 :])
    else:
        members[at] = (name, array.replace(b"<i8", random.choice((b"|O8", b"<f8", b"<i4", b"<U9", b"<c8")), 1))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        for name, array in members:
            archive.writestr(name, array)
    return changed.getvalue()


def gguf(random: Random, content: bytes) -> bytes:
    """A GGUF file with numbers in its header replaced, or with its bytes changed."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(min(len(changed), random.choice((32, 600, 20_000))))
        width, form = random.choice(((4, "<I"), (8, "<Q")))
        changed[at : at + width] = struct.pack(form, random.choice(NUMBERS) % 2 ** (8 * width))
    return raw(random, bytes(changed)) if random.random() < 0.25 else bytes(changed)


TEMPLATE_PARTS = (
    b"{{ raise_exception('no') }}",
    b"{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    b"{{ 'a' * 6000000000 }}", b"{{ messages[9].content }}", b"{{ nothing.here }}", b"{{ 1 / 0 }}", b"{% if %}", b"{{",
    b"{% include 'x' %}", b"{{ messages | tojson }}", b"{{ ''.__class__.__mro__ }}",
    b"{{ messages[0]['content'] | upper }}",
    b"{% set x = [] %}{% for i in range(9999) %}{{ x.append(x) }}{% endfor %}{{ x }}", b"{{ bos_token }}", b"\xff",
    b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", b"{{ messages[0].content }}", b"{{ 9 ** 9 ** 9 }}",
    b"{{ cycler }}",
    b"{{ strftime_now('%Y') }}", b"{{ lipsum(999999) }}", b"{{ '%999999999d' % 1 }}",
    b"{{ '{:>9999999999}'.format(1) }}",
)  # fmt: skip


def template(random: Random, content: bytes) -> bytes:
    """A chat template with an inserted part that fails, loops, uses much memory, or tries to leave the sandbox."""
    at = random.choice([0, len(content), *(i for i, c in enumerate(content) if c in b"{}")])
    changed = content[:at] + random.choice(TEMPLATE_PARTS) + content[at:]
    return raw(random, changed) if random.random() < 0.25 else changed


def sealed(inner: Mutation) -> Mutation:
    """A record of the store with a changed body and the right digest of that body, or with changed bytes."""

    def mutation(random: Random, content: bytes) -> bytes:
        import hashlib

        if random.random() < 0.3:
            return raw(random, content)
        body = inner(random, content[content.index(b'"body":') + 7 : -2])
        return b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'","body":' + body + b"}\n"

    return mutation


def _change_part(random: Random, value: Any) -> Any:
    """The JSON value with one part, chosen by a random walk from the root, replaced, renamed, removed or repeated."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.05:
        return random.choice(ODD)
    if isinstance(value, dict):
        name = random.choice(list(value))
        kind = random.randrange(10)
        changed = dict(value)
        if kind < 7:
            changed[name] = _change_part(random, value[name])
        elif kind == 7:
            del changed[name]
        elif kind == 8:
            changed[random.choice(("", "x", name.upper(), name + "s"))] = changed.pop(name)
        else:
            changed[name] = value[random.choice(list(value))]
        return changed
    at = random.randrange(len(value))
    kind = random.randrange(10)
    items = list(value)
    if kind < 7:
        items[at] = _change_part(random, items[at])
    elif kind == 7:
        del items[at]
    elif kind == 8:
        items[at:at] = [items[at]] * random.choice((1, 2, 100))
    else:
        items[at] = random.choice(items)
    return items
