"""What is done to stopped volumes, a noun a file: each class adds one thing, and its bases are what it builds on.

None of them keeps anything in mind: what is known is in the table and on disk. All work is done under the volume's
lease. Backups and prunings yield: whoever asks for the volume gets it within a second, and what was interrupted is
done again later.
"""
