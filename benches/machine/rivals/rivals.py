"""Measures microtally beside other programs that count words, in pairs, on the same text.

    cargo build --release
    python3 benches/machine/rivals/rivals.py --venv DIR --tools DIR [--rounds 5] [--size 256MB]
        [--stream-size 32MB] [--corpus english|zipf-1m|FILE] [--only NAME,...] [--json FILE]

README.md beside this file says how to install the rivals, in exact versions. One that is missing is
reported and left out. Nothing but Python 3.11 and this folder is required.

A round goes through the rivals in random order; right before or right after each of them, at random
too, microtally counts the same bytes. A ratio is of such a pair. What counts as the rival's time is
what favours it: the second query in a process that is warm, Spark's own processing time. Of microtally
it is always the whole process: start, reading, counting, sorting and writing all counts.

Three inputs:

text    --size bytes of whole lines, in a file: `microtally count -k word --split ' ' file`.
lines   The same, one word a line, for whoever counts lines: `microtally count file`.
stream  The first --stream-size bytes of text: to `microtally words` and the DStream over loopback TCP, from a thread
        of Python; to Bytewax, which has no TCP source, and Spark's structured stream, whose socket source
        is for tests only, as a file.

All counts are compared with those of Python's Counter; a difference ends the run. A word is
what stands between two separators, a blank or a line end, and may be empty.

`GB/s` is the median of the rates, with the least and the greatest. `cold` counts from the start of the
process until its first answer, with imports: for rivals that live in Python. `cpu s/GB` is user and
system time; for Spark it is that of all its processes, waiting and receiving included. `faster by` is the
median of the ratios of pairs with a bootstrap interval of 95 %; `by cpu` that of processor seconds.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import compare  # noqa: E402
from compare import Feed, first_line_of, processor_seconds, size  # noqa: E402

MAWK = r"""BEGIN { RS = "[ \n]" } { count[$0]++ }
END { for (word in count) print count[word], word }"""
SORT = r"tr ' ' '\n' < text | sort --parallel=2 -S 4G | uniq -c"
AGRIND = r'* | parse regex "^(?P<line>.*)$" | count by line'
SECONDS_MAX = compare.SECONDS_MAX
BOOTSTRAP = 10_000


class Run(collections.namedtuple("Run", "seconds cold cpu", defaults=(None, None))):
    """One measurement in seconds; None for what is not known."""


def run_process(command, out, folder, stdin=None):
    """A whole process, its counts into `out`."""
    environment = {**os.environ, "LC_ALL": "C"}
    with contextlib.ExitStack() as files:
        source = files.enter_context(open(stdin, "rb")) if stdin else subprocess.DEVNULL
        sink = files.enter_context(open(out, "wb"))
        said = files.enter_context(open(folder / "said", "w+"))
        streams = {"stdin": source, "stdout": sink, "stderr": said}
        start, before = time.perf_counter(), processor_seconds()
        done = subprocess.run(command, **streams, cwd=folder, env=environment, timeout=SECONDS_MAX)
        seconds, cpu = time.perf_counter() - start, processor_seconds() - before
        if done.returncode:
            said.seek(0)
            sys.exit(f"{said.read()[-4000:]}\n{command[0]} ended with {done.returncode}")
        return Run(seconds, cpu=cpu)


class Worker:
    """A process of worker.py. What its library says goes to a file, which is shown when it fails."""

    def __init__(self, python, name, folder):
        self.said = folder / f"{name}.said"
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            [python, HERE / "worker.py", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said.open("w"),
            text=True,
        )

    def count(self, file, out):
        print(json.dumps({"file": str(file), "out": str(out)}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(
                f"{self.said.read_text()[-4000:]}\n{self.process.args[-1]} ended without an answer"
            )
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait(SECONDS_MAX)


def tree_seconds(root):
    """Processor time of a process and of all below it, as long as they live; its own children's too."""
    parents, seconds = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                parents[int(entry.name)] = int(fields[1])
                ticks = sum(int(field) for field in fields[11:15])
                seconds[int(entry.name)] = ticks / os.sysconf("SC_CLK_TCK")
    total = 0
    for process in seconds:
        above = process
        while above not in (root, 0, 1, None):
            above = parents.get(above)
        if above == root:
            total += seconds[process]
    return total


