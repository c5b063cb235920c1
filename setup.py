"""Declares the compiled extension ``_C``; everything else is in pyproject.toml.

It needs torch (2.11 or newer) at build time, that is ``pip install --no-build-isolation``, and a C++17 compiler. Without
them the package is installed all the same and solves through its slower pure-Python code, unless
PT3D_LARGESTEPS_REQUIRE_EXTENSION=1 asks for an error.
"""

import os
import sys
from pathlib import Path

from setuptools import setup

REQUIRED = os.environ.get("PT3D_LARGESTEPS_REQUIRE_EXTENSION", "0") == "1"
TORCH_TARGET_VERSION = "0x020b000000000000"  # the stable interface of torch 2.11
PYTHON_LIMITED_API = "cp310"


def without_extension(reason: str) -> None:
    message = f"pt3d_largesteps: the compiled solver is not built: {reason}"
    if REQUIRED:
        sys.exit(message)
    print(message, file=sys.stderr)


def extension_arguments() -> dict:
    """``ext_modules`` and ``cmdclass``, or nothing where the extension cannot be built."""
    try:
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        without_extension("torch is not here at build time; take pip install --no-build-isolation")
        return {}
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):
        without_extension(f"it needs torch 2.11 or newer, got {torch.__version__}")
        return {}

    class BuildOrDoWithout(BuildExtension):
        def run(self) -> None:
            try:
                super().run()
            except Exception as error:  # of the compiler, in whatever form setuptools or ninja passes it on
                without_extension(f"{type(error).__name__}: {error}")

    sources = [path.as_posix() for layer in ("core", "cpu", "bindings") for path in sorted(Path("csrc", layer).glob("*.cpp"))]
    extension = CppExtension(
        "pt3d_largesteps._C",
        sources,
        depends=[path.as_posix() for pattern in ("*.h", "*.inl") for path in sorted(Path("csrc").glob(f"*/{pattern}"))],
        include_dirs=[str(Path("csrc").resolve())],
        define_macros=[("TORCH_TARGET_VERSION", TORCH_TARGET_VERSION)],
        extra_compile_args=[
            "-O3",
            "-fno-wrapv",  # Python's own flag, which would make every index of the inner loops wrap around
            "-fvisibility=hidden",
            f"-fmacro-prefix-map={Path.cwd()}/=",  # error messages name a file of csrc, not a folder of this machine
        ],
        py_limited_api=True,
    )
    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildOrDoWithout}}


setup(**extension_arguments(), options={"bdist_wheel": {"py_limited_api": PYTHON_LIMITED_API}})
