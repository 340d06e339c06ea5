"""Repeatable experiments: what one is made of, how it is run, and the report of it.

An experiment is a module that exposes ``EXPERIMENT`` (:class:`experiments.framework.model.Experiment`) and is named in
``experiments/catalogue.py``. ``python -m experiments`` runs them.
"""
