"""Speed as a ratio in one run: a peer or a hand-written loop beside steepest.

python -m benchmarks sampling --case "langevin d=2"     one part
python -m benchmarks sampling --case "langevin d=2" --record        one part, kept as JSON
python -m benchmarks --all --minutes 60                             every part not yet recorded here
python -m benchmarks --render                                       RESULTS.md from what is recorded
"""
