"""Volumes: where files live. One module per kind."""

from aiofs.volumes.memory import MemoryVolume
from aiofs.volumes.private import PrivateVolume
from aiofs.volumes.volume import Kind, Volume, entry_stat

__all__ = ["Kind", "MemoryVolume", "PrivateVolume", "Volume", "entry_stat"]