class Inputs:
    """The files that are counted, and what is to be counted in them."""

    def __init__(self, options, folder):
        self.folder = folder
        self.paths = {name: folder / name for name in ("text", "lines", "stream")}
        text = self.text(options)
        lines = text.replace(b" ", b"\n")
        stream = text[: text.rindex(b"\n", 0, max(options.stream_size, 2)) + 1]
        self.bytes = {"text": len(text), "lines": len(lines), "stream": len(stream)}
        for name, data in (("text", text), ("lines", lines), ("stream", stream)):
            self.paths[name].write_bytes(data)
        self.expected = {"text": counted(text), "stream": counted(stream)}
        self.expected["lines"] = self.expected["text"]
        self.stream = stream

    def text(self, options):
        if options.corpus in ("english", "zipf-1m"):
            vocabulary = {"english": "50000", "zipf-1m": "1000000"}[options.corpus]
            command = [options.bin / "microtally", "gen", "--seed", "1", "--vocabulary", vocabulary]
            total = ["--total", str(options.size)]
            text = subprocess.run([*command, *total], capture_output=True, check=True).stdout
        else:
            with open(options.corpus, "rb") as file:
                text = file.read(options.size)
        text = text[: text.rindex(b"\n") + 1]
        # About these the rivals do not agree: what ends a line, and what is a character.
        if b"\r" in text or b"\0" in text or b"\1" in text or text.startswith(b"\xef\xbb\xbf"):
            sys.exit("the text has \\r, NUL, \\x01 or a byte order mark, on which rivals differ")
        try:
            text.decode()
        except UnicodeDecodeError as error:
            sys.exit(f"the text is not UTF-8, which some rivals cannot count: {error}")
        return text


def counted(text):
    """By hand, in pieces, so that the words need not all be in memory."""
    counts, start = collections.Counter(), 0
    while start < len(text):
        end = text.find(b"\n", start + (16 << 20))
        end = len(text) if end < 0 else end
        counts.update(text[start:end].removesuffix(b"\n").replace(b"\n", b" ").split(b" "))
        start = end + 1
    return counts


UNESCAPED = {b"\\t": b"\t", b"\\n": b"\n", b"\\r": b"\r", b"\\\\": b"\\"}


def unescaped(key):
    """A key of `-o tsv` as the bytes it was."""
    if b"\\" not in key:
        return key
    out, at = bytearray(), 0
    while at < len(key):
        if key[at : at + 2] == b"\\x":
            out.append(int(key[at + 2 : at + 4], 16))
            at += 4
        elif key[at : at + 1] == b"\\":
            out += UNESCAPED[key[at : at + 2]]
            at += 2
        else:
            out += key[at : at + 1]
            at += 1
    return bytes(out)


def tsv(line):
    _, key, count = line.split(b"\t")
    return unescaped(key), int(count)


def count_blank_word(line):
    count, word = line.lstrip(b" ").split(b" ", 1)
    return word, int(count)


def count_tab_word(line):
    """As hist-rs writes it: in quotes if it has a tab or a quote."""
    count, word = line.split(b"\t", 1)
    if word.startswith(b'"'):
        word = word[1:-1].replace(b'""', b'"')
    return word, int(count)


