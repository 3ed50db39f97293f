"""Builds the C extension; all else is in setup.cfg, which ignores this key."""

from setuptools import setup

setup(cffi_modules=["native/build_ffi.py:ffibuilder"])
