"""Pictures with faults, made by number: bytes flipped, cut off, put in; tags and sizes that lie.

``python -m tests.mutations FIRST COUNT`` reads that many, with limits of time and memory, and prints what went wrong.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.images import plane_axes
from napari_leukocls.io.slides import read_smear
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX
from tests.corpus import KINDS, RGB

#: A file may take this long to read or refuse, seconds, and this much memory, MiB.
SECONDS, MEGABYTES = 20, 1500
_WILD = (0, 1, 2, 3, 7, 8, 16, 255, 256, 1024, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2):
            part = np.ascontiguousarray(RGB[::step, ::step])
            text = "Aperio Image\r\n180x140 (64x64)|AppMag = 40|MPP = 0.2"
            file.write(part, tile=(64, 64), photometric="rgb", description=text, metadata=None)


def seeds(folder: Path) -> dict[str, bytes]:
    """Whole files to start from, one of each kind; those of optional libraries where they are installed."""
    writers: dict[str, Callable[[Path], object]] = {kind.name: kind.write for kind in KINDS}
    writers["pyramid.svs"] = writers["pyramid.tif"] = _pyramid
    writers["a.gif"] = lambda path: Image.fromarray(RGB).save(path)
    writers["a.avif"] = lambda path: Image.fromarray(RGB).save(path)
    try:
        from tests.unit import test_formats as formats
    except BaseException as error:  # noqa: BLE001 - pytest's way to say that a library is missing
        print("without the optional formats:", error)
    else:
        writers["a.czi"] = lambda path: formats.write_czi(path, [({"C": 0, "Z": 0, "T": 0}, RGB)])
        writers["a.heic"] = lambda path: formats.pillow_heif.from_pillow(Image.fromarray(RGB)).save(str(path))
        writers["a.dcm"] = lambda path: formats.write_dicom(path, RGB, "RGB")
        writers["grey.dcm"] = lambda path: formats.write_dicom(path, formats.DEEP[..., 1], "MONOCHROME1", 12)
        writers["a.lif"] = lambda path: formats.write_lif(path, RGB)
    found = {}
    for name, write in writers.items():
        write(folder / name)
        found[name] = (folder / name).read_bytes()
    return found


def mutated(raw: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A file with one to four faults."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        raw = chance.choice((_flip, _flip, _cut, _put, _number, _tag, _size, _splice))(raw, chance, others)
    return raw


def _place(raw: bytes, chance: random.Random) -> int:
    """Mostly near the head, where what describes the picture is, or near the end, where TIFF has it."""
    share = chance.random() ** 3
    return int((share if chance.random() < 0.7 else 1 - share) * max(0, len(raw) - 1))


def _flip(raw: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    data = bytearray(raw)
    for _again in range(chance.choice((1, 1, 3, 30))):
        if data:
            data[_place(raw, chance)] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(raw: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    at = _place(raw, chance)
    return raw[:at] if chance.random() < 0.5 else raw[:at] + raw[at + chance.randrange(1, 64) :]


def _put(raw: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    at = _place(raw, chance)
    return raw[:at] + chance.randbytes(chance.randrange(1, 16)) + raw[at:]


def _number(raw: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    at, order, kind = _place(raw, chance), chance.choice("<>"), chance.choice("HIQ")
    value = chance.choice(_WILD) & (2 ** (8 * struct.calcsize(kind)) - 1)
    put = struct.pack(order + kind, value)
    return raw[:at] + put + raw[at + len(put) :]


def _tag(raw: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Change the kind, count or value of one tag of a TIFF's directories."""
    order = {b"II": "<", b"MM": ">"}.get(raw[:2])
    if order is None or len(raw) < 8 or struct.unpack(order + "H", raw[2:4])[0] != 42:
        return _number(raw, chance, others)
    places, at = [], struct.unpack(order + "I", raw[4:8])[0]
    while 0 < at < len(raw) - 6 and len(places) < 200:
        count = struct.unpack(order + "H", raw[at : at + 2])[0]
        places += [at + 2 + 12 * n for n in range(min(count, 60))]
        following = at + 2 + 12 * count
        at = struct.unpack(order + "I", raw[following : following + 4])[0] if following + 4 <= len(raw) else 0
    places = [place for place in places if place + 12 <= len(raw)]
    if not places:
        return raw
    place, field = chance.choice(places), chance.choice((0, 2, 4, 8, 8, 8))
    kind = "I" if field >= 4 else "H"
    limit = 2 ** (8 * struct.calcsize(kind)) - 1
    value = chance.choice((*_WILD, chance.randrange(2**16), chance.randrange(300))) & limit
    put = struct.pack(order + kind, value)
    return raw[: place + field] + put + raw[place + field + len(put) :]


