"""The commands of the `pixelglobal` program, a file for each theme.

They are thin: each one calls the function of the same name in `pixelglobal.api` and prints what came of it. What is
slow to import is imported inside a command, so that `pixelglobal --help` answers at once.
"""
