"""The spans of an OTLP body, found by one walk over its bytes in compiled code. Nothing is copied: for each known
attribute of each span that is about messaging it notes where in the body the value lies.

A row is a span, or a link of a span that names a message of its own. Its first numbers are those of `HEAD`, behind
them one cell (`tracker.ingest.cells`) for each slot of a `names.Table`: where the value begins (31 bits), how many
bytes it has (24; a longer one is cut, no field may be so long), what it is (4), how new the attribute's name is (4).
Field numbers are those of opentelemetry/proto/trace/v1/trace.proto (1.x); the wire format is described at
https://protobuf.dev/programming-guides/encoding.

All of it is one file, because numba keeps compiled code by the hash of the file that it comes from: code of another
file that it calls could change without its noticing. Numbers are int64 throughout: mixed with unsigned ones they would
become floats. Every function takes the body, a place in it and the end that it must not pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracker.ingest.cells import LONGEST
from tracker.ingest.compiled import compiled, part

ABSENT, TEXT, BOOL, INT, NESTED, OTHER = range(6)
"""What a value is; a cell holds a TEXT, a BOOL or an INT, or is 0. Of an array (NESTED) the first value counts; of
OTHER kinds, which say nothing that an event could hold, none."""

START, END, TRACE, SPAN, KIND, FAILED, OF = range(7)
"""Times as in the body (ns), places of the ids (-1: none of the right length), the kind, 1 for status error, the row of
the span that a link belongs to (-1: is a span)."""
HEAD = 7

OK, DAMAGED, FULL = range(3)
RELATED, NAMED = 1, 2
"""Marks of a name: the span is about messaging; it names the message."""

FIRST, SIZE, SLOT, RANK, MARKS = range(5)
"""A name in the hash table: its letters, its slot, how new it is, what it tells. FIRST is -1 where there is none."""

GROUPS = 64
"""How deep groups may nest. OTLP has none; a reader must be able to skip those of a later version."""
DAMAGE = -1


@part
def varint(buf, pos, end):
    """(value, place after it), the place DAMAGE where it does not end. Bits beyond 64 are cut off, as protobuf's own
    readers do."""
    value = np.int64(0)
    for shift in range(0, 70, 7):
        if pos >= end:
            return np.int64(0), DAMAGE
        byte = np.int64(buf[pos])
        pos += 1
        if shift < 64:
            value |= (byte & 0x7F) << np.int64(shift)
        if byte < 0x80:
            return value, pos
    return np.int64(0), DAMAGE


@part
def field(buf, pos, end):
    """(tag, first place of the value, place after it): the tag is field number * 8 + wire type, or DAMAGE. Of a value
    with a length the first place is behind that. A group is passed over as a whole."""
    key = np.int64(buf[pos])
    pos += 1
    if key >= 0x80:
        key, pos = varint(buf, pos - 1, end)
        if pos < 0 or key > 0xFFFFFFFF:
            return DAMAGE, 0, 0
    if key < 8:
        return DAMAGE, 0, 0
    wire = key & 7
    if wire == 2:
        if pos >= end:
            return DAMAGE, 0, 0
        length = np.int64(buf[pos])
        pos += 1
        if length >= 0x80:
            length, pos = varint(buf, pos - 1, end)
        if pos < 0 or length < 0 or length > end - pos:
            return DAMAGE, 0, 0
        return key, pos, pos + length
    if wire == 0:
        _, after = varint(buf, pos, end)
    elif wire == 1:
        after = pos + 8
    elif wire == 5:
        after = pos + 4
    elif wire == 3:
        after = skip_group(buf, pos, end, key >> 3)
    else:
        after = DAMAGE
    if after < 0 or after > end:
        return DAMAGE, 0, 0
    return key, pos, after


@part
def skip_group(buf, pos, end, number):
    """The place after the end of the group `number`, whose beginning was read already."""
    inside = np.empty(GROUPS, np.int64)
    inside[0] = number
    depth = 1
    while depth > 0:
        key, pos = varint(buf, pos, end)
        if pos < 0 or key < 0 or key > 0xFFFFFFFF:
            return DAMAGE
        wire = key & 7
        if wire == 3:
            if depth == GROUPS:
                return DAMAGE
            inside[depth] = key >> 3
            depth += 1
        elif wire == 4:
            depth -= 1
            if inside[depth] != key >> 3:
                return DAMAGE
        elif wire == 0 or wire == 2:
            length, pos = varint(buf, pos, end)
            if pos < 0 or (wire == 2 and (length < 0 or length > end - pos)):
                return DAMAGE
            pos += length if wire == 2 else 0
        elif (wire == 1 and end - pos >= 8) or (wire == 5 and end - pos >= 4):
            pos += 8 if wire == 1 else 4
        else:
            return DAMAGE
    return pos


@part
def fixed64(buf, pos):
    """Eight bytes, little endian, as a signed number. The caller knows that they are there."""
    value = np.int64(0)
    for i in range(8):
        value |= np.int64(buf[pos + i]) << np.int64(8 * i)
    return value


def place_of(letters: Any, first: Any, size: Any, mask: Any) -> Any:
    """Where in the hash table a name belongs. Reads a few letters of it: the known names differ there."""
    value = size
    if size > 0:
        value = value * 31 + np.int64(letters[first + size // 3])
        value = value * 31 + np.int64(letters[first + size // 2])
        value = value * 31 + np.int64(letters[first + max(size - 3, 0)])
        value = value * 31 + np.int64(letters[first + size - 1])
    return (value ^ (value >> 9)) & mask


place = part(place_of)


@part
def look_up(table, letters, buf, first, size):
    """The line of a name in the hash table, -1 for one that nobody asked for."""
    mask = len(table) - 1
    at = place(buf, first, size, mask)
    while table[at, FIRST] >= 0:
        if table[at, SIZE] == size:
            begin = table[at, FIRST]
            i = 0
            while i < size and letters[begin + i] == buf[first + i]:
                i += 1
            if i == size:
                return at
        at = (at + 1) & mask
    return -1


@part
def one_value(buf, pos, end):
    """(kind, first place, place after) of an AnyValue; kind -1 for damage. Arrays are NESTED."""
    kind, first, last = ABSENT, pos, pos
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag < 0:
            return -1, 0, 0
        found = ABSENT
        if tag == 10:
            found = TEXT
        elif tag == 24:
            found = INT
        elif tag == 16:
            found = BOOL
        elif tag == 42:
            found = NESTED
        elif tag == 33 or tag == 50 or tag == 58:
            found = OTHER
        if found != ABSENT:
            kind, first, last = found, begin, pos
    return kind, first, last


@part
def any_value(buf, pos, end):
    """As `one_value`, and of an array its first value."""
    kind, first, last = one_value(buf, pos, end)
    at = first
    while kind == NESTED and at < last:
        tag, begin, at = field(buf, at, last)
        if tag < 0:
            return -1, 0, 0
        if tag == 10:
            return one_value(buf, begin, at)
    return kind, first, last


@part
def attribute(table, letters, buf, pos, end, out, row):
    """Notes a KeyValue in its cell. The marks of its name, 0 for one that nobody asked for, -1 for damage."""
    key, key_end, value, value_end = 0, 0, 0, 0
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag == 10:
            key, key_end = begin, pos
        elif tag == 18:
            value, value_end = begin, pos
        elif tag < 0:
            return -1
    at = look_up(table, letters, buf, key, key_end - key)
    if at < 0:
        return 0
    kind, first, last = any_value(buf, value, value_end)
    if kind < 0:
        return -1
    if kind == ABSENT or kind >= NESTED:
        return table[at, MARKS]
    slot, rank = HEAD + table[at, SLOT], table[at, RANK]
    old = out[row, slot]
    if old == 0 or (old >> 59) & 15 <= rank:
        out[row, slot] = first | (min(last - first, LONGEST) << 31) | (kind << 55) | (rank << 59)
    return table[at, MARKS]


@part
def attributes(table, letters, buf, pos, end, wanted, out, row):
    """Every KeyValue of a message, whose tag is `wanted`. All their marks, or -1."""
    marks = 0
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag == wanted:
            found = attribute(table, letters, buf, begin, pos, out, row)
            if found < 0:
                return -1
            marks |= found
        elif tag < 0:
            return -1
    return marks


@part
def failed(buf, pos, end):
    """1 for a Status whose code is ERROR (2), 0 for another, -1 for damage."""
    found = 0
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag == 24:
            code, _ = varint(buf, begin, end)
            found = 1 if code == 2 else 0
        elif tag < 0:
            return -1
    return found


@part
def span(table, letters, buf, pos, end, out, row):
    """Fills `row`, whose cells hold the resource's already. (marks or -1, number of links)."""
    out[row, START] = out[row, END] = out[row, KIND] = out[row, FAILED] = 0
    out[row, TRACE] = out[row, SPAN] = out[row, OF] = -1
    marks, links = 0, 0
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag == 74:
            found = attribute(table, letters, buf, begin, pos, out, row)
            if found < 0:
                return -1, 0
            marks |= found
        elif tag == 10:
            out[row, TRACE] = begin if pos - begin == 16 else -1
        elif tag == 18:
            out[row, SPAN] = begin if pos - begin == 8 else -1
        elif tag == 57:
            out[row, START] = fixed64(buf, begin)
        elif tag == 65:
            out[row, END] = fixed64(buf, begin)
        elif tag == 48:
            out[row, KIND], _ = varint(buf, begin, end)
        elif tag == 106:
            links += 1
        elif tag == 122:
            out[row, FAILED] = failed(buf, begin, pos)
            if out[row, FAILED] < 0:
                return -1, 0
        elif tag < 0:
            return -1, 0
    return marks, links


