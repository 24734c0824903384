"""The operating system. This room knows nothing of models or explanations.

files.py     files and folders that appear whole or not at all
locks.py     locks between processes, on one machine or through a shared folder
disks.py     full disks: how much is needed, how much is free, and the words for it
signals.py   SIGTERM and SIGHUP end the program as Ctrl-C does; child processes are ended too
messages.py  keeps Python warnings and the libraries' log messages off the terminal, errors left aside
heap.py      settings of the C library's memory allocator that suit the engine
"""
