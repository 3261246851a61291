"""Volumes, each a tree of files; one module for each kind of volume."""

from aiofs.volume_ops import Kind
from aiofs.volumes.host import HostVolume
from aiofs.volumes.memory import MemoryVolume
from aiofs.volumes.methods import entry_stat
from aiofs.volumes.private import PrivateVolume
from aiofs.volumes.volume import Volume

__all__ = ["HostVolume", "Kind", "MemoryVolume", "PrivateVolume", "Volume", "entry_stat"]