def _size(raw: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """State another width and height, with checksums that fit."""
    wide, high = (chance.choice((0, 1, 31, 100, 10_000, 70_000, 2**31 - 1)) for _ in "xy")
    if raw.startswith(b"\x89PNG"):
        head = raw[12:16] + struct.pack(">II", wide, high) + raw[24:29]
        return raw[:12] + head + struct.pack(">I", zlib.crc32(head)) + raw[33:]
    if raw.startswith(b"BM"):
        return raw[:18] + struct.pack("<ii", wide, high) + raw[26:]
    if raw.startswith(b"GIF8"):
        return raw[:6] + struct.pack("<HH", wide & 65535, high & 65535) + raw[10:]
    at = max(raw.find(b"\xff\xc0\0\x11"), raw.find(b"\xff\xc2\0\x11"))
    if raw.startswith(b"\xff\xd8") and at > 0:
        return raw[: at + 5] + struct.pack(">HH", high & 65535, wide & 65535) + raw[at + 9 :]
    if raw[128:132] == b"DICM":
        at = raw.find(b"\x28\0\x10\0US")
        return raw[: at + 8] + struct.pack("<H", high & 65535) + raw[at + 10 :] if at > 0 else raw
    return _tag(raw, chance, others)


def _splice(raw: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    other = chance.choice(others)
    return raw[: _place(raw, chance)] + other[_place(other, chance) :]


def check(path: Path) -> str | None:
    """What is wrong with the way a file is read; None where it gives a picture or one line."""
    started = time.monotonic()
    try:
        smear, _ = read_smear(path)
    except LeukoclsError as error:
        text = str(error)
        if not text or "\n" in text or len(text) > 1500:
            return f"no single line: {text[:200]!r}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"[:300]
    else:
        pixels = smear.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            return f"pixels {pixels.dtype} {pixels.shape}"
        if smear.um_per_px is not None and not LEAST_UM_PER_PX < smear.um_per_px < MOST_UM_PER_PX:
            return f"a pixel size of {smear.um_per_px}"
        try:
            plane_axes(path)
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            return f"plane_axes: {type(error).__name__}: {error}"[:300]
    took = time.monotonic() - started
    return f"{took:.0f} s" if took > SECONDS else None


def files(first: int, count: int, folder: Path) -> list[tuple[int, Path]]:
    """Write mutated files with these numbers; the same number gives the same file."""
    with tempfile.TemporaryDirectory() as place:
        whole = seeds(Path(place))
    names, contents = sorted(whole), [whole[name] for name in sorted(whole)]
    made = []
    for number in range(first, first + count):
        chance = random.Random(number)
        name = chance.choice(names)
        path = folder / f"{number}_{name}"
        path.write_bytes(mutated(whole[name], chance, contents))
        made.append((number, path))
    return made


def _peak() -> int | None:
    """Most memory that this program has held, MiB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    # The figure of getrusage begins with that of the process that started this one.
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None)


def main(first: int, count: int) -> int:
    """Read them, and print what went wrong; the number of what did."""
    try:
        import resource
    except ImportError:
        resource = None  # type: ignore[assignment]
    else:
        # What a file asks for beyond this fails, as it would on a small machine.
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        for number, path in files(first, count, Path(place)):
            print("next", path.name, file=sys.stderr, flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = check(path)
            if found is not None:
                wrong += 1
                print(f"WRONG {number} {path.name}: {found}", flush=True)
            path.unlink()
    used = _peak()
    if used is not None:
        print(f"peak {used} MiB")
        if used > MEGABYTES:
            wrong += 1
            print(f"WRONG {first}: {used} MiB of memory")
    print(f"{count} read, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8", errors="replace", line_buffering=True)
    sys.exit(1 if main(int(sys.argv[1]), int(sys.argv[2])) else 0)
