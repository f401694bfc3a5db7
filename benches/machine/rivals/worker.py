"""One rival that is a Python library, in a process of its own; rivals.py starts it and talks to it.

    python worker.py NAME     NAME: polars, duckdb, chdb, bytewax, dstream, structured, version; polars, duckdb
                            and chdb with -lines behind it count whole lines

A request is a line of JSON on standard input, {"file": PATH, "out": PATH}: count the words of `file`. The
answer is a line of JSON on standard output, {"seconds": S, "cpu": S or null}; counting is timed, writing
`count word` lines to `out` for rivals.py to check is not, except where Spark writes them itself. `version
NAME` prints the version instead. What libraries print to standard output goes to standard error.

A word is what stands between two separators, a blank or a line end, and may be empty.
"""

import collections
import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from compare import Spark  # noqa: E402

THREADS = 2
# As many partitions as there are threads; the default of 200 is for clusters.
SPARK = {"spark.driver.memory": "4g", "spark.sql.shuffle.partitions": str(THREADS)}
# A character that no text has, so that a reader of columns takes a line for one.
NO_COLUMN = "\x01"


def write_counts(path, counts):
    with open(path, "wb") as out:
        for word, count in counts:
            out.write(b"%d %s\n" % (count, word if isinstance(word, bytes) else word.encode()))


class Polars:
    """The streaming engine over `scan_csv`: of scan_lines, scan_csv, both engines, value_counts and
    categories this was the fastest."""

    def __init__(self):
        os.environ["POLARS_MAX_THREADS"] = str(THREADS)
        import polars

        self.polars = polars

    def count(self, path, split=True):
        pl = self.polars
        lines = pl.scan_csv(
            path,
            has_header=False,
            separator=NO_COLUMN,
            quote_char=None,
            empty_string_is_null=False,
            schema={"word": pl.String},
        )
        words = lines.select(pl.col("word").str.split(" ").explode()) if split else lines
        return words.group_by("word").agg(pl.len()).collect(engine="streaming")

    def rows(self, counted):
        return counted.iter_rows()


class DuckDB:
    """`string_split` over `read_csv`; `regexp_split_to_array` and a stored table were no faster."""

    def __init__(self):
        import duckdb

        self.connection = duckdb.connect()
        self.connection.execute(f"SET threads={THREADS}")
        self.connection.execute("SET preserve_insertion_order=false")

    def count(self, path, split=True):
        lines = (
            f"read_csv('{path}', header=false, auto_detect=false, delim='{NO_COLUMN}', quote='', "
            "escape='', columns={'line': 'VARCHAR'})"
        )
        # A line without anything is NULL to this reader.
        words = "unnest(string_split(coalesce(line, ''), ' '))" if split else "coalesce(line, '')"
        query = f"SELECT word, count(*) FROM (SELECT {words} AS word FROM {lines}) GROUP BY word"
        return self.connection.sql(query).to_arrow_table()

    def rows(self, counted):
        return zip(*(column.to_pylist() for column in counted.columns))


class Chdb:
    """ClickHouse in the process; the answer as Arrow."""

    def __init__(self):
        from chdb.session import Session

        self.session = Session()

    def count(self, path, split=True):
        lines = f"file('{path}', 'LineAsString', 'line String')"
        word = "arrayJoin(splitByChar(' ', line))" if split else "line"
        words = f"SELECT {word} AS word, count() AS n FROM {lines}"
        return self.session.query(f"{words} GROUP BY word SETTINGS max_threads={THREADS}", "Arrow")

    def rows(self, counted):
        import pyarrow

        table = pyarrow.ipc.open_file(pyarrow.py_buffer(counted.bytes())).read_all()
        return zip(*(column.to_pylist() for column in table.columns))


