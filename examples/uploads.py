"""A small web server: stores uploads atomically, and serves files while they are replaced.

Usage: python uploads.py DIRECTORY [PORT]. It prints its address. PUT /name stores a file, GET /name
serves it, GET / lists the names. Several uploads of one name may run at once: the last that ends
wins. A download that has begun gets the file that was there when it began.

    curl -T picture.png http://127.0.0.1:8000/ && curl http://127.0.0.1:8000/picture.png
"""

import asyncio
import os
import sys
from urllib.parse import unquote

import uvloop

from aiofs import FileSystem, HostVolume, NotFoundError, TypeMismatchError, aio

PIECE = 65536  # bytes of a request that are in memory


class Server:
    def __init__(self, volume):
        self.volume = volume
        self.fs = FileSystem()
        self.fs.mount("/", volume)

    async def answer(self, reader, writer):
        """Answers the requests of a connection."""
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ")
                headers = await headers_of(reader)
                size = int(headers.get("content-length", 0))
                if "expect" in headers:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await self.handle(method, unquote(target)[1:], size, reader, writer)
                await writer.drain()
        except (ValueError, ConnectionError, asyncio.IncompleteReadError):
            pass  # the client's fault, or it has gone; an upload that it had begun is discarded
        finally:
            writer.close()

    async def handle(self, method, name, size, reader, writer):
        try:
            if method == "PUT" and size:
                await self.store(name, size, reader)
                writer.write(response(201))
            elif method == "GET" and name:
                await self.serve(name, writer)
            elif method == "GET":
                writer.write(response(200, await self.names()))
            else:
                writer.write(response(400))
        except (NotFoundError, TypeMismatchError):
            writer.write(response(404))
        except ValueError:  # no entry can have this name
            writer.write(response(400))

    async def store(self, name, size, reader):
        """Replaces the file when the upload is complete. If it breaks off, nothing has changed."""
        file = await self.volume.root.get_file_handle(name, create=True)
        async with file.create_writable() as stream:
            while size:
                piece = await reader.read(min(size, PIECE))
                if not piece:
                    raise asyncio.IncompleteReadError(piece, size)
                await stream.write(piece)
                size -= len(piece)

    async def serve(self, name, writer):
        """Sends the file that is there now. An open descriptor keeps it through its replacement."""
        await self.volume.root.get_file_handle(name)  # checks the name
        fd = await asyncio.to_thread(self.fs.open, name, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            if not size:  # a new name, whose first upload is not complete
                raise NotFoundError
            writer.write(head(200, size))
            piece = aio.aiocb(fd, bytearray(PIECE))
            while piece.aio_offset < size:
                aio.aio_read(piece)
                piece.aio_offset += (count := await piece)
                writer.write(bytes(piece.aio_buf[:count]))
                await writer.drain()
        finally:
            self.fs.close(fd)

    async def names(self):
        found = [(name, file) async for name, file in self.volume.root if file.kind == "file"]
        full = [name for name, file in found if (await file.get_file()).size]
        return "".join(f"{name}\n" for name in sorted(full)).encode()


async def headers_of(reader):
    headers = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return headers


def head(status, size):
    return f"HTTP/1.1 {status} -\r\nContent-Length: {size}\r\n\r\n".encode()


def response(status, body=b""):
    return head(status, len(body)) + body


async def main(directory, port="0"):
    async with HostVolume(directory) as volume:
        server = Server(volume)
        async with (
            server.fs,
            await asyncio.start_server(server.answer, "127.0.0.1", int(port)) as on,
        ):
            print("http://{}:{}".format(*on.sockets[0].getsockname()), flush=True)
            await on.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: uploads.py DIRECTORY [PORT]")
    try:
        uvloop.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
