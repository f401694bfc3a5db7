"""Runs the tutorial's word count in PySpark and writes what it counted and printed.

Each case is an input and a way to split it. A local server sends the input in one piece to Spark's
socket receiver and closes; what pprint prints is read back and becomes expected/<case>.json.
Inputs are valid UTF-8 only: what else there is, Spark replaces and microtally keeps.

    python capture.py [CASE ...]        all cases when none is named

Every case is also held against a model of a few lines (see `model`). A difference is printed: it
means that either Spark or our reading of it is not what we think.
"""

import ast
import base64
import collections
import contextlib
import io
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time

EXPECTED = pathlib.Path(__file__).resolve().parent / "expected"
DASHES = "-" * 43
RECORD = re.compile(r"(\(.*), ([0-9]+)\)")
CASE_SECONDS_MAX = 30


class Feed:
    """Listens on a free port, sends the pieces to the first that connects, and closes.

    Whoever connects later is held and gets nothing, so a receiver that reconnects stays quiet.
    """

    def __init__(self, *pieces):
        self.pieces = pieces
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.held = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # `close` ends the wait for the next one.
            first, _ = self.listener.accept()
            with first:
                first.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in self.pieces:
                    first.sendall(piece)
                    time.sleep(0.002)  # So that pieces are likely to be read one by one.
                first.shutdown(socket.SHUT_WR)
                first.settimeout(5)
                first.recv(1)  # Until the reader closes too, so that nothing is reset.
            while True:
                self.held.append(self.listener.accept()[0])

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for connection in [self.listener, *self.held]:
            connection.close()


def lines_of(data):
    """Records as Java's BufferedReader.readLine returns them."""
    lines = re.split("\r\n|\r|\n", data.decode())
    return lines if lines[-1] else lines[:-1]


def splitter(split):
    """What is given to flatMap: a lambda, as Spark's workers cannot import functions from here."""
    if split == " ":
        return lambda line: line.split(" ")
    # Not line.split(): that also splits at U+0085, U+00A0, U+2028 and the like, and ours is ASCII.
    return lambda line: [token.decode() for token in line.encode().split()]


def model(data, split):
    """What the counts should be, without Spark."""
    to_words = splitter(split)
    return collections.Counter(word for line in lines_of(data) for word in to_words(line))


def in_our_order(counts):
    """Highest count first, then by the bytes of the key."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))


class Batch(collections.namedtuple("Batch", "time lines")):
    """One block of pprint: the text behind `Time: ` and the lines of the records."""


def parse_pprint(text):
    """Cuts pprint's output into batches and refuses anything that is not its format."""
    batches, lines, at = [], text.split("\n"), 0
    if lines.pop() != "":
        raise ValueError("output ends inside a line")
    while at < len(lines):
        head = lines[at : at + 3]
        if len(head) < 3 or head[0] != DASHES or head[2] != DASHES:
            raise ValueError(f"no pprint header in line {at + 1}: {head!r}")
        if not re.fullmatch(r"Time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", head[1]):
            raise ValueError(f"no whole second in line {at + 2}: {head[1]!r}")
        if "" not in lines[at + 3 :]:
            raise ValueError(f"no empty line behind the batch in line {at + 1}")
        end = lines.index("", at + 3)
        batches.append(Batch(head[1][6:], lines[at + 3 : end]))
        at = end + 1
    return batches


def merge(batches):
    """Sums batches into {key: (count, printed key)}; the key is what Python reads the text as."""
    merged = {}
    for batch in batches:
        for line in batch.lines:
            match = RECORD.fullmatch(line)
            if not match:
                raise ValueError(f"no record: {line!r}")
            key, count = ast.literal_eval(line)
            before = merged.get(key, (0, match[1]))
            if before[1] != match[1]:
                raise ValueError(f"one key printed in two ways: {before[1]!r}, {match[1]!r}")
            merged[key] = (before[0] + count, match[1])
    return merged


