"""Measures microtally beside its rivals: in one run, in interleaved rounds, on the same text.

    cargo build --release
    python3 benches/machine/compare.py [--rounds 5] [--total 4GB] [--spark-size 30MB] [--file-size 64MB]
                               [--only NAME,...] [--json FILE]

Standard library only; PySpark and mawk are measured if they are installed. All text is what
`microtally gen --seed 1` makes, from its first byte on. In each round, one after the other:

discard    `microtally gen --listen` sends --total over loopback TCP; this script receives and discards
           it: the limit for this sender on this machine.
words      The same sender; `microtally words -i 500ms` counts.
pyspark    The tutorial's word count on local[2], fed over TCP by a thread of this script with the
           first --spark-size bytes of that text, one batch after a warm-up batch. Rate: the bytes of
           the batch by the processing time that Spark's own listener reports. Waiting for the batch
           to begin and receiving are not in it, which favours Spark. One JVM for all rounds, so it
           is warm from the second round on; no streaming context exists while others are measured.
same-bytes `microtally words` on exactly the bytes that pyspark got, sent by the same thread of this
           script: by the whole run's seconds, start and connection included, which favours Spark.
mawk       `mawk` counts the first --file-size bytes of that text from a file; wall time.
sort-uniq  `tr | sort | uniq -c` of the same file in the C locale; wall time.
file       `microtally words - < file`; wall time of the process.

Two rates are taken of discard and words: `steady` leaves the beginning out (words: the first two
batches, as --stats=json says; discard: the first 128 MiB), and is the one that is compared; `whole` is
all bytes by the seconds from the program's start (words) or the first byte (discard) to the end.
`per cpu s` is bytes by the processor time of the receiving process, user and system: what is left of
the machine for others, and hardly changed by what else runs on it. Of PySpark it is not known.
Every number of words is checked, for PySpark the number of records; a difference ends the run.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAWK = """{ for (i = 1; i <= NF; i++) count[$i]++ }
END { for (word in count) print count[word], word }"""
# Reads as much at once as the engine does. The first 128 MiB, in which the sender makes its text, are no part of
# the steady rate.
DISCARD = """
import socket, sys, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
room, count, warm = bytearray(256 << 10), 0, None
while got := client.recv_into(room):
    count += got
    if count == got:
        start = time.perf_counter()
    if warm is None and count >= 128 << 20:
        warm = count, time.perf_counter()
end = time.perf_counter()
before, since = warm or (0, start)
print([count, end - start, (count - before) / (end - since)])
"""
# No batch of a rival may take longer; a hang should end the run, not the patience.
SECONDS_MAX = 600
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def size(text):
    for unit, factor in UNITS.items():
        if text.upper().endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    return int(text)


def output_of(*command):
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, cwd=ROOT, check=True, text=True, **both).stdout.strip()
    return ""


def first_line_of(*command):
    return (output_of(*command).splitlines() or ["not found"])[0]


def print_machine(options, command="benches/machine/compare.py"):
    model, flags = "unknown", ""
    with contextlib.suppress(OSError):
        info = pathlib.Path("/proc/cpuinfo").read_text()
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        model, flags = fields.get("model name", model), fields.get("flags", "")
    vector = [name for name in ("avx2", "avx512bw", "avx512_vbmi2") if name in flags.split()]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    changed = " with local changes" if output_of("git", "status", "--porcelain", "-uno") else ""
    try:
        import pyspark

        spark = f"{pyspark.__version__}, {first_line_of('java', '-version')}"
    except ImportError:
        spark = "not installed"
    rows = {
        "cpu": f"{model} ({' '.join(vector)})",
        "cores": f"{usable} usable of {os.cpu_count()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 min, before)",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "rustc": first_line_of("rustc", "--version"),
        "git": first_line_of("git", "rev-parse", "--short", "HEAD") + changed,
        "microtally": first_line_of(options.bin / "microtally", "--version"),
        "python": platform.python_version(),
        "pyspark": spark,
        "mawk": first_line_of("mawk", "-W", "version"),
        "sort": first_line_of("sort", "--version"),
        "command": " ".join(["python3", command, *sys.argv[1:]]),
    }
    for name, value in rows.items():
        print(f"{name + ':':12}{value}")
    print(flush=True)


class Run(collections.namedtuple("Run", "steady whole tokens cpu")):
    """One measurement: two rates in bytes per second, the words counted, bytes per second of processor
    time; None for what is not known."""


def processor_seconds():
    """Of all children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def generator(options, total):
    """`microtally gen` behind a port of the system's choice."""
    command = [options.bin / "microtally", "gen", "--seed", "1", "--total", str(total)]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stderr.readline()
            if "listening on " not in line:
                sys.exit(f"the generator does not listen: {line!r}")
            yield int(line.rsplit(":", 1)[1])
        finally:
            process.terminate()


