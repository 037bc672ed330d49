"""Kernelspecs on disk, as ``jupyter volumes kernelspec`` reads and writes them."""