class Spark:
    """One SparkContext; `count` runs one StreamingContext of 1 s batches in it."""

    def __init__(self):
        # Workers hash strings to choose partitions, so they have to agree on the seed.
        os.environ.setdefault("PYTHONHASHSEED", "0")
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        import pyspark

        conf = pyspark.SparkConf().setMaster("local[2]").setAppName("reference")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            # Milliseconds. Reconnected and held, a receiver is quiet and stops without a trace.
            "spark.streaming.receiverRestartDelay": "1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }.items():
            conf.set(name, value)
        self.context = pyspark.SparkContext(conf=conf)
        # Each end of a connection is logged as an error with a stack trace.
        self.context.setLogLevel("OFF")
        self.version = pyspark.__version__

    def count(self, pieces, split):
        """The non-empty batches that PySpark prints when it is sent `pieces`."""
        from pyspark.streaming import StreamingContext

        wanted, received, printed, texts = lines_of(b"".join(pieces)), [], io.StringIO(), [""]

        def note(rdd):
            received.extend(rdd.collect())
            texts.append(printed.getvalue())

        feed, to_words = Feed(*pieces), splitter(split)
        ssc = StreamingContext(self.context, 1)
        lines = ssc.socketTextStream("127.0.0.1", feed.port)
        words = lines.flatMap(to_words).map(lambda word: (word, 1))
        words.reduceByKey(lambda a, b: a + b).pprint(1000000)
        lines.foreachRDD(note)  # Registered last: a batch it has seen is printed.
        with contextlib.redirect_stdout(printed):
            ssc.start()
            deadline = time.monotonic() + CASE_SECONDS_MAX
            # Every record, then one more batch to see that nothing follows.
            while len(received) < len(wanted) and time.monotonic() < deadline:
                time.sleep(0.02)
            batch_count = len(texts) + 1
            while len(texts) < batch_count and time.monotonic() < deadline:
                time.sleep(0.02)
            ssc.stop(stopSparkContext=False, stopGraceFully=False)
        feed.close()
        if received != wanted:
            print(f"  records: Spark {received!r}, model {wanted!r}", file=sys.stderr)
        return [batch for batch in parse_pprint(texts[-1]) if batch.lines]


def deviations(merged, data, split):
    """Differences between what Spark printed and what we believe that it prints."""
    expected = model(data, split)
    for key in sorted(expected.keys() | merged.keys()):
        count, text = merged.get(key, (0, None))
        if count != expected[key]:
            yield f"count of {key!r}: Spark {count}, model {expected[key]}"
        if text is not None and text != f"({key!r}":
            yield f"text of {key!r}: Spark prints {text!r}"


TUTORIAL = """\
The first program that most people run on a stream counts words. Somebody types lines
in one window; in the other window, once a second, a short table of words appears, and
next to each of the words stands how often it came during that second.

Open a terminal for the sender and leave it listening:

\t$ nc -lk 9999           # -k keeps it there for the next reader

Open another one for the reader, which calls ("dials") the sender by host and port.
Whatever is typed now, hello world for example, goes over the wire as bytes. The reader
puts lines together from the bytes, cuts the lines at each blank, and adds up: hello
comes out as ('hello', 1), and world as ('world', 1). Type hello hello hello and there
is one row, not three, because equal words are added up before they are printed.
  A line that begins with two blanks, like this one,  has empty words in it:
  there is nothing between one blank and the next, and nothing  is a word too.
An empty line holds exactly one of them. That isn't a mistake, it's what split(" ")
does; those who don't want it use split() instead, which takes blanks as they come.

Upper and lower case are different: Hello is not hello, and HELLO is neither. A comma
sticks to its word, so that hello, and hello. and hello are three words here. The same
goes for "quoted words", for (words in brackets) and for C:\\paths\\to\\files.

What was counted in one second is forgotten in the next. To keep a total, or to look at
the last minute as a whole, there are windows, but the word count has no need of them.
When the sender goes away the reader waits, prints a table without rows every second,
and goes on as soon as somebody listens at the port again. To end it all, press Ctrl-C
in the one window and then in the other; it does not matter in which order, or when.
Naive cafes may have accents: a na\u00efve caf\u00e9 and a cafe are counted one by one.
"""


