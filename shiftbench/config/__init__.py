"""The configuration: composing it from conf/ and a command line, and saying what to type where it does not compose.

overrides.py       a command line's arguments as overrides that Hydra reads as they were meant
composition.py     the composed configuration, with every interpolation filled in
instantiation.py   the objects that a configuration describes by `_target_`
names.py           suggestions for a name that is not known
targets.py         `_target_` paths of classes that have moved
settings.py        the options of findings that results depend on, for `settings` in scores.json
folders.py         the folders that results are written to, and their names
help_texts.py      what `--help` prints
literals.py        texts that contain '${' and are not to be interpolated
"""