def check(name, path, parse, expected):
    """The full counts, or the end of the run."""
    counts = collections.Counter()
    with open(path, "rb") as lines:
        for line in lines:
            word, count = parse(line.removesuffix(b"\n"))
            counts[word] += count
    if counts == expected:
        return
    different = (word for word in expected.keys() | counts.keys() if counts[word] != expected[word])
    shown = [
        f"{word!r}: {counts[word]} for {expected[word]}" for word, _ in zip(different, range(5))
    ]
    totals = (
        f"{counts.total()} words for {expected.total()}, {len(counts)} keys for {len(expected)}"
    )
    sys.exit(f"{name} counts differently: {totals}; {'; '.join(shown)}")


Rival = collections.namedtuple("Rival", "name input what version run parse")


class Bench:
    """The rivals: how each is found, run and read."""

    def __init__(self, options, inputs):
        self.options, self.inputs = options, inputs
        self.out = inputs.folder / "counted"
        self.streams = {}

    def ours(self, which):
        """To the end of the input, all counts written."""
        program = self.options.bin / "microtally"
        if which == "stream":
            feed = Feed(self.inputs.stream, end=True)
            command = [program, "words", "-i", "1h", "-n", "all", "-o", "tsv"]
            command += ["--reconnect", "never", f"127.0.0.1:{feed.port}"]
            run = run_process(command, self.out, self.inputs.folder)
            feed.close()
        else:
            command = [program, "count", "-n", "all", "-o", "tsv", which]
            command += ["-k", "word", "--split", " "] if which == "text" else ["-k", "line"]
            run = run_process(command, self.out, self.inputs.folder)
        check("microtally", self.out, tsv, self.inputs.expected[which])
        return run

    def rivals(self):
        """Everybody, or a line that says who is missing and why."""
        for find in (self.rust, self.programs, self.tools, self.python):
            yield from find()

    def program(self, name, which, what, version, command, stdin=False, parse=None):
        def run():
            source = self.inputs.paths[which] if stdin else None
            return run_process(command, self.out, self.inputs.folder, source)

        return Rival(name, which, what, version, run, parse or count_blank_word)

    def rust(self):
        folder = self.options.rust
        for name, command, what, crate in (
            ("naive", ["naive", "text"], "HashMap and memchr, one thread", "memchr"),
            ("naive-2", ["naive", "text", "2"], "hashbrown and memchr, two threads", "hashbrown"),
            ("timely", ["timely", "words", "text", "2"], "a vector a word, exchanged", "timely"),
            ("timely-combine", ["timely", "combine", "text", "2"], "counts exchanged", "timely"),
            (
                "renoir",
                ["renoir", "words", "text", "2"],
                "a String a word, group_by_count",
                "renoir",
            ),
            ("renoir-combine", ["renoir", "combine", "text", "2"], "fold_assoc of maps", "renoir"),
        ):
            if (folder / command[0]).exists():
                command = [folder / command[0], *command[1:]]
                yield self.program(name, "text", what, f"{crate} {pinned(crate)}", command)
            else:
                yield f"{name} is left out: no {command[0]} in {folder}, see README.md beside this script"

    def programs(self):
        if shutil.which("mawk"):
            version = first_line_of("mawk", "-W", "version").removeprefix("mawk ").split()[0]
            what = "RS is blank or line end"
            yield self.program("mawk", "text", what, version, ["mawk", MAWK], stdin=True)
        else:
            yield "mawk is left out: not on PATH"
        if shutil.which("sort"):
            version = first_line_of("sort", "--version").split()[-1]
            what = "tr, sort --parallel=2 -S 4G, uniq -c; C locale"
            yield self.program("sort-uniq", "text", what, version, ["sh", "-c", SORT])
        else:
            yield "sort-uniq is left out: not on PATH"

    def tools(self):
        for name, crate, arguments, stdin, parse, what in (
            ("huniq", "huniq", ["-c"], True, count_blank_word, "-c"),
            ("hist", "hist-rs", ["-S", "lines"], False, count_tab_word, "-S: unsorted"),
            (
                "cuniq",
                "cuniq",
                ["-c", "--no-stdin", "--threads", "2", "lines"],
                False,
                count_blank_word,
                "-c, two threads",
            ),
            (
                "agrind",
                "ag",
                ["-f", "lines", "-o", "format={_count} {line}", AGRIND],
                False,
                count_blank_word,
                "parse regex, count by",
            ),
        ):
            program = self.options.tools / "bin" / name if self.options.tools else None
            if program and program.exists():
                version = installed(self.options.tools, crate)
                command = [program, *arguments]
                yield self.program(crate, "lines", what, version, command, stdin, parse)
            else:
                yield f"{crate} is left out: no bin/{name} in --tools, see README.md beside this script"

    def python(self):
        for name, which, what in (
            ("polars", "text", "scan_csv, str.split, explode, group_by; streaming engine"),
            ("duckdb", "text", "read_csv, string_split, unnest, GROUP BY"),
            ("chdb", "text", "LineAsString, splitByChar, arrayJoin, GROUP BY"),
            ("polars-lines", "lines", "scan_csv, group_by; streaming engine"),
            ("duckdb-lines", "lines", "read_csv, GROUP BY"),
            ("chdb-lines", "lines", "LineAsString, GROUP BY"),
            ("bytewax", "stream", "FileSource, a Counter a batch, reduce_final; one worker"),
            ("dstream", "stream", "PySpark, the tutorial's program, local[2]"),
            ("structured", "stream", "PySpark, file source, foreachBatch, local[2]"),
        ):
            python, version = self.interpreter(name)
            if not python:
                yield f"{name} is left out: neither --venv nor this Python has it"
            elif name in ("dstream", "structured") and not shutil.which("java"):
                yield f"{name} is left out: no java on PATH"
            else:
                measure = self.spark if name in ("dstream", "structured") else self.query
                run = functools.partial(measure, python, name, which)
                yield Rival(name, which, what, version, run, count_blank_word)

    def interpreter(self, name):
        """The first Python that has the library, and its version."""
        own = [self.options.venv / "bin" / "python"] if self.options.venv else []
        for python in [*own, pathlib.Path(sys.executable)]:
            if python.exists():
                command = [python, HERE / "worker.py", "version", name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                if done.stdout.strip():
                    return python, done.stdout.strip()
        return None, None

    def query(self, python, name, which):
        """A fresh process: its first answer is `cold`, its second is the one that is compared."""
        worker = Worker(python, name, self.inputs.folder)
        worker.count(self.inputs.paths[which], self.out)
        first_written = time.perf_counter() - worker.start
        warm = worker.count(self.inputs.paths[which], self.out)
        worker.end()
        return Run(warm["seconds"], first_written, warm["cpu"])

    def spark(self, python, name, which):
        """One process for all rounds, warmed up by one uncounted run of the same text."""
        if name not in self.streams:
            self.streams[name] = Worker(python, name, self.inputs.folder)
            for _ in range(self.options.warm_ups):
                self.streams[name].count(self.inputs.paths[which], self.out)
        worker = self.streams[name]
        before = tree_seconds(worker.process.pid)
        answer = worker.count(self.inputs.paths[which], self.out)
        return Run(answer["seconds"], cpu=tree_seconds(worker.process.pid) - before)

    def close(self):
        for worker in self.streams.values():
            worker.end()


def pinned(crate):
    """The version that rust/Cargo.toml asks for."""
    for line in (HERE / "rust" / "Cargo.toml").read_text().splitlines():
        if line.startswith(f"{crate} ="):
            return line.split('"=')[1].split('"')[0]
    return "unknown"


def installed(root, crate):
    """The version that `cargo install` wrote down in its root."""
    with contextlib.suppress(OSError):
        for line in (root / ".crates.toml").read_text().splitlines():
            if line.startswith(f'"{crate} '):
                return line.split()[1]
    return "unknown"


def calibrate():
    """Two things that no rival changes: a chain of additions, and copying 64 MB; in seconds."""
    best = {}
    source, target = bytearray(64 << 20), bytearray(64 << 20)
    view = memoryview(target)
    for _ in range(5):
        start, value = time.perf_counter(), 0
        for _ in range(2_000_000):
            value += 1
        between = time.perf_counter()
        view[:] = source
        end = time.perf_counter()
        for name, seconds in (("add", between - start), ("copy", end - between)):
            best[name] = min(seconds, best.get(name, seconds))
    return best


def steal_ticks():
    with contextlib.suppress(OSError, IndexError):
        return int(pathlib.Path("/proc/stat").read_text().split(None, 9)[8])
    return 0


def interval(values, seed=1):
    """A bootstrap interval of 95 % of the median."""
    chance = random.Random(seed)
    draws = (chance.choices(values, k=len(values)) for _ in range(BOOTSTRAP))
    medians = sorted(statistics.median(draw) for draw in draws)
    return medians[BOOTSTRAP * 25 // 1000], medians[BOOTSTRAP * 975 // 1000 - 1]


def measure(options, bench, rivals):
    """Pairs by the name of the rival, and calibrations by round."""
    pairs = {rival.name: [] for rival in rivals}
    drifts = []
    chance = random.Random(options.seed)
    for number in range(options.rounds):
        print(
            f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.2f}",
            file=sys.stderr,
        )
        before = calibrate()
        for rival in chance.sample(rivals, len(rivals)):
            pair = {}
            for who in chance.sample(("ours", "theirs"), 2):
                if who == "ours":
                    pair[who] = bench.ours(rival.input)
                else:
                    pair[who] = rival.run()
                    check(rival.name, bench.out, rival.parse, bench.inputs.expected[rival.input])
            pairs[rival.name].append((pair["ours"], pair["theirs"]))
            ours, theirs = (
                bench.inputs.bytes[rival.input] / run.seconds / 1e9 for run in pairs[rival.name][-1]
            )
            print(f"  {rival.name:16}{theirs:8.4f} GB/s, microtally {ours:.4f}", file=sys.stderr)
        drifts.append((before, calibrate()))
    return pairs, drifts


def print_table(bench, rivals, pairs):
    def row(*cells):
        print("| " + " | ".join(cells) + " |")

    def rates(seconds, count):
        values = [count / one / 1e9 for one in seconds]
        return [f"{digits(f(values))}" for f in (statistics.median, min, max)]

    row(
        "rival",
        "version",
        "input",
        "GB/s, median (min to max)",
        "cold GB/s",
        "cpu s/GB",
        "microtally is faster by",
        "by cpu",
        "how",
    )
    row(*["---"] * 9)
    ours = collections.defaultdict(list)
    for rival in rivals:
        ours[rival.input] += [one for one, _ in pairs[rival.name]]
    lines = []
    for which, runs in ours.items():
        how = (
            "over TCP, the whole process"
            if which == "stream"
            else "count, the whole process"
        )
        lines.append(("**microtally**", bench.version, which, runs, "", "", how))
    for rival in rivals:
        ratios = [theirs.seconds / ours.seconds for ours, theirs in pairs[rival.name]]
        low, high = interval(ratios)
        ratio = f"{digits(statistics.median(ratios))}x ({digits(low)} to {digits(high)})"
        runs = [theirs for _, theirs in pairs[rival.name]]
        by_cpu = ""
        if runs[0].cpu is not None:
            by_cpu = statistics.median(theirs.cpu / ours.cpu for ours, theirs in pairs[rival.name])
            by_cpu = f"{digits(by_cpu)}x"
        lines.append((rival.name, rival.version, rival.input, runs, ratio, by_cpu, rival.what))
    for name, version, which, runs, ratio, by_cpu, how in lines:
        count = bench.inputs.bytes[which]
        median, low, high = rates([run.seconds for run in runs], count)
        cold = rates([run.cold for run in runs], count)[0] if runs[0].cold else ""
        cpu = ""
        if runs[0].cpu is not None:
            cpu = digits(statistics.median(run.cpu for run in runs) / count * 1e9)
        row(name, version, which, f"{median} ({low} to {high})", cold, cpu, ratio, by_cpu, how)


def digits(value):
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.{2 if value >= 1 else 3 if value >= 0.1 else 4}f}"


