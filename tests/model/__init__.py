"""Tests of echonode/model: records, identities, filters, trees and sketches.

    test_*.py            against published vectors, naive implementations, and hypothesis
    make_*_vectors.py    write proto/vectors/record.json, heads.json, filter.json, merkle.json, sketch.json
    forge.py             validly signed versions of any shape
    slow_sketch.py       the sketch in plain Python, to compare with
"""