@part
def linked(table, letters, buf, pos, end, naming, out, row):
    """Rows behind `row` for those of its links that name a message. How many; -1 for damage, -2 when room ends."""
    found = 0
    while pos < end:
        tag, begin, pos = field(buf, pos, end)  # `span` has seen that all is well
        if tag == 106:
            at = row + 1 + found
            if at >= len(out):
                return -2
            for i in range(out.shape[1]):
                out[at, i] = out[row, i]
            for i in range(len(naming)):
                out[at, HEAD + naming[i]] = 0
            out[at, OF] = row
            marks = attributes(table, letters, buf, begin, pos, np.int64(34), out, at)
            if marks < 0:
                return -1
            if marks & NAMED:
                found += 1
    return found


@part
def scope(table, letters, buf, pos, end, inherited, naming, out, row, seen):
    """Every span of a ScopeSpans. (OK, DAMAGED or FULL; the next row; spans seen)."""
    while pos < end:
        tag, begin, pos = field(buf, pos, end)
        if tag == 18:
            if row >= len(out):
                return FULL, row, seen
            seen += 1
            for i in range(HEAD, out.shape[1]):
                out[row, i] = inherited[0, i]
            marks, links = span(table, letters, buf, begin, pos, out, row)
            if marks < 0:
                return DAMAGED, row, seen
            if marks > 0:
                more = linked(table, letters, buf, begin, pos, naming, out, row) if links > 0 else 0
                if more < 0:
                    return (DAMAGED if more == -1 else FULL), row, seen
                row += 1 + more
        elif tag < 0:
            return DAMAGED, row, seen
    return OK, row, seen


