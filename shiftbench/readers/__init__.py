"""Readers for what comes from outside; bad content ends in one InputError.

Files, model folders, templates, archives and replies of servers may hold anything. This room imports no code of
shiftbench but its errors.

boundary.py         reading: turns any failure to read something into one InputError that names it
files.py            regular files of bounded size, also gzip-compressed
text_files.py       text files and JSON lines: those of this package, and those that a user names
strict_json.py      JSON that refuses an object with one key twice
arrays.py           arrays of .npz files, with nothing unpickled
tensor_headers.py   headers of safetensors and GGUF files, checked before a library opens the file
numbers.py          options that must be numbers
weights.py          a quick digest of the weights in a folder, from samples
limited.py          runs a function in a child process with limits on time, memory and the size of its output
templates.py        chat templates, rendered in such a child process
patterns.py         regular expressions that may take too long, tried in a process that can be killed
"""

from shiftbench.readers.boundary import check_text, one_line, reading
from shiftbench.readers.files import UNPACKED, UnpacksTooLarge, file_bytes, path_of, unpacked
from shiftbench.readers.limited import limited
from shiftbench.readers.strict_json import json_objects, json_value
from shiftbench.readers.weights import sampled_digest

__all__ = [
    "UNPACKED",
    "UnpacksTooLarge",
    "check_text",
    "file_bytes",
    "json_objects",
    "json_value",
    "limited",
    "one_line",
    "path_of",
    "reading",
    "sampled_digest",
    "unpacked",
]
