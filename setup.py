"""Declares the compiled extensions, ``_C`` for the CPU and ``_cuda`` for GPUs; everything else is in pyproject.toml.

The extensions need torch (2.11 or newer) at build time, that is ``pip install --no-build-isolation``, and a C++17 compiler.
Without them the package is installed all the same and solves through its slower pure-Python code, unless
PT3D_LARGESTEPS_REQUIRE_EXTENSION=1 asks for an error.

``_cuda`` needs nvcc of torch's CUDA version besides. It is built where there is a GPU, for that GPU. FORCE_CUDA=1 builds it
without one, for the architectures of TORCH_CUDA_ARCH_LIST (sm_75 to sm_120 unless given, and what comes after through PTX);
NO_CUDA=1 never. CUDA_HOME need not be set.

A wheel is named after what is in it: cp310-abi3-PLATFORM with compiled code, one for every Python from 3.10 and every torch
from 2.11 on; py3-none-any without.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools
from setuptools import setup

if int(setuptools.__version__.split(".")[0]) < 77:  # unseen without isolation, and its own error is about licences
    sys.exit(
        f"pt3d_largesteps: it takes setuptools 77 or newer to build, got {setuptools.__version__}; "
        "pip install 'setuptools>=77,<82' ninja"
    )

REQUIRED = os.environ.get("PT3D_LARGESTEPS_REQUIRE_EXTENSION", "0") == "1"
TORCH_TARGET_VERSION = "0x020b000000000000"  # the stable interface of torch 2.11
PYTHON_LIMITED_API = "cp310"
LAYERS = ("threads", "dissection", "structure", "cpu", "renderer")  # the folders of csrc that go into _C
BINDINGS = ("cholesky", "render_points", "render_pictures")  # the files of csrc/bindings that do
ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"


def say(message: str) -> None:
    print(f"pt3d_largesteps: {message}", file=sys.stderr)


def without_extension(reason: str) -> None:
    if REQUIRED:
        sys.exit(f"pt3d_largesteps: the compiled solver is not built: {reason}")
    say(f"the compiled solver is not built: {reason}")


def is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def find_toolkit() -> Path | None:
    """The CUDA toolkit: where a variable says, where nvcc says it lies itself (it may be called through a script), or where
    it is usually installed; a folder that has both the compiler and the headers."""
    folders = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        told = subprocess.run([nvcc, "--dryrun", "-c", "none.cu"], capture_output=True, text=True, check=False)
        folders += [Path(top).resolve() for top in re.findall(r"^#\$ TOP=(.*)$", told.stdout + told.stderr, re.MULTILINE)]
    folders.append(Path("/usr/local/cuda"))
    for folder in folders:
        if (folder / "include/cuda_runtime.h").is_file() and (folder / "bin/nvcc").is_file():
            return folder
    return None


def toolkit_version(toolkit: Path) -> str:
    told = subprocess.run([toolkit / "bin/nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+\.\d+)", told)
    return release[1] if release else "unknown"


def cuda_plan(torch) -> tuple[Path, str] | str:
    """The toolkit to build ``_cuda`` with and for what, or why it is not built."""
    if is_set("NO_CUDA"):
        return "NO_CUDA is set"
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    forced = is_set("FORCE_CUDA")
    if not forced and not torch.cuda.is_available():
        return "there is no GPU here (FORCE_CUDA=1 builds it all the same)"
    toolkit = find_toolkit()
    if toolkit is None:
        return "there is no CUDA toolkit here, with nvcc and its headers"
    version = toolkit_version(toolkit)
    if version.split(".")[0] != torch.version.cuda.split(".")[0]:
        return f"torch is built with CUDA {torch.version.cuda}, nvcc is of {version}"
    if os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return toolkit, os.environ["TORCH_CUDA_ARCH_LIST"]
    if forced and not torch.cuda.is_available():
        return toolkit, ARCHITECTURES
    found = {torch.cuda.get_device_capability(device) for device in range(torch.cuda.device_count())}
    return toolkit, ";".join(f"{major}.{minor}" for major, minor in sorted(found))


def common_arguments() -> dict:
    return {
        "depends": [path.as_posix() for pattern in ("*.h", "*.inl") for path in sorted(Path("csrc").glob(f"*/{pattern}"))],
        "include_dirs": [str(Path("csrc").resolve())],
        "define_macros": [("TORCH_TARGET_VERSION", TORCH_TARGET_VERSION)],
        "py_limited_api": True,
    }


CXX_ARGUMENTS = [
    "-O3",
    "-fno-wrapv",  # Python's own flag, which would make every index of the inner loops wrap around
    "-fvisibility=hidden",
    f"-fmacro-prefix-map={Path.cwd()}/=",  # error messages name a file of csrc, not a folder of this machine
]


def cuda_extension(torch):
    """``_cuda``, or None; says which, and why."""
    plan = cuda_plan(torch)
    if isinstance(plan, str):
        if is_set("FORCE_CUDA") and not is_set("NO_CUDA"):
            sys.exit(f"pt3d_largesteps: FORCE_CUDA is set, but the solver for CUDA cannot be built: {plan}")
        say(f"builds the solver for the CPU only: {plan}")
        return None
    toolkit, architectures = plan
    os.environ["CUDA_HOME"] = str(toolkit)  # torch would guess it from where nvcc is found
    os.environ["TORCH_CUDA_ARCH_LIST"] = architectures
    say(f"builds the solvers for the CPU and for CUDA {toolkit_version(toolkit)} ({architectures}), with {toolkit}")
    from torch.utils import cpp_extension

    cpp_extension.CUDA_HOME = str(toolkit)  # read when the module was imported
    sources = ["csrc/bindings/cholesky_cuda.cpp", *(path.as_posix() for path in sorted(Path("csrc/cuda").glob("*.cu")))]
    arguments = common_arguments()
    arguments["define_macros"].append(("USE_CUDA", None))
    # Before the headers that come with torch's own packages, which lack some that nvcc needs.
    arguments["include_dirs"].insert(0, str(toolkit / "include"))
    nvcc_arguments = ["-O3", "--expt-relaxed-constexpr", "-Xcompiler", "-fvisibility=hidden"]
    return cpp_extension.CUDAExtension(
        "pt3d_largesteps._cuda", sources, extra_compile_args={"cxx": CXX_ARGUMENTS, "nvcc": nvcc_arguments}, **arguments
    )


def extension_arguments() -> dict:
    """``ext_modules`` and ``cmdclass``, or nothing where the extensions cannot be built."""
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
                self.describe_what_is_built()

        def describe_what_is_built(self) -> None:
            """A wheel without compiled code must not bear the name of this platform."""
            built = [extension for extension in self.extensions if Path(self.get_ext_fullpath(extension.name)).is_file()]
            self.distribution.ext_modules = built
            wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
            if wheel is not None and not built:
                wheel.root_is_pure = True

    sources = [path.as_posix() for layer in LAYERS for path in sorted(Path("csrc", layer).glob("*.cpp"))]
    sources += [f"csrc/bindings/{name}.cpp" for name in BINDINGS]
    extensions = [CppExtension("pt3d_largesteps._C", sources, extra_compile_args=CXX_ARGUMENTS, **common_arguments())]
    with_cuda = cuda_extension(torch)
    if with_cuda is not None:
        extensions.append(with_cuda)
    return {"ext_modules": extensions, "cmdclass": {"build_ext": BuildOrDoWithout}}


setup(**extension_arguments(), options={"bdist_wheel": {"py_limited_api": PYTHON_LIMITED_API}})
