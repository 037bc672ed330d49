"""What the Python steps share: the kernel's interpreter, whose environment is whose, packages and scripts in it."""
