"""What other libraries get wrong without a word, asked of them, of an independent reference and of mmtune.

python -m benchmarks.fidelity            # asks everything and writes docs/fidelity.md
python -m benchmarks.fidelity NAME ...   # asks some of it and prints the answers
"""