class Bytewax:
    """Its file source in large batches, each counted by a Counter before the counts are reduced.

    That is three to four times as fast as the word by word way of its documentation. One worker: Python
    runs one thread.
    """

    BATCH_LINES = 100_000

    def count(self, path):
        import bytewax.operators as op
        from bytewax.connectors.files import FileSource
        from bytewax.dataflow import Dataflow
        from bytewax.testing import TestingSink, run_main

        def count_batch(lines):
            # Joined, so that one call splits them all; the blank between two lines is a line end.
            return collections.Counter(" ".join(lines).split(" ")).items()

        counted = []
        flow = Dataflow("word_count")
        lines = op.input("lines", flow, FileSource(path, batch_size=self.BATCH_LINES))
        parts = op.flat_map_batch("count", lines, count_batch)
        counts = op.reduce_final("add", parts, lambda a, b: a + b)
        op.output("out", counts, TestingSink(counted))
        run_main(flow)
        return counted

    def rows(self, counted):
        return counted


class DStream(Spark):
    """The tutorial's program, fed over TCP; it collects all counts of a batch where that prints ten.

    The seconds are those that Spark gives as its own for the batches that had records, without waiting and
    receiving. All text is sent at once, so it falls into one batch or two.
    """

    def __init__(self):
        super().__init__(**SPARK)

    def stream(self, path, out):
        counts = collections.Counter()

        def add(rdd):
            for word, count in rdd.collect():
                counts[word] += count

        data = pathlib.Path(path).read_bytes()
        seconds, _ = self.count(data, lambda counted: counted.foreachRDD(add))
        write_counts(out, counts.items())
        return seconds


class Structured(Spark):
    """Structured streaming over files, each micro-batch counted and written as text.

    Not over TCP: its socket source is meant for tests, and a batch takes more than in proportion to its rows:
    1, 4 and 8 MB took 2, 11 and 32 s when this was written, 32 MB did not end in 100 s.
    The batch is one file that appears at once.
    """

    INTERVAL_S = 1

    def __init__(self):
        super().__init__(**SPARK)

    def stream(self, path, out):
        from pyspark.sql import functions as F

        folder = pathlib.Path(f"{out}.d")
        source, sink = folder / "source", folder / "sink"
        source.mkdir(parents=True)

        def count(words, number):
            line = F.concat_ws(" ", F.col("count"), F.col("word"))
            counts = words.groupBy("word").count().select(line)
            counts.write.mode("overwrite").text(str(sink / str(number)))

        lines = self.session.readStream.text(str(source))
        words = lines.select(F.explode(F.split(lines.value, " ")).alias("word"))
        stream = words.writeStream.foreachBatch(count)
        query = stream.trigger(processingTime=f"{self.INTERVAL_S} seconds").start()
        shutil.copyfile(path, folder / "text")
        (folder / "text").rename(source / "text")
        records = pathlib.Path(path).read_bytes().count(b"\n")

        def progress():
            if query.exception():
                sys.exit(f"structured: {query.exception()}")
            return [batch for batch in query.recentProgress if batch["numInputRows"]]

        self.wait_until(lambda: sum(b["numInputRows"] for b in progress()) >= records, "structured")
        seconds = sum(batch["durationMs"]["triggerExecution"] for batch in progress()) / 1000
        query.stop()
        with open(out, "wb") as together:
            for part in sink.glob("*/part-*"):
                together.write(part.read_bytes())
        shutil.rmtree(folder)
        return seconds


RIVALS = {
    "polars": (Polars, "polars"),
    "duckdb": (DuckDB, "duckdb"),
    "chdb": (Chdb, "chdb"),
    "bytewax": (Bytewax, "bytewax"),
    "dstream": (DStream, "pyspark"),
    "structured": (Structured, "pyspark"),
}


def main():
    if sys.argv[1] == "version":
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            print(importlib.metadata.version(RIVALS[sys.argv[2].removesuffix("-lines")][1]))
        return
    # Answers go where standard output was; what a library prints must not be taken for one.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name = sys.argv[1].removesuffix("-lines")
    rival = RIVALS[name][0]()
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(rival, Spark):
            answer = {"seconds": rival.stream(request["file"], request["out"]), "cpu": None}
        else:
            start, before = time.perf_counter(), time.process_time()
            whole_lines = {} if name == sys.argv[1] else {"split": False}
            counted = rival.count(request["file"], **whole_lines)
            seconds, cpu = time.perf_counter() - start, time.process_time() - before
            write_counts(request["out"], rival.rows(counted))
            answer = {"seconds": seconds, "cpu": cpu}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
