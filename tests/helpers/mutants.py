"""Files changed at random where it hurts a parser: protobuf field by field, any bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

NUMBERS = (0, 1, 2, 3, 7, 99, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, 1 << 63)
NUMBERS += ((1 << 64) - 1, (1 << 64) - 7)
NAMES = (b"", b"Conv", b"Reshape", b"Concat", b"MaxPool", b"Gemm", b"Pad", b"Slice", b"Expand")
NAMES += (b"input", b"axis", b"pads", b"kernel_shape", b"strides", b"group", b"\xff\xfe")

Field = tuple[int, int, int | bytes]
"""Number, wire type, value."""


def mutated_protobuf(data: bytes, random: Random) -> bytes:
    """Change one to three fields somewhere inside; lengths stay right, but for one in ten."""
    for _ in range(random.randint(1, 3)):
        data = _change(data, random)
    return mutated_bytes(data, random) if random.random() < 0.1 else data


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """Cut, flip, repeat or overwrite a few bytes."""
    found = bytearray(data)
    at = random.randrange(len(found) + 1)
    kind = random.randrange(5)
    if kind == 0:
        del found[at:]
    elif kind == 1 and at < len(found):
        found[at] ^= 1 << random.randrange(8)
    elif kind == 2:
        found[at : at + 4] = random.randbytes(4)
    elif kind == 3:
        found[at:at] = found[at : at + random.randrange(1, 40)] * random.randrange(1, 30)
    else:
        del found[at : at + random.randrange(1, 20)]
    return bytes(found)


def _change(data: bytes, random: Random) -> bytes:
    fields = _fields(data)
    if not fields:
        return mutated_bytes(data, random) if data else b"\x08\x01"
    at = random.randrange(len(fields))
    number, wire, value = fields[at]
    if isinstance(value, bytes):
        inner = _fields(value)
        if inner and random.random() < 0.8:
            fields[at] = (number, wire, _change(value, random))
            return _written(fields)
    kind = random.randrange(8)
    if kind == 0:
        del fields[at]
    elif kind == 1:
        fields[at:at] = [fields[at]] * random.choice((1, 2, 50))
    elif kind == 2:
        other = random.randrange(len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    elif kind == 3:
        fields[at] = (random.randrange(1, 30), wire, value)
    elif isinstance(value, int):
        fields[at] = (number, wire, random.choice(NUMBERS))
    elif kind == 4:
        # A message inside itself.
        fields[at] = (number, wire, value + _written([(number, 2, value)]))
    elif kind == 5:
        # Packed numbers, or a number where a message was.
        packed = b"".join(_varint(random.choice(NUMBERS)) for _ in range(random.randrange(4)))
        fields[at] = (number, wire, packed)
    elif kind == 6:
        fields[at] = (number, wire, random.choice(NAMES))
    else:
        fields[at] = (number, wire, mutated_bytes(value, random))
    return _written(fields)


def _fields(data: bytes) -> list[Field]:
    """Return the fields of a message, none where it is not one."""
    found: list[Field] = []
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        number, wire = key >> 3, key & 7
        size = {0: 0, 1: 8, 5: 4}.get(wire)
        value: int | bytes
        if wire in (0, 2):
            value, at = _read(data, at)
            if wire == 2:
                size = value
        if number == 0 or size is None or at < 0 or size > len(data) - at:
            return []
        if wire:
            value = data[at : at + size]
            at += size
        found.append((number, wire, value))
    return found


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if not 0 <= at < len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, -1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _written(fields: list[Field]) -> bytes:
    out = bytearray()
    for number, wire, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
            continue
        # A number may have become bytes or the other way round: what is no fixed size has one.
        wire = wire if len(value) == {1: 8, 5: 4}.get(wire) else 2
        out += _varint(number << 3 | wire)
        out += (_varint(len(value)) if wire == 2 else b"") + value
    return bytes(out)
