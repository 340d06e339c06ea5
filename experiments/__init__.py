"""Experiments on a rack: the main job (``experiments.run``) and what it shares with others."""
