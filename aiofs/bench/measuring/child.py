"""Starts the measurement of one participant, in a process of its own: `python child.py TASK`.

TASK is JSON: `package` is the folder of aiofs, `path` lists more folders to import from, `library`
is the class of the participant, `arguments` are its first arguments, `work` is the work. The last
line of the output is JSON: `metrics` and `about`, or `unavailable` and the reason.

The class of a peer gets an empty module in the place of aiofs, so that neither aiofs nor its engine
is in the process. A class with `needs_aiofs` gets aiofs from `package` if it is built for this
interpreter, otherwise the one that is installed for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> None:
    task: dict[str, Any] = json.loads(sys.argv[1])
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    sys.path += task["path"]
    package = Path(task["package"])
    try:
        if task["aiofs"]:
            load_aiofs(package)
        else:
            sys.modules["aiofs"] = empty("aiofs", package)
        sys.modules["aiofs.bench"] = empty("aiofs.bench", package / "bench")
        measure = importlib.import_module("aiofs.bench.measuring.measure")
        result = measure.in_this_process(task["library"], task["arguments"], task["work"])
    except ImportError as error:
        result = {"unavailable": f"{error}, for {sys.executable}"}
    print(json.dumps(result))


def empty(name: str, folder: Path) -> ModuleType:
    """A package with nothing in it, whose modules are found in `folder`."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    return module


def load_aiofs(package: Path) -> None:
    """Imports the aiofs in `package`, or the installed one if that is for another interpreter."""
    if not (package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}").exists():
        importlib.import_module("aiofs")
        return
    spec = importlib.util.spec_from_file_location(
        "aiofs", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["aiofs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