def inputs():
    """The hand-made inputs, as text."""
    sized = {n: "".join(chr(97 + i % 26) for i in range(n)) for n in (7, 8, 9, 15, 16, 17, 100)}
    # Same length, same begin or end: what a hash or a compare that looks at a part mistakes.
    alike = [w[:-1] + "Z" for w in sized.values()] + ["Z" + w[1:] for w in sized.values()]
    return {
        "tutorial": TUTORIAL,
        "empty_lines": "\n\na\n\n\n\nb a\n\n",
        "blank_runs": "a  b   c    d\na          a\nb  c  b\n",
        "blank_edges": " a\nb \n  a  \n b b \n   c\nd   \n",
        "tabs": "a\tb\ta\tb c\n\t\n\ta\na\t\n\t \t\na\tb\n",
        "line_ends": "a\r\nb\rc\r\r\nd\n\re\r\n\r\nf\n\n\rg a\r\rb\r\n\r\r\r\n",
        "last_line_open": "a b\nb a\na b last",
        "last_line_cr": "a b\r\nb a\r",
        "last_line_blank": "a\n ",
        "separators_only": " \n  \n\n   \r\n \r \t \n",
        "newlines_only": "\n\r\n\r\r\n\n",
        "one_newline": "\n",
        "nul": "a\0b a\0b a b\n\0\n\0 \0\0 \0\n\0a a\0\nab \0\0",
        "not_separators": "a\x0bb\x0cc\x85d\u2028e\u2029f\n\x0b \x0c \x85 \u2028 \u2029\n"
        "\x1c \x1d \x1e \x1f \xa0 \u2000 \u3000 \u180e \u200b\na\x0b a\x0c a\x85 a\xa0 \x0ba\n",
        "bom": "\ufeffa a\n\ufeffa \ufeff a\ufeffb\n\ufeff\n",
        "quotes": "don't \"hi\" 'a' \"don't\" ' \" '' \"\" '\" \"' `\n"
        "\\ \\\\ \\n \\t \\' \\\" '\\ \"\\ "
        "'\\\" \\x41 \\u0041 C:\\new\\table\n('a', 1) , ) ( ... 'x',\n",
        "unicode": "é e\u0301 ñ Ä ß ǅ ﬁ 汉字 漢字 かな カナ 한국어 עברית العربية हिन्दी ไทย 汉字 é\n"
        "😀 👩\u200d👧 👍🏽 🇨🇭 ❤\ufe0f ❤ 𝕏 𠀀 🫧 🫨 😀\n",
        "invisible": "a\u202eb a\u202db \u2066a\u2069 a\u200bb a\u200cb a\u200db a\u2060b \xad "
        "\u061c \u200e \u200f ab\n\ue000 \uf8ff \U000f0000 \U0010ffff \ufffe \uffff \ufdd0 \ufffd "
        "\ufff9\n\u0378 \u05ff \U0001fae8 \U000e0001 \U000e0041 \U0003fffd \u2fff \u20c1 \u00a0\n",
        "utf8_edges": "\x7f \x80 \x9f \xa0 \xa1 \xff \u0100 \u07ff \u0800 \ud7ff \ue000 \uffff "
        "\U00010000 \U0010fffd\n",
        "sizes": " ".join([*sized.values(), *alike]) + "\n" + " ".join(sized.values()) + "\n",
        "escapes": "\x1b[31mred\x1b[0m \x1b[2J \x1b]0;title\x07 \x1bP1$r\x1b\\ \x9b31m \x07 \x08 "
        "a\x08b \x1b \x7f\n\x01 \x02 \x0e \x0f \x1a \x1b[31mred\x1b[0m\n",
    }


def cases():
    """Every input split both ways: {name: (data, split)}."""
    named = {}
    for name, text in inputs().items():
        named[name] = (text.encode(), " ")
        named[name + ".whitespace"] = (text.encode(), None)
    return named


def to_json(name, data, split, merged):
    """ASCII only, one record a line: a file with bidi characters in it cannot be reviewed."""
    ordered = in_our_order({key: count for key, (count, _) in merged.items()})
    counts = [json.dumps(pair) for pair in ordered]
    lines = [json.dumps(f"{merged[key][1]}, {count})") for key, count in ordered]
    fields = [
        f'"case": {json.dumps(name)}',
        f'"input_b64": "{base64.b64encode(data).decode()}"',
        f'"split": {json.dumps(split)}',
    ]
    for field, items in ("counts", counts), ("lines", lines):
        fields.append(f'"{field}": [' + ",".join(f"\n  {item}" for item in items) + "\n ]")
    return "{\n " + ",\n ".join(fields) + "\n}\n"


def main():
    named = cases()
    chosen = sys.argv[1:] or list(named)
    if unknown := [name for name in chosen if name not in named]:
        sys.exit(f"no such case: {', '.join(unknown)}")
    spark = Spark()
    print(f"PySpark {spark.version}, Python {sys.version.split()[0]}")
    EXPECTED.mkdir(exist_ok=True)
    deviation_count = 0
    for name in chosen:
        data, split = named[name]
        for _ in range(5):
            batches = spark.count([data], split)
            # The receiver may cut a block in the middle; then once more, for whole lines.
            if len(batches) <= 1:
                break
        merged = merge(batches)
        (EXPECTED / f"{name}.json").write_text(to_json(name, data, split, merged))
        print(f"{name}: {len(data)} bytes, {len(merged)} keys, {len(batches)} batches", flush=True)
        for deviation in deviations(merged, data, split):
            deviation_count += 1
            print(f"  deviation: {deviation}")
    print(f"{len(chosen)} cases, {deviation_count} deviations from the model and from repr")
    return deviation_count > 0


if __name__ == "__main__":
    sys.exit(main())
