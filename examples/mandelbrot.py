#!/usr/bin/env python3
"""Draws the Mandelbrot set with Errand: every tile is a member of a group.

    make run                        # in one terminal
    examples/mandelbrot.py out.png  # in another

Needs nothing but Python's standard library.
"""

import argparse
import base64
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib

# Colours between which the palette runs, around a circle.
STOPS = [
    (0.00, (255, 180, 60)),
    (0.10, (190, 70, 20)),
    (0.22, (60, 10, 40)),
    (0.30, (10, 15, 70)),
    (0.45, (25, 95, 170)),
    (0.62, (160, 220, 240)),
    (0.75, (255, 250, 230)),
    (0.88, (255, 225, 140)),
    (1.00, (255, 180, 60)),
]


def palette():
    """256 colours; 0 is the set itself."""
    colours = [(4, 4, 12)]
    for level in range(1, 256):
        at = level / 255
        for (start, a), (end, b) in zip(STOPS, STOPS[1:]):
            if at <= end:
                share = (at - start) / (end - start)
                colours.append(tuple(round(x + (y - x) * share) for x, y in zip(a, b)))
                break
    return colours


def png(width, height, pixels):
    """A PNG of bytes, one a pixel, that index the palette."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(pixels[y * width : (y + 1) * width]) for y in range(height))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", b"".join(bytes(colour) for colour in palette())),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        ]
    )


def tiles(options):
    """The arguments of every tile, row by row."""
    side = options.tile
    for top in range(0, options.height, side):
        for left in range(0, options.width, side):
            yield {
                "width": options.width,
                "height": options.height,
                "left": left,
                "top": top,
                "tile_width": min(side, options.width - left),
                "tile_height": min(side, options.height - top),
                "centre_x": options.centre[0],
                "centre_y": options.centre[1],
                "span": options.span,
                "max_iterations": options.max_iterations,
            }


def place(pixels, width, tile):
    """Copies a tile's result into the picture."""
    data = base64.b64decode(tile["pixels"])
    for row in range(tile["height"]):
        at = (tile["top"] + row) * width + tile["left"]
        pixels[at : at + tile["width"]] = data[row * tile["width"] : (row + 1) * tile["width"]]


def request(options, path, body=None, accept="application/json"):
    headers = {"Accept": accept}
    if body:
        headers["Content-Type"] = "application/json"
    if options.token:
        headers["Authorization"] = f"Bearer {options.token}"
    return urllib.request.urlopen(urllib.request.Request(options.url + path, body, headers), timeout=60)


def submit(options):
    """All tiles, or none; returns the group."""
    body = {"task": "mandelbrot", "args": list(tiles(options)), "fail_fast": True}
    with request(options, "/groups", json.dumps(body).encode()) as response:
        return json.load(response)


def ends(options, group):
    """The tiles as they end; an empty line comes while none does."""
    path = f"/groups/{group['id']}/results?order=completion"
    with request(options, path, accept="application/x-ndjson") as response:
        for line in response:
            if line.strip():
                yield json.loads(line)


def show(done, total, started):
    bar = "#" * (done * 30 // total)
    line = f"[{bar:<30}] {done}/{total} tiles, {time.monotonic() - started:.1f} s"
    if sys.stderr.isatty():
        print(f"\r{line}", end="" if done < total else "\n", file=sys.stderr, flush=True)
    elif done == total:
        print(line, file=sys.stderr)


def draw(options):
    pixels = bytearray(options.width * options.height)
    started = time.monotonic()
    group = submit(options)
    total = group["total"]
    show(0, total, started)
    for done, tile in enumerate(ends(options, group), 1):
        if tile["status"] != "succeeded":
            sys.exit(f"\ntile {tile['index']} {tile['status']}: {json.dumps(tile['error'])}")
        place(pixels, options.width, tile["result"])
        show(done, total, started)
    return pixels


def read_options(arguments):
    parser = argparse.ArgumentParser(description="Draw the Mandelbrot set with Errand.")
    parser.add_argument("picture", nargs="?", default="mandelbrot.png", help="the PNG to write (%(default)s)")
    parser.add_argument("--url", default=os.environ.get("ERRAND_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--token", default=os.environ.get("ERRAND_TOKEN"))
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--tile", type=int, default=100, help="side of a tile in pixels (%(default)s)")
    parser.add_argument("--centre", type=float, nargs=2, default=[-0.7436, 0.1322], metavar=("X", "Y"))
    parser.add_argument("--span", type=float, default=0.012, help="width in the plane (%(default)s)")
    parser.add_argument("--max-iterations", type=int, default=1500)
    options = parser.parse_args(arguments)
    if min(options.width, options.height, options.tile) < 1:
        parser.error("sizes are at least 1")
    options.url = options.url.rstrip("/")
    return options


def main():
    options = read_options(sys.argv[1:])
    try:
        pixels = draw(options)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"{options.url}: {error.reason}; is the server running?")
    with open(options.picture, "wb") as file:
        file.write(png(options.width, options.height, pixels))
    print(f"wrote {options.picture}", file=sys.stderr)


if __name__ == "__main__":
    main()