@part
def resource(table, letters, buf, pos, end, inherited, naming, out, row, seen):
    """Every span of a ResourceSpans; its attributes are looked up first, wherever they stand."""
    inherited[:] = 0
    at = pos
    while at < end:
        tag, begin, at = field(buf, at, end)
        if tag < 0 or (
            tag == 10 and attributes(table, letters, buf, begin, at, np.int64(10), inherited, np.int64(0)) < 0
        ):
            return DAMAGED, row, seen
    status = OK
    while pos < end and status == OK:
        tag, begin, pos = field(buf, pos, end)
        if tag == 18:
            status, row, seen = scope(table, letters, buf, begin, pos, inherited, naming, out, row, seen)
    return status, row, seen


@compiled
def walk(table, letters, buf, naming, out):
    """Every span of an ExportTraceServiceRequest that is about messaging, as rows of `out`. `naming` are the slots of
    what names a message: a link does not inherit those. (OK, DAMAGED or FULL; rows filled; spans seen)."""
    inherited = np.zeros((1, out.shape[1]), np.int64)
    pos = row = seen = np.int64(0)  # a bare 0 is a type of its own: every function would be compiled twice
    end, status = len(buf), OK
    while pos < end and status == OK:
        tag, begin, pos = field(buf, pos, end)
        if tag == 10:
            status, row, seen = resource(table, letters, buf, begin, pos, inherited, naming, out, row, seen)
        elif tag < 0:
            status = DAMAGED
    return status, row, seen
