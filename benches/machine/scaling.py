"""What a second core brings: whole programs on one core and on two, in interleaved rounds.

    cargo build --release
    python3 benches/machine/scaling.py [--rounds 5] [--size 1GB]

Standard library only, Linux (it sets affinity masks). In each round, in random order, on one core and on two:

arithmetic   N processes that only add and multiply, N being the number of cores: what any program can gain.
file         `microtally words - < file`.
sockets      `microtally words` on four connections, each with a quarter of the size; the senders, threads of
             this script, share the cores.

The gain is the median of the ratios within rounds. Numbers of words are checked. For two threads that
share nothing, see `microtally bench`, column "two threads".
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

from compare import ROOT, Feed, size

BIN = ROOT / "target" / "release"
CONNECTIONS = 4
ARITHMETIC = "x = 1\nfor i in range(12_000_000): x = (x * 31 + i) & 0xffffffff"


def arithmetic(cores, _):
    """Work done a second: as many processes as cores, each the same piece of work."""
    start = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", ARITHMETIC]) for _ in cores]
    if any(process.wait() for process in running):
        raise SystemExit("the arithmetic failed")
    return len(cores) / (time.perf_counter() - start)


def words(sources, stdin=None):
    """Words counted, and seconds."""
    command = [BIN / "microtally", "words", *sources, "-i", "1h", "--reconnect", "never", "--stats=json"]
    start = time.perf_counter()
    done = subprocess.run(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"words failed: {done.stderr}")
    return json.loads(done.stderr.splitlines()[-1])["tokens"], seconds


def file(_, path):
    with open(path, "rb") as text:
        tokens, seconds = words(["-"], text)
    check(path, tokens)
    return os.path.getsize(path) / seconds


def sockets(_, path):
    quarter = path + ".quarter"
    data = pathlib.Path(quarter).read_bytes()
    feeds = [Feed(data, end=True) for _ in range(CONNECTIONS)]
    tokens, seconds = words([f"127.0.0.1:{feed.port}" for feed in feeds])
    for feed in feeds:
        feed.close()
    check(quarter, tokens / CONNECTIONS)
    return CONNECTIONS * len(data) / seconds


WORDS = {}


def check(path, tokens):
    """Every run over a file must find as many words, and as many as there are blanks and line ends."""
    if path not in WORDS:
        text = pathlib.Path(path).read_bytes()
        # The end of the stream ends its last line.
        WORDS[path] = text.count(b" ") + text.count(b"\n") + (not text.endswith(b"\n"))
    if tokens != WORDS[path]:
        raise SystemExit(f"{tokens} words in {path}, not {WORDS[path]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=size("1GB"))
    options = parser.parse_args()
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("this needs two cores")
    one, two = {usable[-1]}, set(usable[-2:])
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        path = os.path.join(folder, "text")
        for name, total in ((path, options.size), (path + ".quarter", options.size // CONNECTIONS)):
            with open(name, "wb") as text:
                command = [BIN / "microtally", "gen", "--seed", "1", "--total", str(total)]
                subprocess.run(command, stdout=text, check=True)
        programs = {"arithmetic": arithmetic, "file": file, "sockets": sockets}
        rates = {(name, cores): [] for name in programs for cores in (1, 2)}
        for _ in range(options.rounds):
            for name, program in random.sample(list(programs.items()), len(programs)):
                for cores in random.sample((1, 2), 2):
                    mask = one if cores == 1 else two
                    # Processes and threads that are started inherit it.
                    os.sched_setaffinity(0, mask)
                    rates[name, cores].append(program(mask, path))
    print("| | one core | two cores | gain (least to most) |\n|---|---|---|---|")
    for name in programs:
        gains = [b / a for a, b in zip(rates[name, 1], rates[name, 2])]
        single, double = (statistics.median(rates[name, cores]) for cores in (1, 2))
        unit, scale = ("pieces/s", 1) if name == "arithmetic" else ("GB/s", 1e9)
        spread = f"{statistics.median(gains):.2f}x ({min(gains):.2f}x to {max(gains):.2f}x)"
        print(f"| {name} | {single / scale:.3g} {unit} | {double / scale:.3g} {unit} | {spread} |")


if __name__ == "__main__":
    main()
