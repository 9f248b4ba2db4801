"""Import files as text: gzip, encodings and lines. Memory holds a chunk of the file."""

import codecs
import gzip
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Final, TextIO

from app.files.problems import UnreadableFile, shown

CHUNK_BYTES: Final = 1_048_576
MAX_LINE_LENGTH: Final = 1_048_576
# A compressed file may grow to this size, and beyond by this factor.
FREELY_UNPACKED_BYTES: Final = 268_435_456
MAX_UNPACKED_RATIO: Final = 200
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECODED_LETTER: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")
SAVE_AS_CSV: Final = "Open it in a spreadsheet program and save the sheet as CSV (UTF-8)."


class FileFormat(StrEnum):
    """The format of a text file: CSV, or JSON objects in lines or in an array."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(slots=True)
class ImportSource:
    """The content of an import file: a text, or a workbook."""

    content: BinaryIO
    # None: a workbook of Excel.
    form: FileFormat | None
    encoding: str = ""
    notes: list[str] = field(default_factory=list)
    _text: io.TextIOWrapper | None = None

    def text(self) -> TextIO:
        """Return the whole text, with the line ends of the file."""
        self.release()
        self.content.seek(0)
        self._text = io.TextIOWrapper(self.content, self.encoding, newline="")
        return self._text

    def release(self) -> None:
        """Leave the content open; a text would close it."""
        if self._text is not None:
            self._text.detach()
            self._text = None


class FileLines:
    """Iterator over the lines of a text, with their number."""

    def __init__(self, text: TextIO) -> None:
        self.number = 0
        # The last line with a NUL.
        self.nul = 0
        self._text = text

    def __iter__(self) -> "FileLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE_LENGTH + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_LINE_LENGTH:
            raise UnreadableFile(self.number, f"is longer than {MAX_LINE_LENGTH} characters")
        if "\x00" in line:
            self.nul = self.number
        return line


@contextmanager
def open_source(
    source: BinaryIO, *, form: FileFormat | None = None, encoding: str | None = None
) -> Iterator[ImportSource]:
    """Find the container, the format and the encoding of a file.

    Raises:
        UnreadableFile: no known format or encoding fits.

    """
    with ExitStack() as temporary:
        content = source
        if not source.seekable():
            content = temporary.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, content, CHUNK_BYTES)
        if _start(content).startswith(b"\x1f\x8b"):
            packed, content = content, temporary.enter_context(tempfile.TemporaryFile())
            _unpack(packed, content)
        opened = _opened(content, form, encoding)
        temporary.callback(opened.release)
        yield opened


def _opened(content: BinaryIO, form: FileFormat | None, encoding: str | None) -> ImportSource:
    start = _start(content)
    if start.startswith(b"PK\x03\x04") and form is None:
        return ImportSource(content, None)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise UnreadableFile(1, "is a workbook of Excel 97-2003 (.xls)", SAVE_AS_CSV)
    result = ImportSource(content, form)
    _set_encoding(result, encoding)
    if form is None:
        first = result.text().read(4_096).lstrip()[:1]
        result.release()
        if first == "<":
            raise UnreadableFile(1, "is HTML or XML and not a table", SAVE_AS_CSV)
        result.form = FileFormat.JSONL if first in ("{", "[") else FileFormat.CSV
    return result


def _start(content: BinaryIO) -> bytes:
    content.seek(0)
    start = content.read(4_096)
    content.seek(0)
    return start


def _unpack(packed: BinaryIO, content: BinaryIO) -> None:
    """Unpack gzip."""
    size = packed.seek(0, io.SEEK_END)
    packed.seek(0)
    most = max(FREELY_UNPACKED_BYTES, MAX_UNPACKED_RATIO * size)
    try:
        with gzip.open(packed) as unpacked:
            while chunk := unpacked.read(CHUNK_BYTES):
                content.write(chunk)
                if content.tell() > most:
                    break
    except (OSError, EOFError, zlib.error) as error:
        message = "is a damaged gzip file"
        raise UnreadableFile(1, message, "Compress or download it again.") from error
    if content.tell() > most:
        message = f"grows to more than {most:,} bytes when it is unpacked"
        raise UnreadableFile(1, message, "Unpack it with gunzip first.")


def _set_encoding(source: ImportSource, encoding: str | None) -> None:
    """Set the encoding: the named one, that of the byte order mark, UTF-8, or Windows-1252."""
    start = _start(source.content)
    if encoding is not None:
        source.encoding = _checked(encoding, start)
    else:
        by_mark = next((name for mark, name in _BOMS if start.startswith(mark)), None)
        source.encoding = by_mark or _utf16_without_mark(start) or "utf-8"
    fault = _first_undecodable(source.content, source.encoding)
    if fault is None:
        return
    if source.encoding != "utf-8" or encoding is not None or _has_utf8_letters(source.content):
        message = f"is not {source.encoding.upper()}: {fault.byte}"
        raise UnreadableFile(fault.line, message, "Name the encoding of the file by --encoding.")
    source.encoding = "cp1252"
    if fault := _first_undecodable(source.content, source.encoding):
        message = f"is neither UTF-8 nor Windows-1252: {fault.byte}"
        raise UnreadableFile(fault.line, message, "Name the encoding of the file by --encoding.")
    source.notes.append(
        "The file is not UTF-8 and was read as Windows-1252. If letters look wrong, name the "
        "encoding by --encoding."
    )


def _checked(encoding: str, start: bytes) -> str:
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, UnicodeError) as error:
        message = f"cannot be read: there is no encoding {shown(encoding)}"
        raise UnreadableFile(1, message, "Examples are utf-8, utf-16, cp1252.") from error
    # Without the name of an order of bytes, the codec removes the byte order mark.
    by_mark = next((codec for mark, codec in _BOMS if start.startswith(mark)), None)
    return by_mark if by_mark is not None and name.startswith(by_mark[:6]) else name


def _utf16_without_mark(start: bytes) -> str | None:
    """Return the UTF-16 of a text whose every second byte is NUL, as in Latin letters."""
    half = len(start) // 2
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > 0.5 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.5 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


@dataclass(frozen=True, slots=True)
class _Undecodable:
    line: int
    byte: str


def _first_undecodable(content: BinaryIO, encoding: str) -> _Undecodable | None:
    decoder = codecs.getincrementaldecoder(encoding)()
    line_feeds = returns = 0
    content.seek(0)
    while True:
        chunk = content.read(CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            if not isinstance(error, UnicodeDecodeError):
                return _Undecodable(1, str(error))
            before = error.object[: error.start].decode(encoding, errors="ignore")
            line_feeds += before.count("\n")
            returns += before.count("\r")
            byte = f"byte 0x{error.object[error.start]:02X}"
            return _Undecodable(1 + (line_feeds or returns), byte)
        line_feeds += text.count("\n")
        returns += text.count("\r")
        if not chunk:
            content.seek(0)
            return None


def _has_utf8_letters(content: BinaryIO) -> bool:
    """Whether a file that is not UTF-8 has sequences of UTF-8: it is damaged or a mixture."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    content.seek(0)
    while chunk := content.read(CHUNK_BYTES):
        if _DECODED_LETTER.search(decoder.decode(chunk)):
            return True
    return False
