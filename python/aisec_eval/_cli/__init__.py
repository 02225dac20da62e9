"""What the command line needs beside its verbs: options, tables, progress, `doctor`."""
