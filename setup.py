"""Everything is in pyproject.toml; this file is where the compiled extension will be declared."""

from setuptools import setup

setup()
