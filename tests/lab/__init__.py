"""The JupyterLab side, in a real browser against a real server with real kernels."""
