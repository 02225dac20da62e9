"""A first look at untrusted protobuf bytes, before a parser allocates anything for them.

A field of two bytes can become a message of a hundred, so the number of fields is bounded here;
what merely stores numbers (weights) takes no more memory than the file has bytes.
"""

from __future__ import annotations

from aisec_eval.errors import ModelImportError, UnsafeArtifactError

MAX_FIELDS = 250_000
MAX_DEPTH = 16

# Messages to look into, by field number: onnx.proto's ModelProto, GraphProto, ...
_SCHEMA: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_AS_STORED = {4, 9, 10}  # of a tensor: float_data, raw_data, double_data


def scan(data: bytes, where: str) -> None:
    """Check that `data` is well-formed protobuf of bounded structure.

    Raises:
        ModelImportError: truncated or not protobuf.
        UnsafeArtifactError: so many or so deeply nested fields that parsing would take far more
            memory than the file.
    """
    broken = ModelImportError(
        f"{where}: not an ONNX file, or truncated ({len(data)} bytes); export it again"
    )
    if not data:
        raise broken
    fields = 0
    stack = [(0, len(data), "model", 0)]
    while stack:
        position, end, kind, level = stack.pop()
        inner = _SCHEMA[kind]
        while position < end:
            key, position = _varint(data, position, end, broken)
            number, wire = key >> 3, key & 7
            fields += 1
            if number == 0:
                raise broken
            if wire == 0:
                _, position = _varint(data, position, end, broken)
            elif wire == 1:
                position += 8
            elif wire == 5:
                position += 4
            elif wire == 2:
                size, position = _varint(data, position, end, broken)
                if size > end - position:
                    raise broken
                if number in inner and size:
                    stack.append((position, position + size, inner[number], level + 1))
                elif kind != "tensor":
                    fields += size // 16
                elif number not in _AS_STORED:
                    fields += size // 64
                position += size
            else:
                raise broken
            if position > end:
                raise broken
            if fields > MAX_FIELDS or level > MAX_DEPTH:
                raise UnsafeArtifactError(
                    f"{where}: more than {MAX_FIELDS} fields or {MAX_DEPTH} nested messages; "
                    "not loaded"
                )


def _varint(data: bytes, position: int, end: int, broken: Exception) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise broken
