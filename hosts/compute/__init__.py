"""A compute element: its local OS as a program."""
