#!/usr/bin/env python3
"""Records `microtally top` on a growing access log, and writes docs/top.svg.

    cargo build --release
    python3 docs/record.py [--program target/release/microtally] [--frames 6]

Needs tmux. The run is real: a thread appends requests to a log, the program follows it in a terminal of
tmux, and what the terminal shows, colours included, becomes the frames of the picture.
"""

import argparse
import html
import itertools
import pathlib
import random
import re
import subprocess
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS, ROWS = 84, 16
WARM_UP_S, FRAME_S = 8, 1.0
LINES_A_SECOND = 40_000

CELL, LINE, FONT, PAD, BAR = 8.4, 19, 14, 14, 34
BACKGROUND, FOREGROUND, DIM = "#16181d", "#d7dae0", "#7d838f"
COLOURS = dict(enumerate("#16181d #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #d7dae0".split()))

PATHS = (
    "/ /login /search?q=rust /api/v1/cart /static/app.js /api/v1/orders /static/site.css /about "
    "/api/v1/items/17 /robots.txt /favicon.ico /api/v1/items/42 /checkout /api/v1/users/me /docs "
    "/wp-login.php /health /api/v1/items/5 /feed.xml /static/logo.svg /contact /.env /sitemap.xml"
).split()


def write_log(log, stop):
    """Appends requests in pieces, fifty times a second."""
    chance = random.Random(1)
    weights = [1 / rank for rank in range(1, len(PATHS) + 1)]
    while not stop.is_set():
        # Every path has its better and its worse seconds.
        weights = [max(w * chance.uniform(0.9, 1.11), 0.02) for w in weights]
        for path in chance.choices(PATHS, weights, k=LINES_A_SECOND // 50):
            log.write(
                f"203.0.113.{chance.randrange(256)} - - [29/Nov/2026:10:00:00 +0000] "
                f'"GET {path} HTTP/1.1" 200 {chance.randrange(9999)}\n'
            )
        log.flush()
        stop.wait(0.02)


def tmux(*arguments):
    command = ["tmux", "-L", "microtally-record", "-f", "/dev/null", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(program, frames):
    """What the terminal shows, once a frame: lines with escape sequences."""
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/access.log", "w") as log:
        stop = threading.Event()
        writer = threading.Thread(target=write_log, args=(log, stop))
        writer.start()
        try:
            size = ["-x", str(COLUMNS), "-y", str(ROWS), "-c", folder]
            tmux("new-session", "-d", *size, f"{program} top -F -k field:7 access.log")
            time.sleep(WARM_UP_S)
            for _ in range(frames):
                time.sleep(FRAME_S)
                yield tmux("capture-pane", "-e", "-p").splitlines()
            tmux("kill-server")
        finally:
            stop.set()
            writer.join()


def spans(line, style):
    """Pieces of a line with their column and style. `style` lives on from line to line."""
    column = 0
    for piece in re.split(r"(\x1b\[[\d;]*m)", line):
        codes = re.fullmatch(r"\x1b\[([\d;]*)m", piece)
        if not codes:
            if piece:
                yield column, piece, dict(style)
            column += len(piece)
            continue
        numbers = iter([int(code or 0) for code in codes[1].split(";")])
        for code in numbers:
            if code == 0:
                style.clear()
            elif code in (1, 2, 4, 7):
                style[code] = True
            elif code == 22:
                style.pop(1, None), style.pop(2, None)
            elif code in (24, 27):
                style.pop(code - 20, None)
            elif code == 38 and next(numbers) == 5:
                style["colour"] = COLOURS.get(next(numbers) % 8)
            elif 30 <= code <= 37:
                style["colour"] = COLOURS[code - 30]
            elif code == 39:
                style.pop("colour", None)


def drawn(lines):
    """One frame's rows as SVG."""
    style, rows = {}, []
    for number, line in enumerate(lines):
        y = BAR + PAD + LINE * (number + 1) - 5
        boxes, texts = [], []
        for column, text, how in spans(line, style):
            x, width = PAD + CELL * column, CELL * len(text)
            if how.get(7):
                boxes.append(f'<rect x="{x:.1f}" y="{y - 14}" width="{width:.1f}" height="{LINE}" fill="{FOREGROUND}"/>')
            if how.get(4):
                boxes.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="1" fill="{DIM}"/>')
            inner = text.strip()
            if not inner:
                continue
            x += CELL * (len(text) - len(text.lstrip()))
            colour = BACKGROUND if how.get(7) else how.get("colour") or (DIM if how.get(2) else None)
            fill = f' fill="{colour}"' if colour else ""
            bold = ' font-weight="700"' if how.get(1) else ""
            length = f' textLength="{CELL * len(inner):.1f}"'
            texts.append(f'<tspan x="{x:.1f}"{length}{fill}{bold}>{html.escape(inner, False)}</tspan>')
        rows.append("".join(boxes) + (f'<text y="{y}">{"".join(texts)}</text>' if texts else ""))
    return rows


def picture(frames):
    """An SVG in which rows that never change are drawn once, and the others take turns."""
    width, height = 2 * PAD + CELL * COLUMNS, BAR + 2 * PAD + LINE * ROWS
    drawings = [drawn(lines) for lines in frames]
    share, count = 100 / len(drawings), len(drawings)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">',
        "<title>microtally top -F -k field:7 access.log</title>",
        f"<style>text{{font:{FONT}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{FOREGROUND};white-space:pre}}.f{{visibility:hidden;animation:f {count * FRAME_S:.0f}s step-end infinite}}"
        f"@keyframes f{{0%{{visibility:visible}}{share:.3f}%{{visibility:hidden}}}}"
        # Where nothing moves, or nothing may move, the first frame stays.
        f".f0{{visibility:visible}}@media (prefers-reduced-motion){{.f{{animation:none}}}}</style>",
        f'<rect width="100%" height="100%" rx="9" fill="{BACKGROUND}"/>',
        *(f'<circle cx="{20 + 20 * at}" cy="17" r="6" fill="{COLOURS[colour]}"/>' for at, colour in enumerate((1, 3, 2))),
        f'<text x="{width / 2:.0f}" y="22" text-anchor="middle" fill="{DIM}">$ microtally top -F -k field:7 access.log</text>',
    ]
    rows = list(itertools.zip_longest(*drawings, fillvalue=""))
    out += [row[0] for row in rows if len(set(row)) == 1 and row[0]]
    for number in range(count):
        moving = "".join(row[number] for row in rows if len(set(row)) > 1)
        delay = f"animation-delay:{number * FRAME_S:.0f}s" if number else ""
        out.append(f'<g class="f f{number}"{f" style={chr(34)}{delay}{chr(34)}" if delay else ""}>{moving}</g>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=HERE.parent / "target/release/microtally")
    parser.add_argument("--frames", type=int, default=6)
    options = parser.parse_args()
    text = picture(list(record(options.program.resolve(), options.frames)))
    (HERE / "top.svg").write_text(text)
    print(f"docs/top.svg: {len(text)} bytes")


if __name__ == "__main__":
    main()
