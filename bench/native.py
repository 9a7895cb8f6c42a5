"""Builds bench/_loops.pyx into build/bench when it is not there or is older than what it is made of, and imports it."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load_loops() -> ModuleType:
    target = ROOT / "build" / "bench" / f"_loops{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = ROOT / "bench" / "_loops.pyx"
    made_of = [source, *(ROOT / "mdfeed").glob("*.pxd")]
    if not target.exists() or target.stat().st_mtime < max(path.stat().st_mtime for path in made_of):
        _build(source, target)
    spec = importlib.util.spec_from_file_location("_loops", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_loops"] = module
    spec.loader.exec_module(module)
    return module


def _build(source: Path, target: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extension = Extension(
        "_loops", [str(source)], include_dirs=[str(ROOT / "mdfeed")], extra_compile_args=["-O3", "-g0"]
    )
    modules = cythonize(
        [extension],
        build_dir=str(target.parent),
        include_path=[str(ROOT)],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
        quiet=True,
    )
    distribution = Distribution({"name": "bench-loops", "ext_modules": modules})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = str(target.parent)  # type: ignore[attr-defined]
    command.build_temp = str(target.parent / "temp")  # type: ignore[attr-defined]
    command.force = True
    distribution.run_command("build_ext")
