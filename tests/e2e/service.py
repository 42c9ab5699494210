"""A service for tests of HTTP tasks: how it answers is said by the query of the URL.

  service.py FOLDER [CERTIFICATE KEY]

FOLDER/port says where it listens, once it does; FOLDER/requests has one JSON object
a line: {connection, method, path, headers: [[name, value]], body, together}, where
`together` says how many were being answered at once, this one included.

  status=200 type=application/json body=TEXT header=NAME:VALUE (any number of them)
  delay=SECONDS     before the answer            until=FILE  before it, FILE must be in FOLDER
  first=STATUS      of the first request alone   size=BYTES  a body of so many `x`
  drip=SECONDS      between the bytes of it      close=now|head|middle  instead of (all of) it
  headers=COUNT     further ones, of 1 kB each   echo=1      the body is what was sent
  raw=BYTES         instead of all that, and the end of the connection
  endless=BYTES     after raw: again and again   stall=1     after it: nothing, and no end
"""

import asyncio
import json
import os
import ssl
import sys
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

folder = sys.argv[1]
connections = together = requests = 0
log = open(os.path.join(folder, "requests"), "a")


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines[1:] if line]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return method, path, headers, await reader.readexactly(length)


async def say_raw(writer, path):
    query = dict(part.partition("=")[::2] for part in urlsplit(path).query.split("&"))
    writer.write(unquote_to_bytes(query.get("raw", "")))
    endless = unquote_to_bytes(query.get("endless", "")) * 1000
    while endless:
        writer.write(endless)
        await writer.drain()
    await writer.drain()
    if "stall" in query:
        await asyncio.sleep(3600)
    return False


async def answer(writer, method, path, sent):
    query = parse_qs(urlsplit(path).query)

    def one(name, otherwise=""):
        return query.get(name, [otherwise])[0]

    status = one("first") if one("first") and requests == 1 else one("status", "200")
    body = sent if one("echo") else one("body").encode() or b"x" * int(one("size", "0"))
    await asyncio.sleep(float(one("delay", "0")))
    while one("until") and not os.path.exists(os.path.join(folder, one("until"))):
        await asyncio.sleep(0.01)
    if one("close") == "now":
        return False
    if "raw" in query or "endless" in query:
        return await say_raw(writer, path)
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n"
    if one("type"):
        head += f"Content-Type: {one('type')}\r\n"
    for header in query.get("header", []):
        head += header.replace(":", ": ", 1) + "\r\n"
    head += "".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(int(one("headers", "0"))))
    writer.write(head.encode() + b"\r\n")
    if one("close") == "head":
        return False
    if one("close") == "middle":
        writer.write(body[: len(body) // 2])
        return False
    if one("drip"):
        for i in range(len(body)):
            writer.write(body[i : i + 1])
            await writer.drain()
            await asyncio.sleep(float(one("drip")))
    else:
        writer.write(body)
    await writer.drain()
    return True


async def serve(reader, writer):
    global connections, together, requests
    connections += 1
    connection = connections
    try:
        goes_on = True
        while goes_on:
            method, path, headers, body = await read_request(reader)
            together += 1
            requests += 1
            log.write(json.dumps({"connection": connection, "method": method, "path": path, "headers": headers,
                                  "body": body.decode(), "together": together}) + "\n")
            log.flush()
            try:
                goes_on = await answer(writer, method, path, body)
            finally:
                together -= 1
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    with open(os.path.join(folder, "closed"), "a") as closed:
        closed.write(f"{connection}\n")
    writer.close()


async def main():
    tls = None
    if len(sys.argv) > 2:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[2], sys.argv[3])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=2000)
    with open(os.path.join(folder, "port.new"), "w") as port:
        port.write(str(server.sockets[0].getsockname()[1]))
    os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
    await server.serve_forever()


asyncio.run(main())