class Feed:
    """Listens, and sends `data` to the first client.

    With `end`, the stream is ended then. Without, the connection stays as it is until `close`, and
    `send` sends more.
    """

    def __init__(self, data=b"", end=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.data, self.end = data, end
        self.client, self.connected = None, threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # Closed before anybody came.
            self.client, _ = self.listener.accept()
            self.connected.set()
            self.client.sendall(self.data)
            if self.end:
                self.client.shutdown(socket.SHUT_WR)

    def send(self, data):
        if not self.connected.wait(SECONDS_MAX):
            sys.exit("nobody connected to the sender")
        self.client.sendall(data)

    def close(self):
        for open_socket in (self.listener, self.client):
            if open_socket:
                open_socket.close()


def run_words(options, source, stdin=None):
    """`microtally words` to the end of its input: its statistics, wall time and processor time."""
    command = [options.bin / "microtally", "words", "-i", "500ms", "--reconnect", "never"]
    start, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(
        [*command, "--stats=json", source],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=SECONDS_MAX,
    )
    wall = time.perf_counter() - start
    return json.loads(done.stderr.splitlines()[-1]), wall, processor_seconds() - before


class Bench:
    """The rivals, one method each. A method makes one measurement."""

    def __init__(self, options, scratch):
        self.options = options
        self.file = pathlib.Path(scratch) / "text"
        self.counted = pathlib.Path(scratch) / "counted"
        self.spark = None
        needed = max(options.file_size, options.spark_size)
        with self.file.open("wb") as out:
            command = [options.bin / "microtally", "gen", "--seed", "1", "--total", str(needed)]
            subprocess.run(command, stdout=out, check=True)
        with self.file.open("rb") as text:
            # Whole lines, so that everybody agrees on what the last word is.
            data = text.read(options.spark_size)
            self.spark_data = data[: data.rindex(b"\n") + 1]
            text.seek(0)
            data = text.read(options.file_size)
            self.file_bytes = data.rindex(b"\n") + 1
        os.truncate(self.file, self.file_bytes)

    def discard(self):
        """In a process of its own, so that its processor time is known."""
        with generator(self.options, self.options.total) as port:
            before = processor_seconds()
            done = subprocess.run([sys.executable, "-c", DISCARD, str(port)], stdout=subprocess.PIPE, check=True)
            cpu = processor_seconds() - before
        count, seconds, steady = json.loads(done.stdout)
        require(count == self.options.total, "discard received", count)
        return Run(steady, count / seconds, None, count / cpu)

    def words(self):
        with generator(self.options, self.options.total) as port:
            seen, _, cpu = run_words(self.options, f"127.0.0.1:{port}")
        require(seen["bytes"] == self.options.total, "words received", seen["bytes"])
        require(seen["dropped"] == 0, "words dropped", seen["dropped"])
        if seen["steady_allocations"] is None:
            print(f"  words: {seen['batches']} batches: too few for a steady rate; raise --total")
        whole = seen["bytes"] / seen["seconds"]
        return Run(seen["gb_per_s"] * 1e9, whole, seen["tokens"], seen["bytes"] / cpu)

    def same_bytes(self):
        feed = Feed(self.spark_data, end=True)
        seen, _, cpu = run_words(self.options, f"127.0.0.1:{feed.port}")
        feed.close()
        require(seen["bytes"] == len(self.spark_data), "same-bytes received", seen["bytes"])
        rate = seen["bytes"] / seen["seconds"]
        return Run(rate, rate, seen["tokens"], seen["bytes"] / cpu)

    def pyspark(self):
        self.spark = self.spark or Spark()
        data = self.spark_data
        warm_up = data[: data.rindex(b"\n", 0, Spark.WARM_UP_BYTES) + 1]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            seconds, batches = self.spark.count(data, lambda counts: counts.pprint(), warm_up)
        records = data.count(b"\n")
        print(f"  pyspark: {records / seconds:,.0f} records/s in {batches} batches", flush=True)
        return Run(len(data) / seconds, len(data) / seconds, None, None)

    def file_words(self):
        with self.file.open("rb") as text:
            seen, wall, cpu = run_words(self.options, "-", text)
        require(seen["bytes"] == self.file_bytes, "file: bytes", seen["bytes"])
        rate = self.file_bytes / wall
        return Run(rate, rate, seen["tokens"], self.file_bytes / cpu)

    def mawk(self):
        return self.shell(["mawk", MAWK])

    def sort_uniq(self):
        return self.shell(["sh", "-c", r"tr ' ' '\n' | sort | uniq -c"])

    def shell(self, command):
        environment = {**os.environ, "LC_ALL": "C"}
        with self.file.open("rb") as text, self.counted.open("wb") as out:
            start, before = time.perf_counter(), processor_seconds()
            subprocess.run(command, stdin=text, stdout=out, env=environment, check=True)
            wall, cpu = time.perf_counter() - start, processor_seconds() - before
        with self.counted.open("rb") as lines:
            tokens = sum(int(line.split(None, 1)[0]) for line in lines)
        rate = self.file_bytes / wall
        return Run(rate, rate, tokens, self.file_bytes / cpu)


def require(holds, what, value):
    if not holds:
        sys.exit(f"{what}: {value}: this is not what was sent")


class Spark:
    """One session for all rounds; a StreamingContext for each."""

    INTERVAL_S = 5
    WARM_UP_BYTES = 2_000_000

    def __init__(self, **settings):
        # Workers hash strings to choose partitions, so they have to agree on the seed.
        os.environ.setdefault("PYTHONHASHSEED", "0")
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        from pyspark.sql import SparkSession

        # That DStreams are an old interface is known here.
        warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
        builder = SparkSession.builder.master("local[2]").appName("NetworkWordCount")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "2g",
            # Milliseconds. A receiver that waits when it is stopped leaves a stack trace behind.
            "spark.streaming.receiverRestartDelay": "1",
            **settings,
        }.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("OFF")

    def count(self, data, output, warm_up=b""):
        """Runs the tutorial's program on `data`, fed over TCP; returns Spark's own seconds and the batches."""
        from pyspark.streaming import StreamingContext
        from pyspark.streaming.listener import StreamingListener

        batches = []

        class Listener(StreamingListener):
            def onBatchCompleted(self, completed):
                info = completed.batchInfo()
                batches.append((info.numRecords(), info.processingDelay()))

        def wait_for(record_count):
            self.wait_until(lambda: sum(records for records, _ in batches) >= record_count, "pyspark")

        feed = Feed(warm_up)
        ssc = StreamingContext(self.session.sparkContext, self.INTERVAL_S)
        ssc.addStreamingListener(Listener())
        lines = ssc.socketTextStream("127.0.0.1", feed.port)
        words = lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1))
        output(words.reduceByKey(lambda a, b: a + b))
        ssc.start()
        wait_for(warm_up.count(b"\n"))
        measured_from = len(batches)
        # Sent at once and early in an interval, it falls into one batch or two.
        feed.send(data)
        wait_for(warm_up.count(b"\n") + data.count(b"\n"))
        ssc.stop(stopSparkContext=False, stopGraceFully=False)
        feed.close()
        busy = [(records, ms) for records, ms in batches[measured_from:] if records]
        records = sum(records for records, _ in busy)
        require(records == data.count(b"\n"), "pyspark: records", records)
        return sum(ms for _, ms in busy) / 1000, len(busy)

    @staticmethod
    def wait_until(done, what):
        deadline = time.monotonic() + SECONDS_MAX
        while not done():
            if time.monotonic() > deadline:
                sys.exit(f"{what}: not all records came")
            time.sleep(0.05)


