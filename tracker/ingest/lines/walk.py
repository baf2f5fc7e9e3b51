"""Lines of JSON, walked once by compiled code: where the value of each known field lies, times and numbers read.

Taken is what nearly every line is: one flat object of texts without escapes, plain numbers and booleans, and attributes
that are texts. Any other line, whatever is the matter with it, is left for a more patient reader (`SLOW`), so nothing
is refused here and nothing guessed.

All of it is one file, because numba keeps compiled code by the hash of the file that it comes from. Every function
takes the body, a place in it and the end that it must not pass; a place of -1 says that this is not for here.
"""

from __future__ import annotations

import numpy as np

from tracker.ingest.cells import LONGEST, TEXT
from tracker.ingest.compiled import compiled, part

OTHER, WORDS, TIME, COUNT, DIGEST, FLAG, PAIRS = range(7)
"""What a field may hold: a text or whole number, a time, a whole number from 0, 16 hex digits, true or false, an object
of texts. OTHER: a name that is not ours."""
BLANK, TAKEN, SLOW = range(3)
FIRST, SIZE, SLOT, HOLDS = range(4)
"""A name in the hash table: its letters, its slot, what it may hold. SIZE is 0 where there is none."""

PLAIN = np.array([32 <= c < 128 and c not in (34, 92) for c in range(256)])
"""Bytes that are a character of a text by themselves."""
HEX = np.array([int(chr(c), 16) if chr(c) in "0123456789abcdefABCDEF" else 16 for c in range(256)], np.int64)
"""What each byte is as a hex digit; 16 for one that is none."""


@part
def after_character(buf, pos, end):
    """The place after a character of several bytes, as UTF-8 has them (RFC 3629, section 4)."""
    lead = buf[pos]
    low, high = 0x80, 0xBF
    if 0xC2 <= lead <= 0xDF:
        more = 1
    elif 0xE0 <= lead <= 0xEF:
        more = 2
        low, high = (0xA0 if lead == 0xE0 else 0x80), (0x9F if lead == 0xED else 0xBF)
    elif 0xF0 <= lead <= 0xF4:
        more = 3
        low, high = (0x90 if lead == 0xF0 else 0x80), (0x8F if lead == 0xF4 else 0xBF)
    else:
        return -1
    if pos + more >= end or not low <= buf[pos + 1] <= high:
        return -1
    for i in range(2, more + 1):
        if not 0x80 <= buf[pos + i] <= 0xBF:
            return -1
    return pos + more + 1


@part
def closing(buf, pos, end):
    """The place of the quote that ends a text without escapes."""
    while pos < end:
        if PLAIN[buf[pos]]:
            pos += 1
            continue
        if buf[pos] == 34:
            return pos
        if buf[pos] < 128:
            return -1
        pos = after_character(buf, pos, end)
        if pos < 0:
            return -1
    return -1


@part
def blank(buf, pos, end):
    """The place after white space, within a line."""
    while pos < end and (buf[pos] == 32 or buf[pos] == 9 or buf[pos] == 13):
        pos += 1
    return pos


@part
def literal(buf, pos, end):
    """(place after true, false or null; which of them as 2, 1, 0)."""
    if end - pos >= 4 and buf[pos] == 116 and buf[pos + 1] == 114 and buf[pos + 2] == 117 and buf[pos + 3] == 101:
        return pos + 4, 2
    if end - pos >= 4 and buf[pos] == 110 and buf[pos + 1] == 117 and buf[pos + 2] == 108 and buf[pos + 3] == 108:
        return pos + 4, 0
    if (end - pos >= 5 and buf[pos] == 102 and buf[pos + 1] == 97 and buf[pos + 2] == 108 and buf[pos + 3] == 115
            and buf[pos + 4] == 101):  # fmt: skip
        return pos + 5, 1
    return -1, 0


