"""Prints the table of src/repr/printable.rs: where `str.isprintable` changes its answer.

Run it with Python 3.11 (Unicode 14.0.0), the newest Python that the PySpark 3.5 package names,
and put the output in place of the lines between the two marks in printable.rs.
"""

import sys
import textwrap
import unicodedata

UNICODE = "14.0.0"


def main():
    if unicodedata.unidata_version != UNICODE:
        sys.exit(f"Unicode {UNICODE} wanted (Python 3.11), this is {unicodedata.unidata_version}")

    # The first stretch is never printable, the next one is, and so on by turns.
    answers = [chr(code).isprintable() for code in range(0x110000)]
    stretches, start = [], 0
    for code in range(1, 0x110000):
        if answers[code] != answers[code - 1]:
            stretches.append(code - start)
            start = code
    assert not answers[0] and not answers[start]  # The last stretch runs to the end unnamed.

    # FNV-1a over one byte a code point, for the test that asks about every one of them.
    digest = 0xCBF29CE484222325
    for answer in answers:
        digest = (digest ^ answer) * 0x100000001B3 % 2**64

    print("#[rustfmt::skip]")
    print(f"const STRETCHES: [u32; {len(stretches)}] = [")
    body = ",".join(map(str, stretches)) + ","
    for line in textwrap.wrap(body.replace(",", ", "), 95):
        print("    " + line)
    print("];")
    print("#[cfg(test)]")
    print(f"const PRINTABLE_COUNT: u32 = {sum(answers):_};")
    print("#[cfg(test)]")
    groups = textwrap.wrap(f"{digest:016x}", 4)
    print(f"const PRINTABLE_DIGEST: u64 = 0x{'_'.join(groups)};")


if __name__ == "__main__":
    main()
