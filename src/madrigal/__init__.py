"""Madrigal trains teams of language models to collaborate."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("madrigal")
except PackageNotFoundError:  # the sources without an installation
    __version__ = "0+unknown"
