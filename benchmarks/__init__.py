"""Speed as a ratio in one run: a peer or a hand-written loop beside steepest.

python -m benchmarks sampling        one table
python -m benchmarks --all           every table
"""
