"""The server extension: real servers, real kernels."""
