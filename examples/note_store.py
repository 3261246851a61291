"""A store of notes in a directory: saved atomically, listed, read while they are replaced.

    python examples/note_store.py DIRECTORY save NAME TEXT...
    python examples/note_store.py DIRECTORY show NAME
    python examples/note_store.py DIRECTORY list
    python examples/note_store.py DIRECTORY rename NAME NEW
    python examples/note_store.py DIRECTORY remove NAME

Any number of these may run at the same time, in one process or in many. A note is whole, whoever
saves it meanwhile and whenever somebody is killed.
"""

import math
import sys
from collections.abc import AsyncIterator

import uvloop

from aiofs import FileHandle, NotFoundError, NotReadableError, PrivateVolume


class Notes:
    def __init__(self, volume: PrivateVolume) -> None:
        self._root = volume.root

    async def save(self, name: str, text: str) -> None:
        """Replaces the note, or makes it. Two that save it at once take turns."""
        note = await self._root.get_file_handle(name, create=True)
        async with note.create_writable(mode="exclusive", wait=math.inf) as stream:
            await stream.write(text)

    async def show(self, name: str) -> str:
        """The text of the note: the old one or the new one, if it is being saved."""
        note = await self._root.get_file_handle(name)
        while True:
            try:
                return await (await note.get_file()).text()
            except NotReadableError:  # it was replaced after get_file
                continue

    async def rename(self, name: str, new: str) -> None:
        """Takes the place of a note that has the new name. Refused while one of them is saved."""
        await (await self._root.get_file_handle(name)).move(new)

    async def remove(self, name: str) -> None:
        await self._root.remove_entry(name)

    async def list(self) -> AsyncIterator[tuple[str, int]]:
        """The names, with the sizes in bytes."""
        async for name, note in self._root:
            if isinstance(note, FileHandle):
                try:
                    yield name, (await note.get_file()).size
                except NotFoundError:  # it was removed meanwhile
                    continue


async def main(directory: str, command: str, *arguments: str) -> None:
    async with PrivateVolume(directory) as volume:
        notes = Notes(volume)
        try:
            if command == "save":
                await notes.save(arguments[0], " ".join(arguments[1:]) + "\n")
            elif command == "show":
                print(await notes.show(*arguments), end="")
            elif command == "rename":
                await notes.rename(*arguments)
            elif command == "remove":
                await notes.remove(*arguments)
            else:
                for name, size in sorted([note async for note in notes.list()]):
                    print(f"{size:8}  {name}")
        except (OSError, ValueError) as error:
            sys.exit(f"{command}: {error}")


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in ("save", "show", "list", "rename", "remove"):
        sys.exit("usage: note_store.py DIRECTORY save|show|list|rename|remove [NAME] [...]")
    uvloop.run(main(*sys.argv[1:]))
