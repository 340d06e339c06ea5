"""The parts of the benchmark: ``run(context)`` returns figures, ``steps(context)`` says how many steps the progress bar has."""
