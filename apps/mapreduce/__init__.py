"""A small MapReduce over rack memory: input, intermediate data and results of tasks lie there, and change hands without
a copy."""