@part
def whole(buf, pos, end):
    """(place after a whole number from 0 of at most 18 digits, its value)."""
    first, value = pos, np.int64(0)
    while pos < end and 48 <= buf[pos] <= 57:
        value = value * 10 + np.int64(buf[pos] - 48)
        pos += 1
        if pos - first > 18:
            return -1, 0
    if pos == first or (buf[first] == 48 and pos - first > 1):
        return -1, 0
    if pos < end and (buf[pos] == 46 or buf[pos] == 101 or buf[pos] == 69):
        return -1, 0
    return pos, value


@part
def digits(buf, pos, count):
    """The number that so many digits make."""
    value = np.int64(0)
    for i in range(count):
        digit = np.int64(buf[pos + i]) - 48
        if digit < 0 or digit > 9:
            return np.int64(-1)
        value = value * 10 + digit
    return value


@part
def moment(buf, pos, end):
    """Epoch µs of `2027-01-15T08:00:00[.123456](Z|+01:00)`, of the years 1970 to 2199; -1 for anything else."""
    if end - pos < 20 or buf[pos + 4] != 45 or buf[pos + 7] != 45 or buf[pos + 10] != 84:
        return np.int64(-1)
    if buf[pos + 13] != 58 or buf[pos + 16] != 58:
        return np.int64(-1)
    year, month, day = digits(buf, pos, 4), digits(buf, pos + 5, 2), digits(buf, pos + 8, 2)
    hour, minute, second = digits(buf, pos + 11, 2), digits(buf, pos + 14, 2), digits(buf, pos + 17, 2)
    if not (1970 <= year <= 2199 and 1 <= month <= 12 and 1 <= day <= 31):
        return np.int64(-1)
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return np.int64(-1)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > 30 and (month == 4 or month == 6 or month == 9 or month == 11):
        return np.int64(-1)
    if month == 2 and day > (29 if leap else 28):
        return np.int64(-1)
    # Days since 1970-01-01, in years that begin in March: http://howardhinnant.github.io/date_algorithms.html
    y = year - (1 if month <= 2 else 0)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    of_era = (y % 400) * 365 + (y % 400) // 4 - (y % 400) // 100 + of_year
    days = (y // 400) * 146097 + of_era - 719468
    micros = ((days * 24 + hour) * 60 + minute) * 60 + second
    at, fraction = pos + 19, np.int64(0)
    if buf[at] == 46:
        count = 0
        at += 1
        while at < end and 48 <= buf[at] <= 57 and count < 7:
            fraction = fraction * 10 + np.int64(buf[at] - 48)
            count += 1
            at += 1
        if count == 0 or count > 6:
            return np.int64(-1)
        for _ in range(6 - count):
            fraction *= 10
    shift = np.int64(0)
    if at < end and buf[at] == 90:
        at += 1
    elif end - at >= 6 and (buf[at] == 43 or buf[at] == 45) and buf[at + 3] == 58:
        east, more = digits(buf, at + 1, 2), digits(buf, at + 4, 2)
        if not (0 <= east <= 14 and 0 <= more <= 59):
            return np.int64(-1)
        shift = (east * 60 + more) * 60 * (1 if buf[at] == 43 else -1)
        at += 6
    else:
        return np.int64(-1)
    return (micros - shift) * 1_000_000 + fraction if at == end else np.int64(-1)


@part
def scaled(value):
    """A number as epoch µs: seconds below 1e11, milliseconds below 1e14, microseconds below 1e17, else nanoseconds."""
    if value < 100_000_000_000:
        return value * 1_000_000
    if value < 100_000_000_000_000:
        return value * 1000
    return value if value < 100_000_000_000_000_000 else value // 1000


@part
def hexadecimal(buf, pos):
    """(whether 16 hex digits lie there, their value)."""
    value, bad = np.int64(0), np.int64(0)
    for i in range(16):
        digit = HEX[buf[pos + i]]
        bad |= digit
        value = (value << np.int64(4)) | digit
    return bad < 16, value


@part
def after_pairs(buf, pos, end):
    """The place after an object of texts without escapes, which begins here."""
    pos = blank(buf, pos + 1, end)
    if pos < end and buf[pos] == 125:
        return pos + 1
    while pos < end and buf[pos] == 34:
        for turn in range(2):
            pos = closing(buf, pos + 1, end)
            if pos < 0:
                return -1
            pos = blank(buf, pos + 1, end)
            if turn == 0:
                if pos >= end or buf[pos] != 58:
                    return -1
                pos = blank(buf, pos + 1, end)
                if pos >= end or buf[pos] != 34:
                    return -1
        if pos < end and buf[pos] == 125:
            return pos + 1
        if pos >= end or buf[pos] != 44:
            return -1
        pos = blank(buf, pos + 1, end)
    return -1


@part
def hashed(buf, first, size):
    """FNV-1a, 32 bits."""
    value = np.int64(0x811C9DC5)
    for i in range(size):
        value = ((value ^ np.int64(buf[first + i])) * np.int64(0x01000193)) & np.int64(0xFFFFFFFF)
    return value


@part
def named(buf, first, size, table, letters):
    """The place in the table of a name; -1 for one that is not ours."""
    mask = len(table) - 1
    place = hashed(buf, first, size) & mask
    while table[place, SIZE] > 0:
        if table[place, SIZE] == size:
            at, equal = table[place, FIRST], True
            for i in range(size):
                if letters[at + i] != buf[first + i]:
                    equal = False
                    break
            if equal:
                return place
        place = (place + 1) & mask
    return -1


@part
def expected(buf, pos, end, place, table, letters):
    """The place of the quote after a name, if it is the one at this place of the table."""
    size = table[place, SIZE]
    if end - pos <= size or buf[pos + size] != 34:
        return -1
    at = table[place, FIRST]
    for i in range(size):
        if letters[at + i] != buf[pos + i]:
            return -1
    return pos + size


@part
def cell_of(first, size):
    """The cell of a text (`tracker.ingest.cells`)."""
    return np.int64(first) | (np.int64(size) << np.int64(31)) | (np.int64(TEXT) << np.int64(55))


@part
def value(buf, pos, end, holds):
    """(place after a value, what its cell says of it). What is not there says 0."""
    c = buf[pos]
    if c == 34:
        last = closing(buf, pos + 1, end)
        if last < 0:
            return -1, np.int64(0)
        first, size = pos + 1, last - pos - 1
        if holds == WORDS and size <= LONGEST:
            return last + 1, cell_of(first, size)
        if holds == TIME:
            at = moment(buf, first, last)
            return (last + 1, at) if at > 0 else (-1, np.int64(0))
        if holds == DIGEST and size == 16:
            good, found = hexadecimal(buf, first)
            return (last + 1, found) if good else (-1, np.int64(0))
        return (last + 1 if holds == OTHER else -1), np.int64(0)
    if 48 <= c <= 57:
        after, number = whole(buf, pos, end)
        if after < 0:
            return -1, np.int64(0)
        if holds == WORDS:
            return after, cell_of(pos, after - pos)
        if holds == TIME:
            return (after, scaled(number)) if number > 0 else (-1, np.int64(0))
        if holds == COUNT:
            return after, number + 1
        return (after if holds == OTHER else -1), np.int64(0)
    if c == 123 and holds == PAIRS:
        after = after_pairs(buf, pos, end)
        if after < 0 or after - pos > LONGEST:
            return -1, np.int64(0)
        return after, cell_of(pos, after - pos)
    after, word = literal(buf, pos, end)
    if after < 0 or (word > 0 and holds != FLAG and holds != OTHER):
        return -1, np.int64(0)
    return after, np.int64(word if holds == FLAG else 0)


@part
def taken(buf, pos, end, table, letters, cells, row, seen, usual):
    """The place after the object that begins here, its cells filled; -1 when it is not taken. `usual`: which names the
    line before had, by place in the table, for most lines have the same in the same order."""
    nth = 0
    pos = blank(buf, pos + 1, end)
    if pos < end and buf[pos] == 125:
        return pos + 1
    while pos < end and buf[pos] == 34:
        first, place, last = pos + 1, usual[nth], np.int64(-1)
        if place >= 0:
            last = expected(buf, first, end, place, table, letters)
        if last < 0:
            last = closing(buf, first, end)
            if last < 0:
                return -1
            place = usual[nth] = named(buf, first, last - first, table, letters)
        nth = min(nth + 1, len(usual) - 1)
        slot, holds = (table[place, SLOT], table[place, HOLDS]) if place >= 0 else (np.int64(-1), np.int64(OTHER))
        if slot >= 0:
            if seen[slot] == row:
                return -1  # named twice: which one counts is not for here
            seen[slot] = row
        pos = blank(buf, last + 1, end)
        if pos >= end or buf[pos] != 58:
            return -1
        pos = blank(buf, pos + 1, end)
        if pos >= end:
            return -1
        pos, cell = value(buf, pos, end, holds)
        if pos < 0:
            return -1
        if slot >= 0:
            cells[slot, row] = cell
        pos = blank(buf, pos, end)
        if pos < end and buf[pos] == 125:
            return pos + 1
        if pos >= end or buf[pos] != 44:
            return -1
        pos = blank(buf, pos + 1, end)
    return -1


@compiled
def walk(buf, table, letters, cells, status):
    """Fills `cells` (slot x line) and `status` of every line; how many lines there are."""
    pos, end, row = 0, len(buf), 0
    seen = np.full(cells.shape[0], -1, np.int64)
    usual = np.full(64, -1, np.int64)
    while pos < end:
        start = blank(buf, pos, end)
        state = BLANK
        if start < end and buf[start] != 10:
            state = SLOW
            if buf[start] == 123:
                after = taken(buf, start, end, table, letters, cells, row, seen, usual)
                if after >= 0:
                    after = blank(buf, after, end)
                    if after >= end or buf[after] == 10:
                        state, start = TAKEN, after
            if state == SLOW:
                for slot in range(cells.shape[0]):
                    cells[slot, row] = 0
        while start < end and buf[start] != 10:
            start += 1
        status[row] = state
        row += 1
        pos = start + 1
    return row


@compiled
def coded(buf, cells, limit):
    """(a code for each cell, the first cell of each code): equal texts have equal codes, what is absent has -1. None of
    it holds when there are more than `limit` different ones: then the second is empty."""
    mask = 1
    while mask < 2 * limit:
        mask *= 2
    mask -= 1
    heads = np.full(mask + 1, -1, np.int32)
    codes = np.empty(len(cells), np.int32)
    firsts = np.empty(limit, np.int64)
    found = 0
    before = np.int32(-1)
    for row in range(len(cells)):
        cell = cells[row]
        if cell == 0:
            codes[row] = -1
            continue
        first, size = cell & np.int64(0x7FFFFFFF), (cell >> np.int64(31)) & np.int64(LONGEST)
        if before >= 0 and alike(buf, first, size, firsts[before]):
            codes[row] = before
            continue
        place = hashed(buf, first, size) & mask
        while heads[place] >= 0 and not alike(buf, first, size, firsts[heads[place]]):
            place = (place + 1) & mask
        if heads[place] < 0:
            if found == limit:
                return codes, firsts[:0]
            heads[place] = found
            firsts[found] = cell
            found += 1
        codes[row] = before = heads[place]
    return codes, firsts[:found]


@part
def alike(buf, first, size, cell):
    """Whether the text at `first` is that of the cell."""
    if (cell >> np.int64(31)) & np.int64(LONGEST) != size:
        return False
    other = cell & np.int64(0x7FFFFFFF)
    for i in range(size):  # noqa: SIM110 - a generator cannot be compiled
        if buf[other + i] != buf[first + i]:
            return False
    return True
