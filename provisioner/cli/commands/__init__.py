"""The commands of ``jupyter volumes``, one file each."""
