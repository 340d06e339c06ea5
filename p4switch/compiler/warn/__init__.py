"""What the compiler warns of: passes over the syntax tree of a program that was accepted, each in a module of its own."""
