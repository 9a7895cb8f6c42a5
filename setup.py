"""Build of the compiled modules: every `.pyx` under mdfeed/ is one extension, found by itself.

MDFEED_DEBUG=1     bounds checks, -O0 -g
MDFEED_SANITIZE=1  AddressSanitizer and UBSan (make sanitize)
MDFEED_ANNOTATE=1  Cython's annotated HTML beside the generated C (make annotate)
MDFEED_BUILT=1     nothing is compiled: the modules stand in place already (make does that, incrementally)
MDFEED_CFLAGS=...  more compiler flags, such as -march=native (never by default: wheels must run elsewhere)
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup


def simdjson_sources() -> str:
    """Folder of simdjson.h and simdjson.cpp, which pysimdjson's distribution carries."""
    spec = find_spec("simdjson")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(place), Path(place).parent):
            if (folder / "simdjson.h").exists() and (folder / "simdjson.cpp").exists():
                return str(folder)
    sys.exit("mdfeed: the build needs simdjson.h and simdjson.cpp of pysimdjson 7.0: pip install 'pysimdjson==7.0.*'")


def is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


if is_set("MDFEED_BUILT"):
    setup()
    sys.exit()

simdjson = simdjson_sources()
flags = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-fno-strict-aliasing"]
link: list[str] = []
if is_set("MDFEED_DEBUG"):
    flags += ["-O0", "-g"]
elif is_set("MDFEED_SANITIZE"):
    flags += ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    link += ["-fsanitize=address,undefined"]
else:
    flags += ["-O3", "-g0"]
flags += os.environ.get("MDFEED_CFLAGS", "").split()

directives = {
    "language_level": 3,
    "boundscheck": is_set("MDFEED_DEBUG"),
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": False,
}

extensions = []
for source in sorted(Path("mdfeed").rglob("*.pyx")):
    is_cpp = "language = c++" in source.read_text().splitlines()[0]
    extensions.append(
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            depends=[str(header) for header in Path("mdfeed").glob("*.h*")],
            include_dirs=["mdfeed", simdjson] if is_cpp else ["mdfeed"],
            libraries=["simdjson_static"] if is_cpp else [],
            extra_compile_args=[*flags, "-std=c++17"] if is_cpp else flags,
            extra_link_args=link,
        )
    )

setup(
    # A static library of its own, so that touching a .pyx does not compile simdjson again.
    libraries=[
        (
            "simdjson_static",
            {
                "sources": ["mdfeed/_simdjson.cpp"],
                "include_dirs": [simdjson],
                "obj_deps": {"": []},
                "cflags": ["-O2", "-std=c++17", "-fPIC", "-DSIMDJSON_EXCEPTIONS=0"],
            },
        )
    ],
    ext_modules=cythonize(
        extensions,
        build_dir="build",
        compiler_directives=directives,
        annotate=is_set("MDFEED_ANNOTATE"),
        nthreads=os.cpu_count() or 1,
    ),
    # pip's builds and the installer's too; each compiler takes some 300 MB.
    options={"build_ext": {"parallel": min(os.cpu_count() or 1, 4)}},
)
