"""What pyproject.toml cannot say: the compiled kernels, and the extension's sources inside the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
EXTENSION_SOURCES = (
    "extension/Makefile",
    "extension/winnow.control",
    "extension/src/**/*.[ch]",
    "sql/*.sql",
)


class BuildPackage(build_py):
    """Ship the extension's sources, from which pgwinnow.server compiles it for the user's server."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in EXTENSION_SOURCES:
            for source in ROOT.glob(pattern):
                target = Path(self.build_lib, "pgwinnow", "_extension", source.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


class BuildKernels(build_ext):
    """Compile the kernels where there is a compiler; without them pgwinnow computes with numpy."""

    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions:
            extension.optional = True


setup(
    cffi_modules=["pytools/pgwinnow/_kernels_build.py:ffibuilder"],
    cmdclass={"build_py": BuildPackage, "build_ext": BuildKernels},
)
