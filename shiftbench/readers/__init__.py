"""The boundary: everything that is read from outside goes through this room, and bad content ends in one InputError.

Files, model folders, templates, archives and replies of servers may hold anything. `reading` turns whatever goes wrong
while one of them is read into an InputError that names it; `json_value`, `file_bytes` and `unpacked` read what many
formats share, under limits of size; `limited` has texts made in a child process, under limits of time, memory and
output. This room imports nothing of shiftbench but its errors.
"""

from shiftbench.readers.boundary import check_text, one_line, reading
from shiftbench.readers.files import UNPACKED, file_bytes, path_of, unpacked
from shiftbench.readers.limited import limited
from shiftbench.readers.strict_json import json_objects, json_value
from shiftbench.readers.weights import sampled_digest

__all__ = [
    "UNPACKED",
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
