"""Runs microtally beside PySpark on the same bytes and compares what the two print.

    python compare.py BINARY [CASE ...] [--random N] [--seed S] [--no-spark]

Both read from a local server as they would from netcat. Batches are summed, because the two may
cut the stream at different moments; then every count and every record line has to be the same.
What only microtally promises is checked too: its order, its batch times, its exit.

--random adds N hostile inputs, sent in random pieces. --no-spark needs neither Java nor PySpark:
cases are held against expected/, random inputs against the model in capture.py.
"""

import argparse
import ast
import base64
import concurrent.futures
import datetime
import json
import os
import random
import subprocess
import sys
import unicodedata

import capture

RUN_SECONDS_MAX = 30

# What a splitter, a hash table or a printer may take for something else. The blanks, the ends of
# lines and the short words come often enough for words to repeat.
NASTY = [
    *[" "] * 30,
    *["\n"] * 6,
    *["\r"] * 2,
    *["\r\n"] * 3,
    *["a", "b", "aa", "ab", "word", "Spark"] * 6,
    *["\t", "\x0b", "\x0c", "\0", "\x01", "\x08", "\x1b", "\x1b[31m", "\x1c", "\x1f", "\x7f"],
    *["'", '"', "\\", "\\n", "\\x41", "(", ")", ", ", "...", "-" * 43],
    *["\x80", "\x85", "\x9b", "\xa0", "\xad", "é", "e\u0301", "\u0378", "\u061c", "\u1680"],
    *["\u200b", "\u200d", "\u2028", "\u2029", "\u202e", "\u2066", "\u3000", "\ufeff", "\ufffd"],
    *["汉字", "한", "\ue000", "\uffff", "😀", "🫨", "\U000e0001", "\U0010ffff"],
    *["1234567", "12345678", "123456789", "x" * 15, "x" * 16, "x" * 17, "y" * 31, "y" * 32],
    *["z" * 63, "z" * 64, "z" * 65, "q" * 300],
]


def random_pieces(rng):
    """Valid UTF-8 of up to some KB, cut anywhere: inside characters and between CR and LF."""
    text = "".join(rng.choice(NASTY) for _ in range(rng.randrange(1, 1500)))
    # Any character at all, once in a while.
    for _ in range(rng.randrange(20)):
        code = rng.randrange(0x110000 - 0x800)
        at = rng.randrange(len(text) + 1)
        text = text[:at] + chr(code if code < 0xD800 else code + 0x800) + text[at:]
    data = text.encode()
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(60)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)]) if a < b]


def run_microtally(binary, pieces, split):
    """The batches that microtally prints, after a check of all that only it promises."""
    feed = capture.Feed(*pieces)
    address = f"tcp://127.0.0.1:{feed.port}"
    arguments = [binary, "words", address, "--interval", "1s", "--top", "all"]
    arguments += ["--reconnect", "never"]
    if split is None:
        arguments.append("--split-whitespace")
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_SECONDS_MAX,
            env={**os.environ, "TZ": "UTC"},  # No clock change between two batch times.
        )
    finally:
        feed.close()
    if done.returncode != 0:
        raise ValueError(f"exit {done.returncode}: {done.stderr.decode(errors='replace')}")

    batches = capture.parse_pprint(done.stdout.decode())
    times = [datetime.datetime.fromisoformat(batch.time) for batch in batches]
    for before, after in zip(times, times[1:]):
        if after - before != datetime.timedelta(seconds=1):
            raise ValueError(f"batch {before} is followed by batch {after}")
    for batch in batches:
        records = [ast.literal_eval(line) for line in batch.lines]
        if records != capture.in_our_order(dict(records)):
            raise ValueError(f"batch {batch.time} is out of order or has a key twice")
    return batches


def expected_file(name):
    """The content of expected/<name>.json in the form that `capture.merge` returns."""
    case = json.loads((capture.EXPECTED / f"{name}.json").read_text())
    pairs = zip(case["counts"], case["lines"])
    return {key: (count, capture.RECORD.fullmatch(line)[1]) for (key, count), line in pairs}


def differences(ours, reference):
    for key in sorted(ours.keys() | reference.keys()):
        (count, text), (wanted, wanted_text) = (
            side.get(key, (0, None)) for side in (ours, reference)
        )
        if (count, text) != (wanted, wanted_text):
            yield f"{key!a}: microtally {text!a} {count}, reference {wanted_text!a} {wanted}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("binary")
    parser.add_argument("case", nargs="*")
    parser.add_argument("--random", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--no-spark", action="store_true")
    options = parser.parse_args()

    named = capture.cases()
    if unknown := [name for name in options.case if name not in named]:
        parser.error(f"no such case: {', '.join(unknown)}")
    # Only random inputs were asked for when no case is named beside them.
    chosen = options.case or ([] if options.random else list(named))
    runs = [(name, [named[name][0]], named[name][1]) for name in chosen]
    for seed in range(options.seed, options.seed + options.random):
        rng = random.Random(seed)
        runs.append((f"random seed {seed}", random_pieces(rng), rng.choice([" ", None])))

    if unicodedata.unidata_version != "14.0.0":
        print("warning: not Python 3.11, new characters will be printed in another way")
    spark = None if options.no_spark else capture.Spark()

    def reference(name, pieces, split):
        if spark:
            return capture.merge(spark.count(pieces, split))
        if name in named:
            return expected_file(name)
        counts = capture.model(b"".join(pieces), split)
        return {key: (count, f"({key!r}") for key, count in counts.items()}

    failed_count = 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for name, pieces, split in runs:
            ours = pool.submit(run_microtally, options.binary, pieces, split)
            wanted = reference(name, pieces, split)
            try:
                found = list(differences(capture.merge(ours.result()), wanted))
            except (OSError, SyntaxError, ValueError, subprocess.TimeoutExpired) as error:
                found = [str(error)]
            token_count = sum(count for count, _ in wanted.values())
            what = f"{name}: {len(wanted)} keys, {token_count} tokens"
            print(f"{'FAILED' if found else 'same'}  {what}", flush=True)
            for difference in found[:10]:
                print(f"        {difference}")
            if found:
                failed_count += 1
                data = base64.b64encode(b"".join(pieces)).decode()
                print(f"        split {split!r}, input {data}")
    print(f"{len(runs)} runs, {failed_count} failed")
    return failed_count > 0


if __name__ == "__main__":
    sys.exit(main())
