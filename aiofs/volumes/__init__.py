"""Volumes, each a tree of files; one module for each kind of volume."""

from aiofs.volumes.memory import MemoryVolume
from aiofs.volumes.private import PrivateVolume
from aiofs.volumes.volume import Kind, Volume, entry_stat

__all__ = ["Kind", "MemoryVolume", "PrivateVolume", "Volume", "entry_stat"]