def print_summary(runs):
    print(f"\n{'GB/s':12}{'median':>10}{'min':>10}{'max':>10}{'rounds':>8}")
    for name, measured in runs.items():
        rows = {name: [run.steady for run in measured]}
        if any(run.steady != run.whole for run in measured):
            rows["  whole"] = [run.whole for run in measured]
        if all(run.cpu for run in measured):
            rows["  per cpu s"] = [run.cpu for run in measured]
        for label, rates in rows.items():
            middle, low, high = (f(rates) / 1e9 for f in (statistics.median, min, max))
            print(f"{label:12}{middle:10.4f}{low:10.4f}{high:10.4f}{len(rates):8}")
    pairs = [
        ("words", "discard"),
        ("words", "pyspark"),
        ("same-bytes", "pyspark"),
        ("file", "mawk"),
        ("file", "sort-uniq"),
    ]
    print(f"\n{'paired ratio':24}{'median':>10}{'min':>10}{'max':>10}")
    for ours, theirs in pairs:
        if ours in runs and theirs in runs:
            ratios = [a.steady / b.steady for a, b in zip(runs[ours], runs[theirs])]
            low, high = min(ratios), max(ratios)
            label = f"{ours} / {theirs}"
            print(f"{label:24}{statistics.median(ratios):10.2f}{low:10.2f}{high:10.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--total", type=size, default=size("4GB"), help="for discard and words")
    parser.add_argument("--spark-size", type=size, default=size("30MB"))
    parser.add_argument("--file-size", type=size, default=size("64MB"))
    parser.add_argument("--only", type=lambda names: names.split(","), help="some rivals only")
    parser.add_argument("--json", type=pathlib.Path, help="also write all measurements there")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target" / "release")
    options = parser.parse_args()
    options.bin = options.bin.resolve()
    if not (options.bin / "microtally").exists():
        sys.exit("microtally is not built: cargo build --release")
    print_machine(options)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, scratch)
        rivals = {
            "discard": bench.discard,
            "words": bench.words,
            "pyspark": bench.pyspark,
            "same-bytes": bench.same_bytes,
            "file": bench.file_words,
            "mawk": bench.mawk,
            "sort-uniq": bench.sort_uniq,
        }
        missing = {"mawk"} if not shutil.which("mawk") else set()
        try:
            import pyspark  # noqa: F401
        except ImportError:
            missing.add("pyspark")
        wanted = options.only or rivals
        if unknown := [name for name in wanted if name not in rivals]:
            sys.exit(f"no such rival: {', '.join(unknown)}; there are {', '.join(rivals)}")
        rivals = {name: run for name, run in rivals.items() if name in wanted}
        for name in missing & rivals.keys():
            print(f"{name} is not installed and left out")
            del rivals[name]
        runs = {name: [] for name in rivals}
        for number in range(options.rounds):
            load = os.getloadavg()[0]
            print(f"round {number + 1} of {options.rounds}, load {load:.2f}", flush=True)
            # There and back, so that nobody is always behind the same neighbour.
            for name in list(rivals)[:: -1 if number % 2 else 1]:
                run = rivals[name]()
                runs[name].append(run)
                print(f"  {name:12}{run.steady / 1e9:8.4f} GB/s", flush=True)
        check_words(bench, runs)
        print_summary(runs)
    if options.json:
        rows = {name: [run._asdict() for run in measured] for name, measured in runs.items()}
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def check_words(bench, runs):
    """The generator puts one blank or line end behind each word, so counting those counts words."""
    text = bench.file.read_bytes()
    in_file = text.count(b" ") + text.count(b"\n")
    in_spark_data = bench.spark_data.count(b" ") + bench.spark_data.count(b"\n")
    expected = {"file": in_file, "mawk": in_file, "sort-uniq": in_file, "same-bytes": in_spark_data}
    for name in expected.keys() & runs.keys():
        for run in runs[name]:
            require(run.tokens == expected[name], f"{name}: words", run.tokens)
    print(f"\nwords counted agree: {in_file} in the file, {in_spark_data} in what pyspark got")


if __name__ == "__main__":
    main()
