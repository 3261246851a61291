"""The conftest of aiofiles' tests in `make peers`: what they import as aiofiles is aiofs.files."""

import builtins
import sys
import types

from aiofs import files

threadpool = types.ModuleType("aiofiles.threadpool")
threadpool.open = files.open
threadpool.wrap = files.wrap
threadpool.sync_open = builtins.open
files.threadpool = threadpool
sys.modules["aiofiles"] = files
for module in (files.os, files.ospath, files.tempfile):
    sys.modules[module.__name__.replace("aiofs.files", "aiofiles")] = module
sys.modules["aiofiles.threadpool"] = threadpool