def print_drift(drifts, steal):
    for name in ("add", "copy"):
        every = [one[name] for pair in drifts for one in pair]
        within = [
            max(pair[0][name], pair[1][name]) / min(pair[0][name], pair[1][name]) for pair in drifts
        ]
        spread = (max(every) / min(every) - 1) * 100
        inside = " ".join(f"{(ratio - 1) * 100:.1f} %" for ratio in within)
        print(
            f"calibrator {name}: best of 5 moved by {spread:.1f} % over all; within rounds {inside}"
        )
    print(f"stolen by other machines: {steal / os.sysconf('SC_CLK_TCK'):.1f} s of processor time")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder, root = pathlib.Path, compare.ROOT
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=size("256MB"))
    parser.add_argument("--stream-size", type=size, default=size("32MB"))
    parser.add_argument("--corpus", default="english", help="english, zipf-1m, or a file")
    parser.add_argument("--only", type=lambda names: names.split(","), help="some rivals only")
    parser.add_argument("--json", type=folder, help="also write all measurements there")
    parser.add_argument("--venv", type=folder, help="a Python environment with the libraries")
    parser.add_argument("--tools", type=folder, help="the --root of cargo install")
    parser.add_argument("--rust", type=folder, default=HERE / "rust" / "target" / "release")
    parser.add_argument("--bin", type=folder, default=root / "target" / "release")
    parser.add_argument("--scratch", type=folder, help="for texts and counts; default: /dev/shm")
    parser.add_argument("--warm-ups", type=int, default=2, help="of each Spark rival")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    options = parser.parse_args()
    for name in ("venv", "tools", "rust", "bin"):
        if path := getattr(options, name):
            setattr(options, name, path.absolute())
    if not (options.bin / "microtally").exists():
        sys.exit("microtally is not built: cargo build --release")
    if not options.scratch and os.access("/dev/shm", os.W_OK):
        options.scratch = folder("/dev/shm")
    return options


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="rivals-", dir=options.scratch) as scratch:
        inputs = Inputs(options, pathlib.Path(scratch))
        bench = Bench(options, inputs)
        bench.version = first_line_of(options.bin / "microtally", "--version").split()[-1]
        found = list(bench.rivals())
        rivals = [rival for rival in found if isinstance(rival, Rival)]
        missing = [line for line in found if isinstance(line, str)]
        if options.only:
            known = [rival.name for rival in rivals] + [line.split()[0] for line in missing]
            if unknown := [name for name in options.only if name not in known]:
                sys.exit(f"no such rival: {', '.join(unknown)}; there are {', '.join(known)}")
            rivals = [rival for rival in rivals if rival.name in options.only]
            missing = [line for line in missing if line.split()[0] in options.only]
        compare.print_machine(options, "benches/machine/rivals/rivals.py")
        expected = inputs.expected["text"]
        print(f"text: {inputs.bytes['text']} bytes, {expected.total()} words, {len(expected)} keys")
        for line in missing:
            print(line)
        print(flush=True)
        before = steal_ticks()
        try:
            pairs, drifts = measure(options, bench, rivals)
        finally:
            bench.close()
        print_table(bench, rivals, pairs)
        print()
        print_drift(drifts, steal_ticks() - before)
        print(f"all counts were the same, word for word, in {options.rounds} rounds")
    if options.json:
        rows = {
            "bytes": inputs.bytes,
            "versions": {rival.name: rival.version for rival in rivals},
            "pairs": {
                name: [{"ours": a._asdict(), "theirs": b._asdict()} for a, b in measured]
                for name, measured in pairs.items()
            },
            "calibrators": drifts,
        }
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
