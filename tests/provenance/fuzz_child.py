"""Examines mutated files in a process of its own, within limits of memory and time.

Run as a script: folder of signed files, folder to write to, seed, how many. Prints one JSON line.
"""

import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

MEMORY = 6 << 30  # bytes of address space; the library maps large files
SLOW = 10.0  # seconds that no small file may take


def mutate(data: bytes, random_: random.Random) -> tuple[bytes, int, int, str]:
    """A changed copy, where it was changed, and how. Mostly around the manifest store."""
    store = data.find(b"jumb")
    near = store >= 0 and random_.random() < 0.8
    low, high = (max(0, store - 64), min(len(data), store + 4000)) if near else (0, len(data))
    at = random_.randrange(low, high)
    size = random_.randrange(1, 64)
    how = random_.choice(("flip", "length", "delete", "repeat", "cut", "zero", "swap", "insert"))
    end = min(at + size, len(data))
    other = random_.randrange(low, high)
    piece = {
        "flip": bytes([data[at] ^ (1 << random_.randrange(8))]) + data[at + 1 : end],
        "length": random_.choice(
            (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\0\0\0\x09")
        ),
        "delete": b"",
        "repeat": data[at:end] * 2,
        "zero": bytes(end - at),
        "swap": data[other : other + end - at],
        "insert": random_.randbytes(size) + data[at:end],
        "cut": b"",
    }[how]
    if how == "cut":
        return data[:at], at, len(data), how
    if how == "length":
        end = min(at + 4, len(data))
    if how == "flip":
        return data[:at] + piece + data[end:], at, at + 1, how
    return data[:at] + piece + data[end:], at, end, how


def main(folder: Path, target: Path, seed: int, count: int) -> dict[str, object]:
    from assaymark.provenance.free_bytes import free_bytes
    from assaymark.provenance.stores import store_of
    from assaymark.provenance.trust import Trust
    from assaymark.provenance.verify import State, examine

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    trust = Trust(signers=(folder / "root.pem").read_text())
    samples = {path: path.read_bytes() for path in sorted(folder.glob("sample*"))}
    random_ = random.Random(seed)
    states: Counter[str] = Counter()
    unexplained, silent, slowest = [], [], 0.0
    unknown: set[str] = set()
    for i in range(count):
        source = random_.choice(list(samples))
        changed, start, end, how = mutate(samples[source], random_)
        if changed == samples[source]:
            continue
        path = target / f"mutated{source.suffix}"
        path.write_bytes(changed)
        began = time.perf_counter()
        found = examine(path, trust)
        found.facts(), found.tree
        slowest = max(slowest, time.perf_counter() - began)
        states[f"{source.suffix} {found.state}"] += 1
        if not found.explanation or found.state not in State:
            silent.append((i, source.name, how))
        if found.state is State.TRUSTED:
            free = free_bytes(store_of(found), found.label, path)
            # a deletion or insertion moves what follows: the range it lies in is what counts
            covered = any(item.start <= start < item.end for item in free.ranges)
            states[f"{source.suffix} still trusted"] += 1
            if not covered and not free.unexplained and free.unknown:
                unknown.add(source.suffix)
            elif not covered and not free.unexplained:
                unexplained.append((i, source.name, how, start, end))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"states": states, "unexplained": unexplained, "silent": silent,
            "unknown": sorted(unknown),
            "slowest": slowest, "peak_mib": peak}  # fmt: skip


if __name__ == "__main__":
    print(
        json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    )
