"""The version, apart from the package, so that a build can read it where torch is not installed."""

__version__ = "0.1.0"
