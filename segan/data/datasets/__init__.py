"""Data sets, one file each: a settings class and the samples it describes."""
